"""Adam with coupled L2, and learning-rate schedules; their presets belong to the track (`a2j_jax.tracks`).

Parameters that do not train, chosen by the beginning of their names.
"""

from typing import Any

import jax
import optax
from flax.traverse_util import flatten_dict, path_aware_map

from a2j_jax.errors import UserError
from a2j_jax.models.layers import BatchNorm


def learning_rate_schedule(
    kind: str,
    peak: float,
    total_steps: int,
    *,
    warmup_steps: int = 0,
    decay_every: int | None = None,
    decay_factor: float | None = None,
) -> optax.Schedule:
    """Step -> learning rate.

    "step" multiplies by `decay_factor` every `decay_every` steps, "cosine" falls to zero at `total_steps`, "constant"
    stays. A warm-up rises linearly from zero before the peak; the falls of "step" stay where they are, and those during
    the warm-up apply when it ends.
    """
    if kind == "constant":
        main: optax.Schedule = optax.constant_schedule(peak)
    elif kind == "cosine":
        main = optax.cosine_decay_schedule(peak, max(total_steps - warmup_steps, 1))
    else:
        assert decay_every is not None
        assert decay_factor is not None
        falls = range(decay_every, total_steps, decay_every)
        main = optax.piecewise_constant_schedule(
            peak, {step - warmup_steps: decay_factor for step in falls}
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

    Not AdamW: the decay is scaled by the adaptive step like any other gradient, biases and batch norm included.
    """
    return optax.chain(
        optax.add_decayed_weights(weight_decay),
        optax.scale_by_adam(b1=0.9, b2=0.999, eps=1e-8),
        optax.scale_by_learning_rate(learning_rate),
    )


def is_frozen(path: tuple[Any, ...], prefixes: tuple[str, ...]) -> bool:
    """Whether a parameter or module, ("trunk", "layer1_0", "conv1"), is below a prefix such as "trunk/layer1"."""
    return "/".join(path).startswith(prefixes)


def check_prefixes(prefixes: tuple[str, ...], params: Any) -> None:
    """Refuse a prefix that names no parameter, as a misspelled one would freeze nothing, and all of them together."""
    paths = list(flatten_dict(params))
    for prefix in prefixes:
        if not any(is_frozen(path, (prefix,)) for path in paths):
            there = ", ".join(sorted({"/".join(path[:2]) for path in paths}))
            raise UserError(
                f"--config.optim.freeze: no parameter begins with {prefix!r}; there are: {there}"
            )
    if all(is_frozen(path, prefixes) for path in paths):
        raise UserError(f"--config.optim.freeze={prefixes} leaves nothing to train")


def held_still(prefixes: tuple[str, ...]) -> Any:
    """An interceptor for `flax.linen.intercept_methods`: batch norms below the prefixes do not train."""

    def intercept(call: Any, args: Any, kwargs: Any, context: Any) -> jax.Array:
        module = context.module
        if (
            isinstance(module, BatchNorm)
            and context.method_name == "__call__"
            and is_frozen((*module.path, ""), prefixes)
        ):
            return call(args[0], **{**kwargs, "train": False})
        return call(*args, **kwargs)

    return intercept


def freeze(
    optimizer: optax.GradientTransformation, prefixes: tuple[str, ...]
) -> optax.GradientTransformation:
    """An optimizer that leaves frozen parameters alone, weight decay included, and keeps no moments of them."""
    if not prefixes:
        return optimizer

    def labels(params: Any) -> Any:
        kind = {True: "frozen", False: "free"}
        return path_aware_map(lambda path, _: kind[is_frozen(path, prefixes)], params)

    return optax.multi_transform({"free": optimizer, "frozen": optax.set_to_zero()}, labels)
