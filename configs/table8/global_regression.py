"""Table 8: global regression; the same trunk, pooled, and one fully connected layer.

Command:      python train.py --config table8/global_regression     (on another data set: --base itop_front)
Whole table:  a2j reproduce table8 --data k2hpd
Paper:        PDJ 61.5 % at 0.05 on K2HPD, 145.12 frames/s (A2J: 76.3 %, 93.78 frames/s)
Measured:     not yet
"""

from a2j_jax.config import Config, variant
from a2j_jax.config_files import load_config


def get_config(base: Config | None = None) -> Config:
    """The base, but for one thing."""
    parts = "a2j_jax.baselines:global_regression"
    return variant(base or load_config("k2hpd"), "global_regression", parts=parts)
