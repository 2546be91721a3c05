"""Variables of a network, rewritten once so that inference has less to compute; `apply(..., train=False)` takes them.

Batch normalization by running statistics is a multiplication and an addition for each channel, which the convolution
before it can do: its kernel is multiplied, and it adds a shift. On the CPU, 3x3 kernels of many channels are
transformed for Winograd's convolution. The network is as it was; its layers (`models.layers`) see what they are given.
"""

from collections import Counter
from collections.abc import Mapping
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from flax.traverse_util import flatten_dict, unflatten_dict
from numpy.typing import NDArray

from a2j_jax import lowering
from a2j_jax.errors import UserError
from a2j_jax.lowering import made_once
from a2j_jax.models.a2j import PoseNetwork, variable_shapes
from a2j_jax.models.layers import BatchNorm, Conv, Deconv, DepthStem, winograd_kernel

Path = tuple[str, ...]
_WINOGRAD_CHANNELS = (
    48  # with fewer inputs or outputs, transforming the tiles takes longer than it saves
)
_LARGE_BATCH = 4  # from this on, larger tiles are quicker
_OF_PACKAGE = "a2j_jax."


class _Convolution(NamedTuple):
    """A convolution of a network.

    Attributes:
      path: of its module.
      norm: path of the batch norm that its result goes to; None: it goes elsewhere.
      is_stem: it is a `DepthStem`, whose kernel is summed over its inputs.
      is_plain_3x3: it is a 3x3 `Conv` of stride 1.
    """

    path: Path
    norm: Path | None
    is_stem: bool
    is_plain_3x3: bool


@made_once
def _structure(
    model: PoseNetwork, crop_size: int
) -> tuple[dict[Path, tuple[int, ...]], list[_Convolution]]:
    """Shapes of a network's variables, and its convolutions that can be rewritten, found by tracing it."""
    found: dict[Path, _Convolution] = {}
    made_by: list[
        tuple[Any, Path]
    ] = []  # results, which are kept so that none is taken for another

    def look(call: Any, args: Any, kwargs: Any, context: nn.module.InterceptorContext) -> Any:
        result, module = call(*args, **kwargs), context.module
        if context.method_name != "__call__" or not _is_ours(module):
            return result
        if isinstance(module, Conv | DepthStem | Deconv):
            plain = isinstance(module, Conv) and (module.size, module.stride) == (3, 1)
            stem = isinstance(module, DepthStem)
            found[module.path] = _Convolution(module.path, None, stem, plain)
            made_by.append((result, module.path))
        elif isinstance(module, BatchNorm):
            for value, path in made_by:
                if value is args[0]:
                    found[path] = found[path]._replace(norm=module.path)
        return result

    images = jax.ShapeDtypeStruct((1, crop_size, crop_size, 1), jnp.float32)
    with nn.intercept_methods(look):
        plain = model.clone(remat=False, axis_name=None)
        shapes = variable_shapes(model, crop_size)
        jax.eval_shape(partial(plain.apply, train=False), shapes, images)
    convolutions = list(found.values())
    if not type(model).__module__.startswith(_OF_PACKAGE):
        read_once = _read_once(partial(plain.apply, train=False), shapes, images)
        convolutions = [each for each in convolutions if _names_of(each) <= read_once]
    return _shapes(shapes), convolutions


def _names_of(conv: _Convolution) -> set[Path]:
    """Paths of the modules whose variables are rewritten."""
    return {conv.path} if conv.norm is None else {conv.path, conv.norm}


def _read_once(apply: Any, variables: Any, images: jax.ShapeDtypeStruct) -> set[Path]:
    """Paths of the modules whose variables nothing reads but, once, the module: not, say, a penalty on weights."""
    program = jax.make_jaxpr(apply)(variables, images).jaxpr
    read = [id(x) for equation in program.eqns for x in equation.invars]
    counts = Counter([*read, *map(id, program.outvars)])
    # Leaves in the order of the program's arguments.
    paths = [
        tuple(str(key.key) for key in path[1:-1])
        for path, _ in jax.tree_util.tree_leaves_with_path(variables)
    ]
    used = zip(paths, program.invars, strict=False)  # the images are the last
    often = {path for path, variable in used if counts[id(variable)] > 1}
    return set(paths) - often


