"""Exported networks: ONNX and the programs that run it on a processor, and joints by a file that `a2j export` wrote.

ONNX Runtime and OpenVINO run what `onnx_of` translates, for `Predictor` as for a file. `ExportedPredictor` gives the
joints of such a file, or of StableHLO, as the `Predictor` that it was made of.
"""

import dataclasses
import functools
import hashlib
import importlib
import json
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal, cast, get_args

import jax
import numpy as np

from a2j_jax import __version__
from a2j_jax.errors import UserError, did_you_mean
from a2j_jax.files import json_digest, local_path, read_json
from a2j_jax.geometry import Camera, Float64
from a2j_jax.inference.frame_predictor import FrameCrop, FramePredictor, check_finite
from a2j_jax.inference.onnx_graph import model_of
from a2j_jax.log import logger
from a2j_jax.lowering import lowering_for
from a2j_jax.tracks import TRACKS, Skeleton, TrackRecord, TrackSpec

# --- Runtimes

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
    """Imports OpenVINO, without the process that it would start to report the import over the network."""
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


# --- Files of `a2j export`

#: Of the files that can be read back.
SUFFIXES = (".onnx", ".stablehlo")
_SEAL = "description_sha256"
_NEEDED = ("inputs", "outputs", "track", "camera", "versions", "weights_sha256", _SEAL)
_UNSEALED = {_SEAL, "file_sha256", "written_by"}


class ExportedPredictor(FramePredictor):
    """A network in a file of `a2j export`: whole frames, crops and batches as with `Predictor`, without its checkpoint.

    The file's camera and frame size are those that it was exported for; frames of others are refused. On a track that
    crops by center, a call takes a center or none, no box.

    Attributes:
      track: what the file says of it: crop, joints, camera, size of its frames.
      camera: of the frames; None on 2D tracks.
      about: the description: format, inputs, outputs, versions, step, digest of the weights.
      runtime: that runs it.
      compile_seconds: time of a first call, with a blank crop.
    """

    def __init__(
        self,
        track: TrackSpec,
        run: Callable[[Mapping[str, np.ndarray]], Mapping[str, Any]],
        about: Mapping[str, Any],
        runtime: str,
    ) -> None:
        """For a function that is loaded; see `from_file`."""
        super().__init__(track)
        self.about, self.runtime, self._run = about, runtime, run
        started = time.perf_counter()
        shapes = {name: tuple(shape[1:]) for name, shape in about["inputs"].items()}
        found = run({name: np.ones((1, *shape), np.float32) for name, shape in shapes.items()})
        joints = (1, track.num_joints)
        expected = {"joints_uvd": (*joints, track.joint_dims), "confidence": joints}
        outputs = {name: np.shape(found[name]) for name in expected if name in found}
        dtypes = {str(np.asarray(found[name]).dtype) for name in outputs}
        if outputs != expected or dtypes != {"float32"}:
            raise UserError(
                f"the exported network's outputs have shapes {outputs} of {', '.join(dtypes) or 'nothing'}, expected "
                f"{expected} of float32: not a file of a2j export, or its description is of another; export it again"
            )
        self.compile_seconds = time.perf_counter() - started

    @classmethod
    def from_file(
        cls, path: str | Path, runtime: Runtime | None = None, precision: str = "float32"
    ) -> "ExportedPredictor":
        """Loads a file, and compares its description with it and with what is installed.

        Args:
          path: `.onnx`, which describes itself, or `.stablehlo`, beside the JSON file that describes it.
          runtime: for ONNX "onnxruntime" (the default) or "openvino"; for StableHLO "jax".
          precision: that OpenVINO computes in: "float32" or "bfloat16".

        Raises:
          UserError: no such file; not one of `a2j export`; a description of another file; a runtime that is for the
            other format, or is not installed.
        """
        path = local_path(path, "exported network")
        if path.suffix not in SUFFIXES:
            raise UserError(
                f"{path}: expected a file of a2j export, named *{' or *'.join(SUFFIXES)}"
            )
        known = ("jax",) if path.suffix == ".stablehlo" else RUNTIMES[1:]
        chosen = check_runtime(runtime or known[0])
        if chosen not in known:
            raise UserError(f"{path}: a {path.suffix[1:]} file runs by {' or '.join(known)}")
        try:
            contents = path.read_bytes()
        except OSError as error:
            raise UserError(f"{path}: cannot be read: {error.strerror}") from error
        about = _description(path, contents)
        try:
            track = _track_of(path, about)
        except UserError:
            raise
        except (AttributeError, LookupError, TypeError, ValueError) as error:
            raise UserError(f"{path}: its description is damaged: {error!r}") from error
        _check_inputs(path, about, track)
        if chosen == "jax":
            return cls(track, _jax_call(path, contents), about, chosen)
        return cls(track, running(contents, chosen, precision), about, chosen)

    def crop(
        self,
        depth_mm: Any,
        center_uvd: Any = None,
        box_px: Any = None,
        camera: Camera | None = None,
        name: str = "depth frame",
    ) -> FrameCrop:
        """As `FramePredictor.crop`, for the file's camera and size of frames.

        Raises:
          UserError: as that; a frame of another size, another camera, or a box on a track that crops by center.
        """
        if camera is not None and camera != self.camera:
            raise UserError(
                f"the network was exported for {self.camera}; expected frames of this camera, not of {camera}: "
                "export one for it (a2j export --fx --fy --cx --cy)"
            )
        width, height = self.track.frame_size
        if np.shape(depth_mm)[:2] != (height, width) and np.ndim(depth_mm) == 2:
            found = "x".join(map(str, np.shape(depth_mm)[::-1]))
            raise UserError(
                f"{found} px; the network was exported for frames of {width}x{height} px: export one for this "
                "size (a2j export --frame_size)"
            )
        if box_px is not None and self.track.crop_by == "center":
            raise UserError("box_px: the exported network takes a center; give center_uvd")
        return super().crop(depth_mm, center_uvd, box_px, camera, name)

    def _checked(self, frame_crops: Iterable[FrameCrop]) -> list[FrameCrop]:
        """Also refuses crops that are cut as the file's function does not assume it."""
        found = super()._checked(frame_crops)
        expected = (self.camera, self.track.frame_size, self.track.crop_by == "center")
        for crop in found:
            if (crop.camera, crop.frame_size, crop.center_uvd is not None) != expected:
                by = "center" if expected[2] else "box"
                raise UserError(
                    f"crops: one is of {crop.camera} and a frame of {crop.frame_size} px; expected a crop by {by} of "
                    f"{expected[0]} and {expected[1]} px: cut the frame with this predictor's crop"
                )
        return found

    def _joints(self, frame_crops: Sequence[FrameCrop]) -> tuple[Float64, Float64]:
        centers = [crop.center_uvd for crop in frame_crops]
        places = centers if self.track.crop_by == "center" else [c.box_px for c in frame_crops]
        name = "center_uvd" if self.track.crop_by == "center" else "box_px"
        images = np.stack([crop.image_mm for crop in frame_crops])
        found = self._run({"crop_mm": images, name: np.asarray(places, np.float32)})
        joints, confidence = (np.asarray(found[n]) for n in ("joints_uvd", "confidence"))
        return joints.astype(np.float64), confidence.astype(np.float64)


