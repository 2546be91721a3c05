"""Train an experiment: `python train.py --config quickstart`, the same as `a2j train`."""

import sys

from a2j_jax.cli import console

if __name__ == "__main__":
    console(["train", *sys.argv[1:]])
