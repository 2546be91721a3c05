"""Table 7: A2J without the informative anchor surrounding loss, Eq. (6).

Command:      python train.py --config table7/no_surrounding_loss     (on another data set: --base itop_front)
Whole table:  a2j reproduce table7 --data nyu
Paper:        9.00 mm on NYU, 86.4 % mAP@10 cm on ITOP's front view (A2J: 8.61 mm, 88.0 %)
Measured:     docs/experiments.md, on the embedded data
"""

from a2j_jax.config import Config, variant
from a2j_jax.config_files import load_config


def get_config(base: Config | None = None) -> Config:
    """The base, but for one thing."""
    return variant(base or load_config("nyu"), "no_surrounding_loss", loss={"surrounding": False})