def description_of(out: Path) -> Path:
    """The file that describes an exported one, beside it: hand.json of hand.stablehlo, hand.onnx.json of hand.onnx.

    Raises:
      UserError: `out` has no suffix, or that of the description.
    """
    if out.suffix in ("", ".json"):
        raise UserError(f"{out}: expected the name of a file such as hand.stablehlo")
    return out.with_name(f"{out.name}.json") if out.suffix == ".onnx" else out.with_suffix(".json")


def _description(path: Path, contents: bytes) -> dict[str, Any]:
    """What a file says of itself, or the file beside it; of both, they must agree.

    Raises:
      UserError: there is none; it lacks something; it has changed, or describes another file.
    """
    beside = description_of(path)
    found = {}
    if path.suffix == ".onnx":
        found[path] = _metadata(path, contents)
    if beside.is_file():
        found[beside] = read_json(beside, "the description of an exported network")
    elif not found:
        raise UserError(
            f"{beside}: no such file; expected the description that a2j export wrote beside {path.name}"
        )
    for where, about in found.items():
        needed = _NEEDED if where == path else (*_NEEDED, "file_sha256")
        missing = [key for key in needed if not isinstance(about, dict) or key not in about]
        if missing:
            raise UserError(
                f"{where}: the description lacks {', '.join(missing)}; expected what a2j export wrote"
            )
        if about[_SEAL] != sealed(about)[_SEAL]:
            raise UserError(
                f"{where}: the description has changed since a2j export wrote it; export again, with the camera and "
                "frame size that it is for (--fx --fy --cx --cy --frame_size)"
            )
    about = next(iter(found.values()))
    if beside in found and found[beside]["file_sha256"] != hashlib.sha256(contents).hexdigest():
        raise UserError(
            f"{beside} describes another file than {path.name}: expected the two that a2j export wrote together"
        )
    return dict(about)


def sealed(about: Mapping[str, Any]) -> dict[str, Any]:
    """A description with a digest of itself, but for what `a2j export` adds to the file beside."""
    contents = {key: value for key, value in about.items() if key not in _UNSEALED}
    return {**about, _SEAL: json_digest(contents)}


