"""Table 10: A2J on ResNet-34, from ImageNet's weights where the base is.

Command:      python train.py --config table10/resnet34     (on another data set: --base itop_front)
Whole table:  a2j reproduce table10 --data nyu
Paper:        9.01 mm on NYU at 144.63 frames/s, 87.8 % mAP@10 cm on ITOP's front view at 122.47
Measured:     docs/experiments.md, on the embedded data
"""

from a2j_jax.config import Config, variant
from a2j_jax.config_files import load_config


def get_config(base: Config | None = None) -> Config:
    """The base, but for one thing."""
    base = base or load_config("nyu")
    weights = base.model.init_from and "weights/resnet34.safetensors"
    return variant(base, "resnet34", model={"backbone": "resnet34", "init_from": weights})
