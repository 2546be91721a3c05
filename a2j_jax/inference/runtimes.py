"""Programs other than JAX that run a network on a processor, translated to ONNX: ONNX Runtime and OpenVINO."""

import functools
import importlib
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from importlib.util import find_spec
from typing import Any, Literal, cast, get_args

import jax
import numpy as np

from a2j_jax.errors import UserError, did_you_mean
from a2j_jax.inference.frame_predictor import check_finite
from a2j_jax.inference.onnx_graph import model_of
from a2j_jax.lowering import lowering_for
from a2j_jax.tracks import TrackSpec

Runtime = Literal["jax", "onnxruntime", "openvino"]
RUNTIMES: tuple[str, ...] = get_args(Runtime)
#: Arrays by the names of inputs -> arrays by the names of outputs.
Answer = Callable[[Mapping[str, np.ndarray]], dict[str, np.ndarray]]
Function = Callable[..., Mapping[str, jax.Array]]
#: Largest difference of joints from JAX's, mm (px in 2D), that passes for rounding.
TOLERANCE = 0.05
_CHECKED_BATCHES = (1, 3)


def check_runtime(runtime: str) -> Runtime:
    """The runtime of this name; refuses a runtime that does not exist, or is not installed.

    Raises:
      UserError: naming those that there are, or what to install.
    """
    if runtime not in RUNTIMES:
        raise UserError(
            f"runtime {runtime!r}: expected one of {', '.join(RUNTIMES)}{did_you_mean(runtime, RUNTIMES)}"
        )
    needed = () if runtime == "jax" else ("onnx", runtime)
    if missing := [name for name in needed if find_spec(name) is None]:
        raise UserError(
            f"runtime {runtime} needs {' and '.join(missing)}: pip install 'a2j-jax[export]'"
        )
    return cast(Runtime, runtime)


def onnx_of(function: Function, inputs: Mapping[str, jax.ShapeDtypeStruct], name: str) -> Any:
    """A function's translation to ONNX, in float32 whatever JAX_ENABLE_X64 says.

    Args:
      function: as for `onnx_graph.model_of`.
      inputs: of it.
      name: of the network, for messages.

    Returns:
      An `onnx.ModelProto`.

    Raises:
      UserError: the network cannot be traced for any number of crops, or has an operation without translation.
    """
    try:
        with lowering_for("gpu"), jax.enable_x64(False):  # plain convolutions, which ONNX has
            return model_of(function, inputs)
    except Exception as error:
        raise not_exported(name, error) from error


def not_exported(network: str, error: Exception) -> UserError:
    """The message for a network that cannot be traced or translated for any number of crops."""
    if isinstance(error, UserError):
        return UserError(f"{network} cannot be exported: {error}")
    text = " ".join(f"{type(error).__name__}: {error}".split())[:300]
    return UserError(
        f"{network} cannot be exported for any number of crops: {text}; take sizes from x.shape, not from len(x) or "
        "int(...)"
    )


