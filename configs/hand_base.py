"""The full-width network for hands of all kinds, with which `hand-small` can be compared; it does not ship.

Command:      make hand-base   (renders, trains, evaluates, packs the weights as hand-base.npz)
Hardware:     meant for one GPU; 2 cores of an AMD EPYC (Zen 4) take some days
Paper:        no such experiment
Measured:     not trained yet (docs/models.md)
"""

import dataclasses

from a2j_jax.config import Config
from a2j_jax.config_files import load_config


def get_config() -> Config:
    """`hand_small` at full width, on 128-pixel crops, for twice as many epochs."""
    small = load_config("hand_small")
    return dataclasses.replace(
        small,
        name="hand_base",
        model=dataclasses.replace(small.model, width=64, head_features=128),
        data=dataclasses.replace(small.data, crop_size=128),
        optim=dataclasses.replace(small.optim, epochs=10),
    )
