"""A small A2J on rendered bodies, on a laptop's CPU. Not an experiment of the paper.

Command:      python train.py --config quickstart_body   (renders its data set first)
Hardware:     not run yet
Paper:        no such experiment; the paper's network is ResNet-50 on 288-pixel crops of real people
Expected:     unknown
Measured:     not yet
"""

import dataclasses

from a2j_jax.config import AugmentConfig, Config
from a2j_jax.config_files import load_config


def get_config() -> Config:
    """The quickstart's network and schedule, on people."""
    hand = load_config("quickstart")
    return dataclasses.replace(
        hand,
        name="quickstart_body",
        track="synthetic_body",
        data=dataclasses.replace(hand.data, crop_size=96, train_frames=16_000),
        augment=AugmentConfig(noise_probability=0.0),
    )
