"""`python -m a2j_jax`, the same as `a2j`."""

from a2j_jax.cli import console

console()
