"""The command line: `a2j COMMAND ...`. One module per command; `main` turns user errors into one line."""

from a2j_jax.cli.main import console as console
from a2j_jax.cli.main import main as main
