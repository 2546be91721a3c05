"""A2J at the paper's size on rendered hands. Not an experiment of the paper: its tables, for want of a download.

Command:      python train.py --config synthetic_hand   (renders its data set first)
Hardware:     not run yet
Cost:         not compiled yet: a2j plan --config synthetic_hand --topology v5e:2x2 --batch 256
Paper:        no such experiment
Expected:     unknown
Measured:     not yet; docs/experiments.md has smaller runs
"""

from a2j_jax.config import Config, DataConfig


def get_config() -> Config:
    """As many frames as NYU has; from random weights, for none of ImageNet come with this package."""
    data = DataConfig(train_frames=72_757, test_frames=8_252, eval_split="validation")
    return Config(name="synthetic_hand", track="synthetic_hand", data=data)
