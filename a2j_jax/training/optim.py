"""Adam with coupled L2, and learning-rate schedules; their presets belong to the track (`a2j_jax.tracks`).

Parameters that do not train, chosen by the beginning of their names.
"""

from collections.abc import Callable
from typing import Any

import jax
import optax
from flax.traverse_util import flatten_dict, unflatten_dict

from a2j_jax.config import OptimConfig
from a2j_jax.errors import UserError
from a2j_jax.models.layers import BatchNorm


def learning_rate_schedule(
    settings: OptimConfig, total_steps: int, steps_per_epoch: int
) -> optax.Schedule:
    """Step -> learning rate.

    "step" multiplies by `decay_factor` every `decay_every_epochs`, "cosine" falls to zero at `total_steps`, "constant"
    stays. A warm-up rises linearly from zero before that; it does not move the falls of "step", and those that it
    covers are made up for at its end.

    Args:
      settings: with the values of its preset (`TrackSpec.training`).
      total_steps, steps_per_epoch: length of the run.
    """
    peak, warmup = settings.learning_rate, settings.warmup_steps
    after = max(total_steps - warmup, 1)
    if settings.schedule == "constant":
        main: optax.Schedule = optax.constant_schedule(peak)
    elif settings.schedule == "cosine":
        main = optax.cosine_decay_schedule(peak, after)
    else:
        assert settings.decay_every_epochs is not None
        assert settings.decay_factor is not None
        every = settings.decay_every_epochs * steps_per_epoch
        falls = {step - warmup: settings.decay_factor for step in range(every, total_steps, every)}
        main = optax.piecewise_constant_schedule(peak, falls)
    if not warmup:
        return main
    return optax.join_schedules([optax.linear_schedule(0.0, peak, warmup), main], [warmup])


def make_optimizer(
    settings: OptimConfig, schedule: optax.ScalarOrSchedule
) -> optax.GradientTransformation:
    """Adam with coupled L2 on the parameters that are not frozen."""
    return freeze(adam_with_l2(schedule, settings.weight_decay), settings.freeze)


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


def is_frozen(name: str, prefixes: tuple[str, ...]) -> bool:
    """Whether a parameter or module ("trunk/layer1_0/conv1") is below one of the prefixes."""
    return name.startswith(prefixes)


def map_named(function: Callable[[str, Any], Any], tree: Any) -> Any:
    """Map `function(name, leaf)` over nested dicts; names are joined by slashes."""
    flat = flatten_dict(tree, sep="/")
    return unflatten_dict({name: function(name, leaf) for name, leaf in flat.items()}, sep="/")


def check_prefixes(prefixes: tuple[str, ...], params: Any) -> None:
    """Check that each prefix names a parameter: a misspelled one would freeze nothing.

    Raises:
      UserError: naming the prefix and what there is, or prefixes that leave nothing to train.
    """
    names = list(flatten_dict(params, sep="/"))
    for prefix in prefixes:
        if not any(is_frozen(name, (prefix,)) for name in names):
            there = ", ".join(sorted({"/".join(name.split("/")[:2]) for name in names}))
            raise UserError(
                f"--config.optim.freeze: no parameter begins with {prefix!r}; there are: {there}"
            )
    if all(is_frozen(name, prefixes) for name in names):
        raise UserError(f"--config.optim.freeze={prefixes} leaves nothing to train")


def held_still(prefixes: tuple[str, ...]) -> Any:
    """An interceptor for `flax.linen.intercept_methods`: batch norms below the prefixes do not train."""

    def intercept(call: Any, args: Any, kwargs: Any, context: Any) -> jax.Array:
        module = context.module
        if (
            isinstance(module, BatchNorm)
            and context.method_name == "__call__"
            and is_frozen("/".join(module.path) + "/", prefixes)
        ):
            return call(args[0], train=False)
        return call(*args, **kwargs)

    return intercept


def freeze(
    optimizer: optax.GradientTransformation, prefixes: tuple[str, ...]
) -> optax.GradientTransformation:
    """An optimizer that leaves frozen parameters alone, weight decay included, and keeps no moments of them."""
    if not prefixes:
        return optimizer

    def labels(params: Any) -> Any:
        return map_named(lambda name, _: "frozen" if is_frozen(name, prefixes) else "free", params)

    return optax.multi_transform({"free": optimizer, "frozen": optax.set_to_zero()}, labels)
