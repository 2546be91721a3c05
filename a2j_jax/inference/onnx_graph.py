"""A traced function as an ONNX graph: `model_of` translates the operations of a jaxpr one by one.

ONNX convolves channels first, JAX's networks here have them last. A tensor of the graph is therefore kept in the order
of axes in which it came to be, which is noted beside its name: activations stay channels first from one convolution to
the next, and only what needs another order is transposed. Likewise, axes of length 1 stand for longer ones, as long
as ONNX's own broadcasting makes up for it. What is computed from constants alone is computed here.

Maxima and minima over axes or windows ignore NaN in ONNX Runtime; in JAX they are NaN.
"""

import string
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import ClosedJaxpr, Literal
from jax.lax import GatherScatterMode, RoundingMethod
from numpy.typing import NDArray

from a2j_jax.errors import UserError

OPSET = 18

# Operations on each element, by the names of JAX's primitives.
_ELEMENTWISE = {
    **{"abs": "Abs", "ceil": "Ceil", "cos": "Cos", "erf": "Erf", "exp": "Exp", "floor": "Floor"},
    **{"log": "Log", "logistic": "Sigmoid", "neg": "Neg", "not": "Not", "sign": "Sign", "sin": "Sin"},
    **{"sqrt": "Sqrt", "tanh": "Tanh", "is_finite": "IsFinite"},
    **{"add": "Add", "add_any": "Add", "and": "And", "div": "Div", "eq": "Equal", "ge": "GreaterOrEqual"},
    **{"gt": "Greater", "le": "LessOrEqual", "lt": "Less", "max": "Max", "min": "Min", "mul": "Mul"},
    **{"or": "Or", "pow": "Pow", "sub": "Sub", "xor": "Xor"},
}  # fmt: skip
_REDUCTIONS = {
    **{"reduce_max": "ReduceMax", "reduce_min": "ReduceMin", "reduce_sum": "ReduceSum"},
    **{"reduce_and": "ReduceMin", "reduce_or": "ReduceMax"},
}
_OF_BITS = {"And": "BitwiseAnd", "Not": "BitwiseNot", "Or": "BitwiseOr", "Xor": "BitwiseXor"}
_OF_BOOLS = {"Max": "Or", "Min": "And"}
_NOTHING_TO_DO = {"copy", "copy_p", "optimization_barrier", "stop_gradient"}
# Those that call a function once; others with a jaxpr, such as "scan", repeat it.
_CALLS = {
    "closed_call",
    "custom_jvp_call",
    "custom_vjp_call",
    "jit",
    "pjit",
    "remat2",
    "checkpoint",
}


class _Tensor(NamedTuple):
    """A value of the graph.

    Attributes:
      name: of the tensor.
      order: its axis i is axis order[i] of JAX's array.
      full: whether it has the array's shape; else some of its axes have length 1.
    """

    name: str
    order: tuple[int, ...]
    full: bool = True


_Value = _Tensor | NDArray[Any]


def model_of(
    function: Callable[..., Mapping[str, jax.Array]], inputs: Mapping[str, jax.ShapeDtypeStruct]
) -> Any:
    """Translates a function.

    Args:
      function: of arrays, by place; returns arrays by name. What it closes over becomes constants of the graph.
      inputs: names and shapes of its arguments; one symbolic dimension, the first, may stand for any number of rows.

    Returns:
      An `onnx.ModelProto`.

    Raises:
      UserError: an operation that has no translation, naming it.
    """
    import onnx

    names = list(jax.eval_shape(function, *inputs.values()))

    def results(*given: jax.Array) -> tuple[jax.Array, ...]:
        found = function(*given)
        return tuple(found[name] for name in names)

    closed = jax.make_jaxpr(results)(*inputs.values())
    rows_of, given = next(iter(inputs.items()))
    graph = _Graph(rows_of, str(given.shape[0]))
    arguments = [_Tensor(n, tuple(range(len(x.shape)))) for n, x in inputs.items()]
    found = _translate(graph, closed, arguments)
    for name, value, variable in zip(names, found, closed.jaxpr.outvars, strict=True):
        graph.nodes.append(
            onnx.helper.make_node("Identity", [graph.plain(value, variable.aval)], [name])
        )

    used = set(names)
    nodes: list[Any] = []
    for node in reversed(graph.nodes):
        if not used.isdisjoint(node.output):
            used.update(node.input)
            nodes.insert(0, node)

    def described(name: str, shape: Any) -> Any:
        sides = [side if isinstance(side, int) else str(side) for side in shape]
        return onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, sides)

    body = onnx.helper.make_graph(
        nodes,
        "a2j_jax",
        [described(name, each.shape) for name, each in inputs.items()],
        [
            described(name, each.aval.shape)
            for name, each in zip(names, closed.jaxpr.outvars, strict=True)
        ],
        [each for each in graph.constants if each.name in used],
    )
    opset = [onnx.helper.make_opsetid("", OPSET)]
    model = onnx.helper.make_model(
        body, opset_imports=opset, ir_version=10, producer_name="a2j_jax"
    )
    onnx.checker.check_model(model)
    return model


