"""Train an experiment: `python train.py --config quickstart`, the same as `a2j train`."""

import sys

from a2j_jax.cli import main

if __name__ == "__main__":
    sys.exit(main(["train", *sys.argv[1:]]))
