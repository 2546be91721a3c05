"""A2J at the paper's size on rendered bodies. Not an experiment of the paper: its tables, for want of a download.

Command:      python train.py --config synthetic_body   (renders its data set first)
Hardware:     not run yet
Cost:         64 images a step on each of four TPU v5e: 10.4 GiB, 6.01 TFLOP a chip
              (compiled, not run: a2j plan --config itop_front --topology v5e:2x2 --batch 256; the same program)
Paper:        no such experiment
Expected:     unknown
Measured:     not yet
"""

from a2j_jax.config import Config, DataConfig


def get_config() -> Config:
    """As many frames as ITOP has; from random weights, for none of ImageNet come with this package."""
    data = DataConfig(train_frames=17_991, test_frames=4_863, eval_split="validation")
    return Config(name="synthetic_body", track="synthetic_body", data=data)