class _Graph:
    """Nodes and constants, as they are added."""

    def __init__(self, rows_of: str, rows_are: str) -> None:
        """For a function whose rows are counted by the first axis of this input, and what they are called there."""
        self.nodes: list[Any] = []
        self.constants: list[Any] = []
        self._rows_of, self._rows, self._rows_are = rows_of, "", rows_are
        self._count = 0

    def add(self, op: str, *inputs: str, **attributes: Any) -> str:
        """Adds a node; returns the name of its result."""
        import onnx

        self._count += 1
        name = f"{op}_{self._count}"
        self.nodes.append(onnx.helper.make_node(op, list(inputs), [name], **attributes))
        return name

    def constant(self, array: Any) -> str:
        """Adds a constant; returns its name."""
        import onnx

        self._count += 1
        name = f"constant_{self._count}"
        self.constants.append(onnx.numpy_helper.from_array(np.asarray(array, order="C"), name))
        return name

    def in_order(self, value: _Value, order: tuple[int, ...]) -> str:
        """The name of a value with its axes in this order; of a scalar as it is."""
        if isinstance(value, np.ndarray):
            return self.constant(value.transpose(order) if value.ndim else value)
        if value.order == order or not value.order:
            return value.name
        return self.add("Transpose", value.name, perm=[value.order.index(axis) for axis in order])

    def whole(self, value: _Value, aval: Any) -> _Value:
        """The value with the shape of its array."""
        if isinstance(value, np.ndarray):
            return value
        if value.full:
            return value
        shape = self.add("Concat", *(self.size(aval.shape[axis]) for axis in value.order), axis=0)
        return value._replace(name=self.add("Expand", value.name, shape), full=True)

    def plain(self, value: _Value, aval: Any) -> str:
        """The name of a value as JAX has its array: whole, and with its axes in JAX's order."""
        return self.in_order(self.whole(value, aval), tuple(range(len(aval.shape))))

    def tensor(self, value: _Value, aval: Any) -> _Tensor:
        """The value as a tensor with the shape of its array; a constant becomes one of the graph."""
        whole = self.whole(value, aval)
        if isinstance(whole, np.ndarray):
            return _Tensor(self.constant(whole), tuple(range(whole.ndim)))
        return whole

    def size(self, side: Any) -> str:
        """The length of an axis, (1,) int64: a number, the number of rows, or so many times it."""
        if isinstance(side, int):
            return self.constant(np.array([side], np.int64))
        *factor, rows = str(side).split("*")
        if rows != self._rows_are or not all(each.isdigit() for each in factor):
            raise UserError(f"a size of {side} cannot be written as ONNX")
        if not self._rows:
            self._rows = self.add("Shape", self._rows_of, start=0, end=1)
        if not factor:
            return self._rows
        return self.add("Mul", self._rows, self.constant(np.array([int(factor[0])], np.int64)))


def _translate(graph: _Graph, closed: ClosedJaxpr, given: Sequence[_Value]) -> list[_Value]:
    """The results of a jaxpr for these arguments."""
    known: dict[Any, _Value] = dict(zip(closed.jaxpr.invars, given, strict=True))
    for variable, constant in zip(closed.jaxpr.constvars, closed.consts, strict=True):
        _check_dtypes("a constant", [variable])
        known[variable] = np.asarray(constant)

    def read(variable: Any) -> _Value:
        if isinstance(variable, Literal):
            aval: Any = variable.aval  # Python's own numbers are of 64 bits
            return np.asarray(variable.val, aval.dtype)
        return known[variable]

    for equation in closed.jaxpr.eqns:
        values = [read(variable) for variable in equation.invars]
        results = _results(graph, equation, values)
        known |= dict(zip(equation.outvars, results, strict=True))
    return [read(variable) for variable in closed.jaxpr.outvars]


