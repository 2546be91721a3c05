"""Table 9: A2J without ImageNet's weights.

Command:      python train.py --config table9/from_scratch     (on another data set: --base itop_front)
Whole table:  a2j reproduce table9 --data nyu
Paper:        10.08 mm on NYU, 87.3 % mAP@10 cm on ITOP's front view (ImageNet: 8.61 mm, 88.0 %)
Measured:     not yet
"""

from a2j_jax.config import Config, variant
from a2j_jax.config_files import load_config


def get_config(base: Config | None = None) -> Config:
    """The base, but for one thing."""
    return variant(base or load_config("nyu"), "from_scratch", model={"init_from": None})
