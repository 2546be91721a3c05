"""The paper's tables as experiments: which configs a table is made of, how they are run, what is written of them."""
