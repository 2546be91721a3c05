"""Table 9: A2J from ImageNet's weights (docs/weights.md).

Command:      python train.py --config table9/imagenet     (on another data set: --base itop_front)
Whole table:  a2j reproduce table9 --data nyu
Paper:        8.61 mm on NYU, 88.0 % mAP@10 cm on ITOP's front view (from scratch: 10.08 mm, 87.3 %)
Measured:     not yet
"""

from a2j_jax.config import Config, variant
from a2j_jax.config_files import load_config


def get_config(base: Config | None = None) -> Config:
    """The base, but for one thing."""
    model = {"init_from": "weights/resnet50.safetensors"}
    return variant(base or load_config("nyu"), "imagenet", model=model)
