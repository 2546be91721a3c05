"""The paper's figures 1, 3, 6 and 7, drawn from trained checkpoints, with the numbers they are drawn from."""