def _results(graph: _Graph, equation: Any, values: list[_Value]) -> list[_Value]:
    name, params = equation.primitive.name, equation.params
    if name in _CALLS:
        inner = params.get("jaxpr", params.get("call_jaxpr"))
        return _translate(
            graph, inner if isinstance(inner, ClosedJaxpr) else ClosedJaxpr(inner, ()), values
        )
    if name in _NOTHING_TO_DO:
        return values
    _check_dtypes(repr(name), equation.outvars)
    sized = all(isinstance(s, int) for variable in equation.outvars for s in variable.aval.shape)
    if sized and name != "dim_as_value" and all(isinstance(v, np.ndarray) for v in values):
        found = equation.primitive.bind(*map(jnp.asarray, values), **params)
        return [np.asarray(x) for x in (found if equation.primitive.multiple_results else [found])]
    if name in _ELEMENTWISE:
        return [_elementwise(graph, _ELEMENTWISE[name], equation, values)]
    if name in _REDUCTIONS:
        return [_reduced(graph, _REDUCTIONS[name], equation, values[0])]
    if name == "split":
        return _split(graph, equation, values[0])
    if name not in _TRANSLATIONS:
        raise UserError(
            f"the network uses {name!r}, which cannot be written as ONNX; --format stablehlo can"
        )
    return [_TRANSLATIONS[name](graph, equation, *values)]


def _check_dtypes(what: str, variables: Sequence[Any]) -> None:
    """Refuses keys of random numbers, which have no array, and bfloat16, which ONNX Runtime does not compute in."""
    for variable in variables:
        dtype = getattr(variable.aval, "dtype", np.float32)  # of an array
        if dtype == jnp.bfloat16 or jnp.issubdtype(dtype, jax.dtypes.extended):
            raise UserError(
                f"the network uses {what} of {dtype}, which cannot be written as ONNX; --format stablehlo can"
            )


def _elementwise(
    graph: _Graph, op: str, equation: Any, values: Sequence[_Value], **about: Any
) -> _Tensor:
    """An operation on each element of values of one rank (or scalars), in the order of the first whole tensor.

    Axes of length 1 stand for longer ones in JAX's arrays, too: the result is whole where its operands make it so.
    """
    shape, kind = equation.outvars[0].aval.shape, equation.invars[-1].aval.dtype
    tensors = [v for v in values if isinstance(v, _Tensor) and v.order]
    leading = next((v for v in tensors if v.full), tensors[0] if tensors else None)
    order = leading.order if leading else tuple(range(len(shape)))
    of_whole = [
        variable.aval.shape
        for variable, value in zip(equation.invars, values, strict=False)
        if isinstance(value, np.ndarray) or value.full
    ]
    full = all(
        side == 1 or any(len(s) == len(shape) and s[axis] == side for s in of_whole)
        for axis, side in enumerate(shape)
    )
    if np.issubdtype(kind, np.integer):
        op = _OF_BITS.get(op, op)
    elif kind == np.bool_:
        op = _OF_BOOLS.get(op, op)
        if op.startswith(("Greater", "Less")):
            raise UserError("which of two booleans is larger cannot be written as ONNX")
    elif op == "Max" and any(
        isinstance(v, np.ndarray) and v.size == 1 and not v.any() for v in values
    ):
        op, values = (
            "Relu",
            [v for v in values if isinstance(v, _Tensor)],
        )  # joined with convolutions
    names = [graph.in_order(value, order) for value in values]
    if op == "IsFinite":
        odd = graph.add("Or", graph.add("IsNaN", *names), graph.add("IsInf", *names))
        return _Tensor(graph.add("Not", odd), order, full)
    return _Tensor(graph.add(op, *names, **about), order, full)


def _reduced(graph: _Graph, op: str, equation: Any, value: _Value) -> _Tensor:
    axes, aval = equation.params["axes"], equation.invars[0].aval
    whole = graph.tensor(value, aval)
    if not axes:  # none means all of them in ONNX
        return whole
    at = graph.constant(np.array([whole.order.index(axis) for axis in axes]))
    narrow = aval.dtype not in (np.float16, np.float32, np.float64, np.int32, np.int64)
    name = _cast(graph, whole.name, np.int64) if narrow else whole.name
    name = graph.add(op, name, at, keepdims=0)
    if narrow:
        name = _cast(graph, name, equation.outvars[0].aval.dtype)
    return _Tensor(name, _without(whole.order, axes))