def _shapes(variables: Any) -> dict[Path, tuple[int, ...]]:
    """Names of all arrays, with their shapes."""
    return {path: tuple(np.shape(leaf)) for path, leaf in flatten_dict(variables).items()}


def _is_ours(module: nn.Module) -> bool:
    """Whether a layer is called by a module of this package: what others do with its result is not known."""
    return type(module.parent).__module__.startswith(_OF_PACKAGE)


def prepare_for_inference(
    model: PoseNetwork, variables: Any, crop_size: int, batch_size: int = 1
) -> Any:
    """Folds batch normalization into the convolutions before it, and transforms kernels for the platform at hand.

    Args:
      model: the network. Only layers of this package, called by modules of this package, are rewritten.
      variables: of it: `{"params": ..., "batch_stats": ...}`.
      crop_size: side of its crops, px; it decides nothing but the shapes that the network is traced with.
      batch_size: crops of a call, as far as is known. On a processor, kernels for larger batches multiply less and are
        larger: reading them takes longer than it saves for single crops.

    Returns:
      Variables for `model.apply(variables, images, train=False)`, on the host; they can be neither trained nor saved.
      The outputs are those of the plain ones to rounding.

    Raises:
      UserError: variables of another network.
    """
    if not isinstance(variables, Mapping):
        raise UserError(f"variables: expected a dict, found {type(variables).__name__}")
    expected, convolutions = _structure(model, crop_size)
    given = _shapes(variables)
    if given != expected:
        odd = next(iter(sorted(set(given.items()) ^ set(expected.items()))), ((), ()))[0]
        raise UserError(
            f"variables do not fit {type(model).__name__}: {'/'.join(odd)} has shape {given.get(odd, 'none')}, "
            f"expected {expected.get(odd, 'none')}"
        )
    if not convolutions:
        return variables
    params = flatten_dict(jax.tree.map(np.asarray, variables["params"]))
    statistics = flatten_dict(jax.tree.map(np.asarray, variables.get("batch_stats", {})))
    for conv in convolutions:
        kernel = params.pop((*conv.path, "kernel"))
        shift = params.pop((*conv.path, "bias"), np.zeros(kernel.shape[-1], kernel.dtype))
        if conv.is_stem:
            kernel = kernel.sum(axis=2, keepdims=True)
        if conv.norm is not None:
            scale, bias = (params.pop((*conv.norm, name)) for name in ("scale", "bias"))
            mean, var = (statistics.pop((*conv.norm, name)) for name in ("mean", "var"))
            gain = scale / np.sqrt(var + BatchNorm.epsilon)
            kernel, shift = kernel * gain, (shift - mean) * gain + bias
            params[(*conv.norm, "folded")] = np.zeros(0, np.float32)
        name = "kernel"
        if conv.is_plain_3x3 and _winograd_pays(kernel, model.dtype):
            tile = 2 if batch_size < _LARGE_BATCH else 4
            name, kernel = "winograd", winograd_kernel(kernel, tile)
        dtype = kernel.dtype if model.dtype is None else jnp.dtype(model.dtype)
        params[(*conv.path, name)] = kernel.astype(dtype, copy=False)
        params[(*conv.path, "shift")] = shift.astype(dtype, copy=False)
    return {"params": unflatten_dict(params), "batch_stats": unflatten_dict(statistics)}


def _winograd_pays(kernel: NDArray[Any], dtype: Any) -> bool:
    """Where Winograd's convolution was found to be quicker than XLA's: on the CPU, in float32, with many channels."""
    wide = min(kernel.shape[2:]) >= _WINOGRAD_CHANNELS
    return lowering.platform() == "cpu" and dtype is None and wide
