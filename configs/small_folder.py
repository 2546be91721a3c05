"""A folder of your own of 100 to a few thousand frames: the quickstart's network, trained by steps.

Command:      a2j train --config small_folder --workdir runs/mine --config.track=./my_hands
              with --config.model.init_from=runs/quickstart where there is one (docs/own_data.md)
Hardware:     2 cores of an AMD EPYC, about half the time of the quickstart
Paper:        no such experiment
Expected:     well below the mean pose, from 100 frames on
Measured:     28.5 mm on 200 rendered test frames after training on 160 (mean pose 52.9 mm), from random weights
"""

import dataclasses

from a2j_jax.config import AugmentConfig, Config, OptimConfig, RunConfig
from a2j_jax.config_files import load_config


def get_config() -> Config:
    """The quickstart's network on the track's crop size and the frames' own mean and std."""
    base = load_config("quickstart")
    return dataclasses.replace(
        base,
        name="small_folder",
        data=dataclasses.replace(
            base.data, crop_size=None, eval_split="test", normalization="computed"
        ),
        # Few frames: the track's full range of rotations and sizes.
        augment=AugmentConfig(noise_probability=0.0),
        optim=OptimConfig(
            batch_size=32, steps=1_500, learning_rate=1.5e-3, schedule="cosine", warmup_steps=100
        ),
        run=RunConfig(eval_every=250, log_every=50),
    )