def _without(order: tuple[int, ...], axes: Sequence[int]) -> tuple[int, ...]:
    """The order of the axes that are left, when some are gone."""
    return tuple(a - sum(b < a for b in axes) for a in order if a not in axes)


def _argmax(graph: _Graph, equation: Any, value: _Value, op: str = "ArgMax") -> _Tensor:
    (axis,) = equation.params["axes"]
    whole = graph.tensor(value, equation.invars[0].aval)
    boolean = equation.invars[0].aval.dtype == bool
    name = _cast(graph, whole.name, np.int32) if boolean else whole.name
    found = graph.add(op, name, axis=whole.order.index(axis), keepdims=0)
    order = _without(whole.order, [axis])
    return _Tensor(_cast(graph, found, equation.params["index_dtype"]), order)


def _argmin(graph: _Graph, equation: Any, value: _Value) -> _Tensor:
    return _argmax(graph, equation, value, "ArgMin")


def _cast(graph: _Graph, name: str, dtype: Any) -> str:
    import onnx

    return graph.add("Cast", name, to=onnx.helper.np_dtype_to_tensor_dtype(np.dtype(dtype)))


def _converted(graph: _Graph, equation: Any, value: _Value) -> _Value:
    if isinstance(value, np.ndarray):  # of any number of rows
        return value.astype(equation.params["new_dtype"])
    given, wanted = equation.invars[0].aval.dtype, np.dtype(equation.params["new_dtype"])
    name = value.name
    if np.issubdtype(given, np.floating) and wanted.kind in "iu" and wanted.itemsize < 4:
        # JAX takes the nearest number that there is, ONNX Runtime what is left of the bits.
        limits = np.iinfo(wanted)
        for op, limit in (("Max", limits.min), ("Min", limits.max)):
            name = graph.add(op, name, graph.constant(np.asarray(limit, given)))
    return value._replace(name=_cast(graph, name, wanted))


def _broadcast(graph: _Graph, equation: Any, value: _Value, *_: _Value) -> _Value:
    """New axes of length 1 stand for what they are to be."""
    shape = equation.params["shape"]
    places = equation.params["broadcast_dimensions"]
    if isinstance(value, np.ndarray):
        sides = dict(zip(places, value.shape, strict=True))
        return _Tensor(
            graph.constant(value.reshape([sides.get(axis, 1) for axis in range(len(shape))])),
            tuple(range(len(shape))),
            full=False,
        )
    new = [axis for axis in range(len(shape)) if axis not in places]
    order = (*(places[axis] for axis in value.order), *new)
    name = value.name
    if new:
        at = graph.constant(np.arange(len(value.order), len(order)))
        name = graph.add("Unsqueeze", name, at)
    given = equation.invars[0].aval.shape
    as_given = all(shape[place] == given[i] for i, place in enumerate(places))
    return _Tensor(name, order, value.full and as_given and all(shape[axis] == 1 for axis in new))


def _reshaped(graph: _Graph, equation: Any, value: _Value, *_: _Value) -> _Tensor:
    name = graph.plain(value, equation.invars[0].aval)
    shape = equation.outvars[0].aval.shape
    if sum(not isinstance(side, int) for side in shape) > 1:
        sides = graph.add("Concat", *map(graph.size, shape), axis=0)
    else:
        known = [side if isinstance(side, int) else -1 for side in shape]
        sides = graph.constant(np.array(known, np.int64))
    return _Tensor(graph.add("Reshape", name, sides), tuple(range(len(shape))))


def _transposed(graph: _Graph, equation: Any, value: _Value) -> _Tensor:
    assert isinstance(value, _Tensor)
    permutation = list(equation.params["permutation"])
    return value._replace(order=tuple(permutation.index(axis) for axis in value.order))


def _concatenated(graph: _Graph, equation: Any, *values: _Value) -> _Tensor:
    whole = [graph.whole(v, x.aval) for v, x in zip(values, equation.invars, strict=True)]
    order = next(v.order for v in whole if isinstance(v, _Tensor))
    names = [graph.in_order(value, order) for value in whole]
    return _Tensor(
        graph.add("Concat", *names, axis=order.index(equation.params["dimension"])), order
    )


