"""Parameters that do not train, chosen by the beginning of their names."""

from collections.abc import Callable
from typing import Any

import jax
import optax
from flax.traverse_util import flatten_dict, unflatten_dict

from a2j_jax.errors import UserError
from a2j_jax.models.layers import BatchNorm


def is_frozen(name: str, prefixes: tuple[str, ...]) -> bool:
    """Whether a parameter or module ("trunk/layer1_0/conv1") is below one of the prefixes."""
    return name.startswith(prefixes)


def map_named(function: Callable[[str, Any], Any], tree: Any) -> Any:
    """Map `function(name, leaf)` over nested dicts; names are joined by slashes."""
    flat = flatten_dict(tree, sep="/")
    return unflatten_dict({name: function(name, leaf) for name, leaf in flat.items()}, sep="/")


def check_prefixes(prefixes: tuple[str, ...], params: Any) -> None:
    """Refuse what names no parameter: it would train in silence.

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
    """An optimiser that leaves frozen parameters alone, weight decay included, and keeps no moments of them."""
    if not prefixes:
        return optimizer

    def labels(params: Any) -> Any:
        return map_named(lambda name, _: "frozen" if is_frozen(name, prefixes) else "free", params)

    return optax.multi_transform({"free": optimizer, "frozen": optax.set_to_zero()}, labels)
