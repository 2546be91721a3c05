"""`python -m a2j_jax`, the same as `a2j`."""

from a2j_jax.cli import console

if __name__ == "__main__":  # a recorded config may name this module: importing it runs nothing
    console()