def _stacked(graph: _Graph, equation: Any, *values: _Value) -> _Tensor:
    axis, rank = equation.params["axis"], len(equation.outvars[0].aval.shape)
    at = graph.constant(np.array([axis]))
    names = [
        graph.add("Unsqueeze", graph.plain(value, variable.aval), at)
        for value, variable in zip(values, equation.invars, strict=True)
    ]
    return _Tensor(graph.add("Concat", *names, axis=axis), tuple(range(rank)))


def _sliced(graph: _Graph, equation: Any, value: _Value) -> _Tensor:
    params, aval = equation.params, equation.invars[0].aval
    strides = params["strides"] or (1,) * len(aval.shape)
    limits = zip(params["start_indices"], params["limit_indices"], strides, strict=True)
    return _cut(graph, value, aval, dict(enumerate(limits)))


def _cut(graph: _Graph, value: _Value, aval: Any, limits: Mapping[int, Any]) -> _Tensor:
    """Slices some axes: axis -> (start, stop, stride)."""
    whole = graph.tensor(value, aval)
    parts = [
        (start, stop, whole.order.index(axis), stride)
        for axis, (start, stop, stride) in limits.items()
        if (start, str(stop), stride) != (0, str(aval.shape[axis]), 1)
    ]
    if any(not isinstance(limit, int | np.integer) for part in parts for limit in part):
        raise UserError("a slice of some of the rows cannot be written as ONNX")
    if not parts:
        return whole
    columns = [np.array(column, np.int64) for column in zip(*parts, strict=True)]
    return whole._replace(name=graph.add("Slice", whole.name, *map(graph.constant, columns)))


def _split(graph: _Graph, equation: Any, value: _Value) -> list[_Value]:
    axis, ends = equation.params["axis"], np.cumsum(equation.params["sizes"])
    parts = zip((0, *ends[:-1]), ends, strict=True)
    aval = equation.invars[0].aval
    return [_cut(graph, value, aval, {axis: (start, stop, 1)}) for start, stop in parts]


def _gathered(graph: _Graph, equation: Any, value: _Value, where: _Value) -> _Tensor:
    """Slices at places that are known (`x[:, 2, ::2]`, or one for each of some axes), and `jnp.take_along_axis`."""
    numbers, shape = equation.params["dimension_numbers"], equation.invars[0].aval.shape
    whole = graph.tensor(value, equation.invars[0].aval)
    sizes, gone = equation.params["slice_sizes"], numbers.collapsed_slice_dims
    clips = equation.params["mode"] == GatherScatterMode.CLIP
    if isinstance(where, np.ndarray):
        sides = [shape[axis] for axis in numbers.start_index_map]
        if not all(isinstance(side, int) for side in sides):
            raise UserError("the network gathers some of the rows, which cannot be written as ONNX")
        most = [
            side - sizes[axis] for side, axis in zip(sides, numbers.start_index_map, strict=True)
        ]
        within = where.clip(0, most)
        if not clips and (within != where).any():
            raise UserError("the network gathers values beyond an axis, which cannot be written")
        where = within
        return _taken(
            graph,
            whole,
            equation,
            dict(zip(numbers.start_index_map, np.moveaxis(where, -1, 0), strict=True)),
        )
    others = tuple(axis for axis in range(len(shape)) if axis not in gone)
    along = len(gone) == 1 and not numbers.offset_dims and isinstance(shape[gone[0]], int)
    same = numbers.operand_batching_dims == numbers.start_indices_batching_dims == others
    along = along and len(equation.invars[1].aval.shape) == len(shape) + 1
    if not (along and same and set(sizes) == {1}):
        raise UserError("the network gathers values in a way that cannot be written as ONNX")
    rank = graph.constant(np.array([-1]))
    indices = graph.add("Squeeze", graph.plain(where, equation.invars[1].aval), rank)
    if clips:
        kind = equation.invars[1].aval.dtype
        for op, limit in (("Max", 0), ("Min", shape[gone[0]] - 1)):
            indices = graph.add(op, indices, graph.constant(np.asarray(limit, kind)))
    order = tuple(range(len(shape)))
    name = graph.in_order(whole, order)
    return _Tensor(graph.add("GatherElements", name, indices, axis=gone[0]), order)


