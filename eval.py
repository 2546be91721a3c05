"""Evaluate a checkpoint or a file of predictions: `python eval.py --help`, the same as `a2j eval`."""

import sys

from a2j_jax.cli import main

if __name__ == "__main__":
    sys.exit(main(["eval", *sys.argv[1:]]))
