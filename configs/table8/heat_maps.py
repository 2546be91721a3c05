"""Table 8: the FCN of "Simple Baselines" (Xiao et al., ECCV 2018); three deconvolutions, Gaussian heat maps.

Command:      python train.py --config table8/heat_maps     (on another data set: --base itop_front)
Whole table:  a2j reproduce table8 --data k2hpd
Paper:        PDJ 70.4 % at 0.05 on K2HPD, 45.48 frames/s (A2J: 76.3 %, 93.78 frames/s)
Measured:     not yet
"""

from a2j_jax.config import Config, variant
from a2j_jax.config_files import load_config


def get_config(base: Config | None = None) -> Config:
    """The base, but for one thing."""
    return variant(base or load_config("k2hpd"), "heat_maps", parts="a2j_jax.baselines:heat_maps")