def _taken(
    graph: _Graph, whole: _Tensor, equation: Any, places: dict[int, NDArray[Any]]
) -> _Tensor:
    """Slices, and lists of rows along some axes: axis -> places, which vary along one axis of theirs at most."""
    numbers, aval = equation.params["dimension_numbers"], equation.invars[0].aval
    gone, sizes = numbers.collapsed_slice_dims, equation.params["slice_sizes"]
    fixed = [axis for axis, place in places.items() if (place == place.flat[0]).all()]
    listed = [axis for axis in gone if axis not in fixed]
    squeezed = [axis for axis in gone if axis in fixed]
    if len(listed) != next(iter(places.values())).ndim:
        raise UserError("the network gathers values in a way that cannot be written as ONNX")
    lists = [np.moveaxis(places[axis], n, 0) for n, axis in enumerate(listed)]
    lists = [each.reshape(len(each), -1) for each in lists]
    left = [axis for axis in range(len(aval.shape)) if axis not in squeezed]
    apart = (
        all((each == each[:, :1]).all() for each in lists)
        and set(places) == {*fixed, *listed}
        and numbers.offset_dims == tuple(n for n, axis in enumerate(left) if axis not in gone)
    )
    if not apart:
        raise UserError("the network gathers values in a way that cannot be written as ONNX")
    starts = {axis: int(places[axis].flat[0]) for axis in fixed}
    found = _cut(graph, whole, aval, {a: (s, s + sizes[a], 1) for a, s in starts.items()})
    for axis, each in zip(listed, lists, strict=True):
        at = graph.constant(each[:, 0].astype(np.int64))
        name = graph.add("Gather", found.name, at, axis=found.order.index(axis))
        found = found._replace(name=name)
    if not squeezed:
        return found
    at = graph.constant(np.array([found.order.index(axis) for axis in squeezed]))
    return _Tensor(graph.add("Squeeze", found.name, at), _without(found.order, squeezed))


def _row_count(graph: _Graph, equation: Any, *_: _Value) -> _Tensor:
    """The number of rows, or so many times it, as a scalar."""
    at = graph.constant(np.array([0]))
    name = graph.add("Squeeze", graph.size(equation.params["dim"]), at)
    return _Tensor(_cast(graph, name, equation.outvars[0].aval.dtype), ())


def _reversed(graph: _Graph, equation: Any, value: _Value) -> _Tensor:
    whole = graph.tensor(value, equation.invars[0].aval)
    at = [whole.order.index(axis) for axis in equation.params["dimensions"]]
    ends = ([-1] * len(at), [-(2**31)] * len(at), at, [-1] * len(at))
    columns = [graph.constant(np.array(each)) for each in ends]
    return whole._replace(name=graph.add("Slice", whole.name, *columns))


def _padded(graph: _Graph, equation: Any, value: _Value, filling: _Value) -> _Tensor:
    config = equation.params["padding_config"]
    if any(low < 0 or high < 0 or between for low, high, between in config):
        raise UserError("padding between elements, or less than none, cannot be written as ONNX")
    whole = graph.tensor(value, equation.invars[0].aval)
    pads = [config[axis][end] for end in (0, 1) for axis in whole.order]
    filled = graph.in_order(filling, ())
    return whole._replace(name=graph.add("Pad", whole.name, graph.constant(np.array(pads)), filled))


def _selected(graph: _Graph, equation: Any, which: _Value, *cases: _Value) -> _Tensor:
    if len(cases) != 2:
        raise UserError("a choice among more than two cannot be written as ONNX")
    if equation.invars[0].aval.dtype != bool:
        which = (
            which.astype(bool)
            if isinstance(which, np.ndarray)
            else which._replace(name=_cast(graph, which.name, bool))
        )
    return _elementwise(graph, "Where", equation, [which, cases[1], cases[0]])


