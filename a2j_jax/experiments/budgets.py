"""How much is spent on a row: the paper's schedule, or a small network's that a laptop can afford."""

import dataclasses

from a2j_jax.config import Config
from a2j_jax.config_files import load_config
from a2j_jax.errors import UserError
from a2j_jax.track_files import find_track

BUDGETS = {
    "full": "the paper's network and schedule",
    "hour": "a small network on small crops; a table in about an hour of two CPU cores",
    "smoke": "a few steps of a tiny network, to see that everything runs",
}


def base_config(data: str, budget: str) -> Config:
    """What the rows of a table differ from, on one data set.

    Args:
      data: the track; there is a config of that name.
      budget: a key of `BUDGETS`.

    Raises:
      UserError: no such budget.
    """
    if budget not in BUDGETS:
        raise UserError(f"no budget {budget!r}; there are: {', '.join(BUDGETS)}")
    full = load_config(data)
    if budget == "full":
        return full
    subject = "body" if find_track(full.track).crop_by == "box" else "hand"
    small = load_config("quickstart" if subject == "hand" else "quickstart_body")
    splits = dataclasses.replace(
        small.data, train_split=full.data.train_split, eval_split=full.data.eval_split
    )
    base = dataclasses.replace(
        small,
        name=f"{data}-{budget}",
        track=full.track,
        data=splits,
    )
    return base if budget == "hour" else _smoke(base)


def _smoke(base: Config) -> Config:
    return dataclasses.replace(
        base,
        model=dataclasses.replace(base.model, width=8, head_features=8, head_depth=1),
        data=dataclasses.replace(
            base.data, crop_size=32, train_frames=32, validation_frames=8, test_frames=12
        ),
        optim=dataclasses.replace(base.optim, batch_size=8, steps=4, warmup_steps=1),
        run=dataclasses.replace(base.run, eval_every=2, log_every=1),
    )
