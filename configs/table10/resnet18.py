"""Table 10: A2J on ResNet-18, from ImageNet's weights where the base is.

Command:      python train.py --config table10/resnet18     (on another data set: --base itop_front)
Whole table:  a2j reproduce table10 --data nyu
Paper:        9.32 mm on NYU at 192.25 frames/s, 87.1 % mAP@10 cm on ITOP's front view at 167.19
Measured:     docs/experiments.md, on the embedded data
"""

from a2j_jax.config import Config, variant
from a2j_jax.config_files import load_config


def get_config(base: Config | None = None) -> Config:
    """The base, but for one thing."""
    base = base or load_config("nyu")
    weights = base.model.init_from and "weights/resnet18.safetensors"
    return variant(base, "resnet18", model={"backbone": "resnet18", "init_from": weights})