def _convolved(graph: _Graph, equation: Any, images: _Value, kernel: _Value) -> _Tensor:
    params = equation.params
    numbers, upsampled = params["dimension_numbers"], params["lhs_dilation"]
    pads = [pad[end] for end in (0, 1) for pad in params["padding"]]
    wanted = equation.outvars[0].aval.dtype
    if params["batch_group_count"] != 1 or not np.issubdtype(wanted, np.floating):
        raise UserError(
            "a convolution of groups of rows, or of whole numbers, cannot be written as ONNX"
        )
    images, kernel = _operands(graph, equation, images, kernel)
    name = graph.in_order(images, numbers.lhs_spec)
    if all(step == 1 for step in upsampled):
        _check_pads(pads)
        weights = graph.in_order(kernel, numbers.rhs_spec)
        found = graph.add(
            "Conv",
            name,
            weights,
            strides=list(params["window_strides"]),
            pads=pads,
            dilations=list(params["rhs_dilation"]),
            group=params["feature_group_count"],
        )
        return _Tensor(found, numbers.out_spec)
    # Zeros between the pixels of the image: a transposed convolution with the kernel turned around.
    plain = (params["window_strides"], params["rhs_dilation"]) == ((1, 1), (1, 1))
    if not isinstance(kernel, np.ndarray) or not plain or params["feature_group_count"] != 1:
        raise UserError("a convolution that both up- and downsamples cannot be written as ONNX")
    outputs, inputs, *sides = numbers.rhs_spec
    turned = kernel.transpose(inputs, outputs, *sides)[..., ::-1, ::-1]
    most = [side - 1 for side in turned.shape[2:]] * 2
    pads = [m - pad for m, pad in zip(most, pads, strict=True)]
    _check_pads(pads)
    found = graph.add(
        "ConvTranspose",
        name,
        graph.constant(turned),
        strides=list(upsampled),
        pads=pads,
    )
    return _Tensor(found, numbers.out_spec)


def _operands(graph: _Graph, equation: Any, *values: _Value) -> list[_Value]:
    """The operands of a product: whole, and of the dtype of its result."""
    wanted = equation.outvars[0].aval.dtype
    found: list[_Value] = []
    for value, variable in zip(values, equation.invars, strict=True):
        whole = graph.whole(value, variable.aval)
        if variable.aval.dtype != wanted:
            whole = (
                whole.astype(wanted)
                if isinstance(whole, np.ndarray)
                else whole._replace(name=_cast(graph, whole.name, wanted))
            )
        found.append(whole)
    return found


def _check_pads(pads: Sequence[int], most: float = np.inf) -> None:
    if min(pads, default=0) < 0 or max(pads, default=0) > most:
        raise UserError(
            "padding of less than none, or wider than a window, cannot be written as ONNX"
        )


def _pooled(graph: _Graph, equation: Any, value: _Value) -> _Tensor:
    params = equation.params
    window = params["window_dimensions"]
    sides = tuple(axis for axis, side in enumerate(window) if side > 1)
    dilated = any(x != 1 for x in (*params["base_dilation"], *params["window_dilation"]))
    around = zip(params["window_strides"], params["padding"], strict=True)
    beside = [how for axis, how in enumerate(around) if axis not in sides]
    if len(window) != 4 or len(sides) != 2 or dilated or set(beside) != {(1, (0, 0))}:
        raise UserError("a maximum over such windows cannot be written as ONNX")
    order = (*(axis for axis in range(4) if axis not in sides), *sides)
    for axis in sides:
        _check_pads(params["padding"][axis], window[axis] - 1)
    name = graph.in_order(graph.whole(value, equation.invars[0].aval), order)
    found = graph.add(
        "MaxPool",
        name,
        kernel_shape=[window[axis] for axis in sides],
        strides=[params["window_strides"][axis] for axis in sides],
        pads=[params["padding"][axis][end] for end in (0, 1) for axis in sides],
    )
    return _Tensor(found, order)


def _multiplied(graph: _Graph, equation: Any, left: _Value, right: _Value) -> _Tensor:
    (of_left, of_right), (rows_left, rows_right) = equation.params["dimension_numbers"]
    avals = [variable.aval for variable in equation.invars]
    ranks = [len(aval.shape) for aval in avals]
    order = tuple(range(len(equation.outvars[0].aval.shape)))
    left, right = _operands(graph, equation, left, right)
    matrix = isinstance(right, np.ndarray) and ranks[1] == 2 and not rows_left
    if matrix and tuple(of_left) == (ranks[0] - 1,):
        assert isinstance(right, np.ndarray)
        weights = right if tuple(of_right) == (0,) else right.T
        found = graph.add("MatMul", graph.plain(left, avals[0]), graph.constant(weights))
        return _Tensor(found, order)
    letters = iter(string.ascii_letters)
    names: list[list[str]] = [[""] * rank for rank in ranks]
    pairs = [*zip(rows_left, rows_right, strict=True), *zip(of_left, of_right, strict=True)]
    for a, b in pairs:
        names[0][a] = names[1][b] = next(letters)
    for side in names:
        side[:] = [letter or next(letters) for letter in side]
    shared = [names[0][axis] for axis in rows_left]
    gone = {names[0][axis] for axis in (*rows_left, *of_left)}
    rest = [letter for side in names for letter in side if letter not in gone]
    text = f"{''.join(names[0])},{''.join(names[1])}->{''.join([*shared, *rest])}"
    inputs = [graph.plain(value, aval) for value, aval in zip((left, right), avals, strict=True)]
    return _Tensor(graph.add("Einsum", *inputs, equation=text), order)


