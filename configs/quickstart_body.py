"""A small A2J on rendered bodies, on a laptop's CPU. Not an experiment of the paper.

Command:      python train.py --config quickstart_body   (renders its data set first)
Hardware:     2 cores of an AMD EPYC, 10 minutes
Paper:        no such experiment; the paper's network is ResNet-50 on 288-pixel crops of real people
Expected:     the number below, up to rounding
Measured:     140.8 mm mean error, 55.2 % mAP at 10 cm on 2,000 test frames (as A2J's row of a2j reproduce table7
              --data synthetic_body --budget hour, docs/experiments.md); the mean pose is 432.6 mm off
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