def graph_digest(model: Any) -> str:
    """SHA-256 of an ONNX model's graph, weights included, hexadecimal."""
    return hashlib.sha256(model.graph.SerializeToString(deterministic=True)).hexdigest()


def _metadata(path: Path, contents: bytes) -> Any:
    """The description inside an ONNX file.

    Raises:
      UserError: not an ONNX file, or not one of `a2j export`.
    """
    check_runtime("onnxruntime")
    import onnx
    from google.protobuf.message import DecodeError

    try:
        model = onnx.load_model_from_string(contents)
        told = {each.key: each.value for each in model.metadata_props}.get("a2j_jax")
        about = json.loads(told or "")
    except (DecodeError, RecursionError, ValueError) as error:
        raise UserError(f"{path}: expected an ONNX file of a2j export") from error
    if isinstance(about, dict) and about.get("graph_sha256") not in (None, graph_digest(model)):
        raise UserError(
            f"{path}: the network has changed since a2j export wrote it, its description has not; run it with "
            "onnxruntime itself, or export it again"
        )
    return about


def _jax_call(path: Path, contents: bytes) -> Callable[..., Any]:
    """A StableHLO file's function of named arrays.

    Raises:
      UserError: not StableHLO as `jax.export` writes it, or for other platforms.
    """
    try:
        loaded = jax.export.deserialize(bytearray(contents))
    except Exception as error:  # of several kinds, by the place of the damage
        raise UserError(f"{path}: cannot be read as StableHLO: {error}") from error
    here = jax.default_backend().replace("gpu", "cuda")
    if here not in loaded.platforms:
        raise UserError(
            f"{path}: was exported for {', '.join(loaded.platforms)}; this is {here}: a2j export --platform {here}"
        )
    call = jax.jit(loaded.call)

    def run(given: Mapping[str, np.ndarray]) -> Any:
        try:
            return jax.block_until_ready(call(*given.values()))
        except (
            Exception
        ) as error:  # of several kinds, as JAX's compiler or the program itself raise them
            text = " ".join(str(error).split())[:300]
            raise UserError(
                f"{path}: cannot be run: {text}; export it again with this version of JAX"
            ) from error

    return run


def _check_inputs(path: Path, about: Mapping[str, Any], track: TrackSpec) -> None:
    """Refuses a description whose inputs are not those of its track."""
    place = {"center_uvd": ["batch", 3]} if track.crop_by == "center" else {"box_px": ["batch", 4]}
    expected = {"crop_mm": ["batch", track.crop_size, track.crop_size], **place}
    if about["inputs"] != expected:
        raise UserError(
            f"{path}: its description is damaged: inputs {about['inputs']!r}, expected {expected}"
        )


def _track_of(path: Path, about: Mapping[str, Any]) -> TrackSpec:
    """The track that a file was exported for; logs where the installed one of that name differs.

    Raises:
      UserError: a description that is not one of a track.
    """
    told = about["track"]
    record = TrackRecord.from_json(told)
    joints, dims = record.joints, 3 if "joints_xyz_mm" in about["outputs"] else 2
    like = next(
        (t for t in TRACKS.values() if (t.crop_by, t.joint_dims) == (record.crop_by, dims)), None
    )
    if like is None or joints is None or record.crop_size is None or record.frame_size is None:
        raise UserError(f"{path}: its description of the track is not complete")
    known = TRACKS.get(str(record.track))
    camera = None if about["camera"] is None else Camera.from_array(about["camera"])
    if known is None:
        limbs = tuple((name, tuple(chain)) for name, chain in told.get("limbs", {}).items())
        skeleton = Skeleton(str(record.track), joints, limbs)
        known = dataclasses.replace(like, name=str(record.track), skeleton=skeleton)
    else:
        asked = ("camera", "frame_size", "crop_size")
        changed = record.differences(TrackRecord.of(known), but=asked)
        if record.joints != known.skeleton.joints:
            raise UserError(f"{path}: another version of track {known.name}: {'; '.join(changed)}")
        if changed:
            logger.warning(
                f"{path}: track {known.name} of the version that exported it: {'; '.join(changed)}"
            )
    exported_by = about["versions"].get("a2j_jax")
    if exported_by != __version__:
        logger.info(f"{path}: exported by a2j_jax {exported_by}; this is {__version__}")
    fields = ("half_window_mm", "depth_window_mm", "depth_reference", "storage_unit_mm")
    values = {name: getattr(record, name) for name in (*fields, "crop_size", "depth_unit_mm")}
    values["label_box_margin_px"] = told.get("label_box_margin_px")
    return dataclasses.replace(
        known,
        camera=camera,
        frame_size=(record.frame_size[0], record.frame_size[1]),
        **{name: value for name, value in values.items() if value is not None},
    )
