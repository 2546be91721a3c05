"""A2J at the paper's size on rendered hands. Not an experiment of the paper: its tables, for want of a download.

Command:      python train.py --config synthetic_hand   (renders its data set first)
Hardware:     not run yet
Cost:         64 images a step on each of four TPU v5e: 4.5 GiB, 2.21 TFLOP a chip
              (compiled, not run: a2j plan --config hands2017 --topology v5e:2x2 --batch 256; the same program)
Paper:        no such experiment
Expected:     unknown
Measured:     not yet; docs/experiments.md has smaller runs
"""

from a2j_jax.config import Config, DataConfig


def get_config() -> Config:
    """As many frames as NYU has; from random weights, for none of ImageNet come with this package."""
    data = DataConfig(train_frames=72_757, test_frames=8_252, eval_split="validation")
    return Config(name="synthetic_hand", track="synthetic_hand", data=data)