def _power(graph: _Graph, equation: Any, value: _Value) -> _Tensor:
    exponent = np.asarray(equation.params["y"], equation.outvars[0].aval.dtype)
    return _elementwise(graph, "Pow", equation, [value, exponent])


def _clamped(graph: _Graph, equation: Any, low: _Value, value: _Value, high: _Value) -> _Tensor:
    at_least = _elementwise(graph, "Max", equation, [value, low])
    return _elementwise(graph, "Min", equation, [at_least, high])


def _squared(graph: _Graph, equation: Any, value: _Value) -> _Tensor:
    return _elementwise(graph, "Mul", equation, [value, value])


def _of_one(outer: str, inner: str, one_first: bool) -> Callable[..., _Tensor]:
    """A function that ONNX has but for a 1 that is added or taken away: log1p, expm1, erfc."""

    def translated(graph: _Graph, equation: Any, value: _Value) -> _Tensor:
        one = np.ones((), equation.outvars[0].aval.dtype)
        if outer == "Log":
            more = _elementwise(graph, inner, equation, [value, one])
            return _elementwise(graph, outer, equation, [more])
        found = _elementwise(graph, inner, equation, [value])
        return _elementwise(graph, outer, equation, [one, found] if one_first else [found, one])

    return translated


def _inverse_root(graph: _Graph, equation: Any, value: _Value) -> _Tensor:
    return _elementwise(
        graph, "Reciprocal", equation, [_elementwise(graph, "Sqrt", equation, [value])]
    )


def _remainder(graph: _Graph, equation: Any, *values: _Value) -> _Tensor:
    return _elementwise(graph, "Mod", equation, values, fmod=1)


def _differ(graph: _Graph, equation: Any, *values: _Value) -> _Tensor:
    equal = _elementwise(graph, "Equal", equation, values)
    return equal._replace(name=graph.add("Not", equal.name))


def _rounded(graph: _Graph, equation: Any, value: _Value) -> _Tensor:
    if equation.params["rounding_method"] != RoundingMethod.TO_NEAREST_EVEN:
        raise UserError("rounding halves away from zero cannot be written as ONNX; jnp.round can")
    return _elementwise(graph, "Round", equation, [value])


def _less_precise(graph: _Graph, equation: Any, value: _Value) -> _Value:
    limits = jnp.finfo(equation.outvars[0].aval.dtype)
    bits = (equation.params["exponent_bits"], equation.params["mantissa_bits"])
    if bits[0] < limits.nexp or bits[1] < limits.nmant:
        raise UserError(f"floats of {bits[0]} and {bits[1]} bits cannot be written as ONNX")
    return value


_TRANSLATIONS: dict[str, Callable[..., _Value]] = {
    "argmax": _argmax,
    "argmin": _argmin,
    "broadcast_in_dim": _broadcast,
    "clamp": _clamped,
    "concatenate": _concatenated,
    "dim_as_value": _row_count,
    "conv_general_dilated": _convolved,
    "convert_element_type": _converted,
    "dot_general": _multiplied,
    "erfc": _of_one("Sub", "Erf", one_first=True),
    "expm1": _of_one("Sub", "Exp", one_first=False),
    "gather": _gathered,
    "integer_pow": _power,
    "log1p": _of_one("Log", "Add", one_first=False),
    "ne": _differ,
    "pad": _padded,
    "reduce_precision": _less_precise,
    "reduce_window_max": _pooled,
    "rem": _remainder,
    "reshape": _reshaped,
    "rev": _reversed,
    "round": _rounded,
    "rsqrt": _inverse_root,
    "select_n": _selected,
    "slice": _sliced,
    "square": _squared,
    "squeeze": _reshaped,
    "stack": _stacked,
    "transpose": _transposed,
}
