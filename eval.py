"""Evaluate a checkpoint or a file of predictions: `python eval.py --help`, the same as `a2j eval`."""

import sys

from a2j_jax.cli import console

if __name__ == "__main__":
    console(["eval", *sys.argv[1:]])