def running(contents: bytes, runtime: str, precision: str = "float32") -> Answer:
    """Loads an ONNX model into a runtime, on the processor.

    Args:
      contents: of the file.
      runtime: "onnxruntime" or "openvino".
      precision: that OpenVINO computes in: "float32" or "bfloat16". ONNX Runtime computes as the file says.

    Returns:
      A function of the model's inputs by name.

    Raises:
      UserError: not installed; the runtime does not take the model, now or when it is called.
    """
    check_runtime(runtime)
    start = _openvino if runtime == "openvino" else _onnxruntime
    try:
        run = start(contents, precision)
    except Exception as error:
        raise _not_run(runtime, error) from error

    def answer(given: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        try:
            return run(given)
        except Exception as error:
            raise _not_run(runtime, error) from error

    return answer


def _onnxruntime(contents: bytes, precision: str) -> Answer:
    import onnxruntime

    if precision != "float32":
        raise ValueError(f"it computes in float32 on a processor, not in {precision}")
    settings = onnxruntime.SessionOptions()
    settings.log_severity_level = 3  # errors
    session = onnxruntime.InferenceSession(contents, settings, providers=["CPUExecutionProvider"])
    names = [each.name for each in session.get_outputs()]
    return lambda given: dict(zip(names, session.run(names, dict(given)), strict=True))


def _openvino(contents: bytes, precision: str) -> Answer:
    import onnx

    names = {each.name for each in onnx.load_model_from_string(contents).graph.output}
    core = _openvino_core()
    hint = {"float32": "f32", "bfloat16": "bf16"}[precision]
    compiled = core.compile_model(
        core.read_model(contents), "CPU", {"INFERENCE_PRECISION_HINT": hint}
    )
    ports = {name: port for port in compiled.outputs for name in names & port.get_names()}
    # Without those that no output depends on.
    taken = {name for port in compiled.inputs for name in port.get_names()}
    request = compiled.create_infer_request()

    def run(given: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        found = request.infer({name: x for name, x in given.items() if name in taken})
        return {name: np.array(found[port]) for name, port in ports.items()}

    return run


@functools.cache
def _openvino_core() -> Any:
    """OpenVINO's core, kept until the process ends.

    Its CPU plugin installs a stack for signal handlers, which it frees with the last core but leaves installed: Ctrl-C
    would then crash the process.
    """
    return _openvino_without_telemetry().Core()


def _openvino_without_telemetry() -> Any:
    """Imports OpenVINO; it would tell its makers over the network, in a process of its own, that it was imported."""
    if "openvino" not in sys.modules:
        known = sys.modules.get("openvino_telemetry")
        sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]  # importing it fails
        try:
            return importlib.import_module("openvino")
        finally:
            del sys.modules["openvino_telemetry"]
            if known is not None:
                sys.modules["openvino_telemetry"] = known
    return importlib.import_module("openvino")


def _not_run(runtime: str, error: Exception) -> UserError:
    """What a runtime says: it has some operations only for some dtypes and shapes."""
    text = " ".join(str(error).split())[:300]
    return UserError(f"{runtime} does not run this network: {text}")


def made_up_crops(track: TrackSpec) -> list[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Batches of made-up crops to compare two networks on: bumpy surfaces, with holes.

    Returns:
      For batches of some sizes B, float32: crops (B, S, S) in mm (gray levels on K2HPD), their centers (B, 3) px px mm
      and boxes (B, 4) px in the track's frames.
    """
    found = []
    for rows in _CHECKED_BATCHES:
        rng, size = np.random.default_rng(rows), track.crop_size
        width, height = track.frame_size
        depth = rng.uniform(600.0, 900.0, rows)
        bumps = np.cumsum(rng.normal(0, 4, (rows, size, size)), axis=-1)
        crops = (bumps + depth[:, None, None]) * (rng.random((rows, size, size)) > 0.1)
        if track.frame_format == "stretch8":
            crops = np.clip(crops / 4, 0, 255).round()
        center = rng.uniform(0.3, 0.7, (rows, 2)) * (width, height)
        reach = rng.uniform(0.1, 0.25, (rows, 2)) * (width, height)
        box = np.concatenate([center - reach, center + reach], axis=-1)
        centers = np.column_stack([center, depth]).astype(np.float32)
        found.append((crops.astype(np.float32), centers, box.astype(np.float32)))
    return found


def largest_difference(
    theirs: Callable[..., Mapping[str, Any]],
    ours: Function,
    batches: Iterable[Sequence[np.ndarray]],
) -> float:
    """Largest difference in a joint between two functions, mm (px in 2D).

    Args:
      theirs: of arrays: what was translated or exported, returning arrays by name.
      ours: what it was made of.
      batches: arguments for each call.

    Raises:
      UserError: ours computes numbers that are not finite; outputs of other shapes, or confidences of other values.
        NaN: only their joints are not finite.
    """
    found = []
    for given in batches:
        answer, expected = theirs(*given), jax.jit(ours)(*given)
        check_finite(*expected.values())
        shapes = [{n: np.shape(x) for n, x in each.items()} for each in (answer, expected)]
        if shapes[0] != shapes[1]:
            raise UserError(
                f"the exported network's outputs have shapes {shapes[0]}, the checkpoint's {shapes[1]}"
            )
        sure, as_sure = (np.asarray(each.get("confidence", 0.0)) for each in (expected, answer))
        if not np.allclose(as_sure, sure, rtol=1e-3, atol=1e-3):
            most = np.abs(as_sure - sure).max()
            raise UserError(
                f"the exported network's confidence differs from the checkpoint's by {most:g}"
            )
        name = "joints_xyz_mm" if "joints_xyz_mm" in expected else "joints_uvd"
        apart = np.abs(np.asarray(answer[name]) - np.asarray(expected[name]))
        found.append(apart.max())
    return float(np.max(found))  # NaN, if one is; `max` would leave it out
