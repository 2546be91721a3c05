"""Adam with coupled L2, and learning-rate schedules; their presets belong to the track (`a2j_jax.tracks`)."""

from typing import Literal

import optax

Schedule = Literal["constant", "step", "cosine"]


def learning_rate_schedule(
    kind: Schedule,
    peak: float,
    *,
    total_steps: int,
    steps_per_epoch: int,
    warmup_steps: int = 0,
    decay_every_epochs: int = 10,
    decay_factor: float = 0.2,
) -> optax.Schedule:
    """Step -> learning rate.

    Args:
      kind: "step" multiplies by `decay_factor` every `decay_every_epochs` (presets: `TrackSpec.paper_training`
        and `official_training`), "cosine" falls to zero at `total_steps`, "constant" stays.
      peak: learning rate after the warm-up (3.5e-4 in the paper).
      total_steps, steps_per_epoch: length of the run.
      warmup_steps: linear rise from zero to the peak before the schedule proper; it does not move the falls of "step",
        and those that it covers are made up for at its end.
    """
    after = max(total_steps - warmup_steps, 1)
    if kind == "constant":
        main: optax.Schedule = optax.constant_schedule(peak)
    elif kind == "cosine":
        main = optax.cosine_decay_schedule(peak, after)
    else:
        every = decay_every_epochs * steps_per_epoch
        epochs_end = range(every, total_steps, every)
        main = optax.piecewise_constant_schedule(
            peak, {step - warmup_steps: decay_factor for step in epochs_end}
        )
    if not warmup_steps:
        return main
    return optax.join_schedules(
        [optax.linear_schedule(0.0, peak, warmup_steps), main], [warmup_steps]
    )


def adam_with_l2(
    learning_rate: optax.ScalarOrSchedule, weight_decay: float
) -> optax.GradientTransformation:
    """PyTorch's `Adam(weight_decay=...)`: the L2 gradient joins before the moments, on every parameter.

    This is not AdamW: the decay is scaled by the adaptive step like any other gradient, biases and batch-norm
    parameters included, as the official code trains.
    """
    return optax.chain(
        optax.add_decayed_weights(weight_decay),
        optax.scale_by_adam(b1=0.9, b2=0.999, eps=1e-8),
        optax.scale_by_learning_rate(learning_rate),
    )
