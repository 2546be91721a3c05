"""A network as one file that needs nothing of this package: a crop in mm and its center -> joints in mm.

The file is StableHLO as `jax.export` serializes it, or ONNX, for any number of crops, with the weights inside. A JSON
file beside it says what it takes and what it is. docs/export.md has the lines that load it.
"""

import dataclasses
import hashlib
import json
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from a2j_jax import __version__
from a2j_jax.data import targets
from a2j_jax.errors import UserError
from a2j_jax.files import replacing_together, write_json
from a2j_jax.inference.exported import (
    TOLERANCE,
    Answer,
    check_runtime,
    description_of,
    graph_digest,
    largest_difference,
    made_up_crops,
    not_exported,
    onnx_of,
    running,
    sealed,
)
from a2j_jax.inference.frame_predictor import check_finite
from a2j_jax.inference.onnx_graph import OPSET
from a2j_jax.inference.predictor import Predictor
from a2j_jax.lowering import lowering_for
from a2j_jax.models.prepared import prepare_for_inference
from a2j_jax.runs.load import Restored, restore, save_packed
from a2j_jax.synthetic.views import track_crops, track_frames
from a2j_jax.tracks import TrackRecord, TrackSpec

FORMATS = ("stablehlo", "onnx", "weights")
Inputs = Mapping[
    str, np.ndarray
]  # one crop and its place, by the names that an exported function has for them
_CALIBRATED_ON, _COMPARED_ON = 64, 32  # rendered frames, of int8
PLATFORMS = ("cpu", "cuda", "rocm", "tpu")


def exported_function(
    predictor: Predictor, variables: Any = None
) -> Callable[..., dict[str, jax.Array]]:
    """What is exported: (crops, places) -> joints, by name, for B crops.

    Args:
      predictor: its network, weights, track and camera become constants.
      variables: instead of the predictor's, such as prepared ones.

    Returns:
      A function of `crop_mm` (B, S, S) float32 depth in mm, 0 = no reading (gray levels on K2HPD), and, as the track
      crops by, `center_uvd` (B, 3) px px mm or `box_px` (B, 4) px, clipped to the frame. Its result has "joints_uvd"
      (B, K, 3) px px mm or (B, K, 2) px, "confidence" (B, K), and on a 3D track "joints_xyz_mm" (B, K, 3).

    Raises:
      UserError: a track that crops by center, and no camera.
    """
    track, camera = predictor.track, predictor.camera
    by_center = track.crop_by == "center"
    if by_center and camera is None:
        raise UserError(f"track {track.name!r} crops by center, and has no camera: give one")
    fixed = None if camera is None else jnp.asarray(camera.as_array(), jnp.float32)
    last = jnp.array([side - 1.0 for side in track.frame_size], jnp.float32)
    weights = predictor.variables if variables is None else variables

    def function(crop_mm: jax.Array, place: jax.Array) -> dict[str, jax.Array]:
        box, depth = place, jnp.zeros(place.shape[0])
        if by_center:
            assert fixed is not None
            assert track.half_window_mm is not None
            depth = place[:, 2]
            box = targets.box_from_center(place, fixed, track.half_window_mm, last)
        found = predictor.core(weights, crop_mm, box, depth, fixed)
        named = {
            "joints_uvd": found.uvd,
            "joints_xyz_mm": found.xyz_mm,
            "confidence": found.confidence,
        }
        # float32 whatever JAX_ENABLE_X64 says, as the description promises
        return {n: value.astype(jnp.float32) for n, value in named.items() if value is not None}

    return function


def export_stablehlo(
    predictor: Predictor, out: str | Path, platforms: Sequence[str] = ("cpu",)
) -> dict[str, Any]:
    """Write the function and its description, once the file's own answers were compared with the predictor's.

    Args:
      predictor: to export.
      out: file to write; the description is beside it, with the suffix ".json".
      platforms: of `PLATFORMS`, that the file can run on.

    Returns:
      The description, with the largest "difference" that was found, mm (px in 2D).

    Raises:
      UserError: the file answers otherwise than the predictor, with numbers that are not finite, or cannot be written;
        the extra is not installed; no such platform; a network that cannot be traced for a batch of unknown size.
    """
    if find_spec("flatbuffers") is None:  # what `jax.export` writes with
        raise UserError("exporting needs flatbuffers: pip install 'a2j-jax[export]'")
    out, track = Path(out), predictor.track
    description_of(out)
    asked = [platforms] if isinstance(platforms, str) else platforms
    platforms = list(dict.fromkeys(asked))  # each once
    if not platforms or not set(platforms) <= set(PLATFORMS):
        raise UserError(f"platforms {platforms}: expected some of {', '.join(PLATFORMS)}")
    function, shapes = exported_function(predictor), list(_inputs(track).values())

    def exported(names: Sequence[str]) -> jax.export.Exported:
        # For others than the CPU, or for several: XLA's own operations, not those that are faster on a CPU.
        target = next((name for name in names if name != "cpu"), "cpu")
        try:
            with lowering_for("gpu" if target in ("cuda", "rocm") else target):
                return jax.export.export(jax.jit(function), platforms=list(names))(*shapes)
        except Exception as error:  # of a network of somebody's own
            raise not_exported(type(predictor.model).__name__, error) from error

    contents = exported(platforms).serialize()
    here = jax.devices()[0].platform.replace("gpu", "cuda")
    # A program for another machine's devices cannot run here: the same operations, for this one's, can.
    checked = contents if here in platforms else exported([here, *platforms]).serialize()
    loaded = jax.export.deserialize(bytearray(checked))
    difference = largest_difference(loaded.call, function, _probes(track))
    about = sealed({"format": "stablehlo", "platforms": platforms, **_about(predictor, difference)})
    if not difference <= TOLERANCE:
        raise UserError(
            f"{_too_far(out, difference, track)}; use --platform {here} alone, or another version of JAX"
        )
    _write(out, contents, about)
    return about


def export_onnx(predictor: Predictor, out: str | Path, int8: bool = False) -> dict[str, Any]:
    """Write the function as ONNX, and its description, once ONNX Runtime's answers were compared with the predictor's.

    Batch norm is folded into the convolutions (`models.prepared`).

    Args:
      predictor: to export.
      out: file to write, e.g. hand.onnx; the description is beside it, and in its metadata as "a2j_jax".
      int8: convolutions in 8-bit integers (`quantized`), their ranges found on crops of rendered hands or
        bodies, and what this costs measured on others.

    Returns:
      The description, with the largest "difference" that was found in float32, mm (px in 2D), and of int8 the "cost":
      mean and largest distance of joints from those in float32.

    Raises:
      UserError: as `export_stablehlo`; a network with an operation that has no translation to ONNX.
    """
    check_runtime("onnxruntime")
    import onnx

    out, track, model = Path(out), predictor.track, predictor.model
    description_of(out)
    with lowering_for("gpu"):  # without what is for XLA's CPU compiler alone
        quick = prepare_for_inference(model, predictor.variables, track.crop_size)
    function, inputs = exported_function(predictor, quick), _inputs(track)
    contents = onnx_of(function, inputs, type(model).__name__).SerializeToString()
    run = running(contents, "onnxruntime")
    difference = largest_difference(
        lambda *given: run(dict(zip(inputs, given, strict=True))),
        exported_function(predictor),
        _probes(track),
    )
    about = {"format": "onnx", "opset": OPSET, **_about(predictor, difference)}
    about["versions"] |= {name: version(name) for name in ("onnx", "onnxruntime")}
    if not difference <= TOLERANCE:
        raise UserError(_too_far(out, difference, track))
    if int8:
        contents = quantized(contents, [*rendered_crops(predictor, _CALIBRATED_ON)])
        about["int8"] = {"calibrated_on": f"{_CALIBRATED_ON} rendered frames"}
        about["int8"]["cost"] = _cost(predictor, run, running(contents, "onnxruntime"))
    described = onnx.load_model_from_string(contents)
    about = sealed({**about, "graph_sha256": graph_digest(described)})
    onnx.helper.set_model_props(described, {"a2j_jax": json.dumps(about)})
    _write(out, described.SerializeToString(), about)
    return about


def export_weights(restored: Restored, out: str | Path) -> dict[str, Any]:
    """Write the network's weights as one file, see `weights.packed`, and compare what is read back.

    Args:
      restored: the network.
      out: file to write, e.g. hand.npz.

    Returns:
      The "cost" of rounding to float16: mean and largest distance of joints on rendered frames, and their unit.

    Raises:
      UserError: as `runs.load.save_packed`.
    """
    save_packed(restored, out)
    exact, rounded = (
        Predictor(one.model, one.variables, one.track) for one in (restored, restore(out))
    )
    runs = [jax.jit(exported_function(one)) for one in (exact, rounded)]
    answers = [lambda given, run=run: run(*given.values()) for run in runs]
    return _cost(exact, answers[0], answers[1])


def _cost(predictor: Predictor, exact: Answer, rounded: Answer) -> dict[str, Any]:
    """How far joints move on rendered frames that were not calibrated on, mm (px in 2D)."""
    crops = [*rendered_crops(predictor, _COMPARED_ON, seed=_CALIBRATED_ON)]
    name = "joints_xyz_mm" if predictor.track.joint_dims == 3 else "joints_uvd"
    moved = np.stack([rounded(crop)[name] - exact(crop)[name] for crop in crops])
    check_finite(moved)
    apart = np.linalg.norm(moved, axis=-1)
    unit = predictor.track.error_unit
    return {
        "mean": float(apart.mean()),
        "largest": float(apart.max()),
        "unit": unit,
        "frames": _COMPARED_ON,
    }


def _inputs(track: TrackSpec) -> dict[str, jax.ShapeDtypeStruct]:
    """Names and shapes of what the function takes, for any number of crops."""
    batch = jax.export.symbolic_shape("batch")[0]
    size, by_center = track.crop_size, track.crop_by == "center"
    place = ("center_uvd", 3) if by_center else ("box_px", 4)
    shapes = {"crop_mm": (batch, size, size), place[0]: (batch, place[1])}
    return {name: jax.ShapeDtypeStruct(shape, jnp.float32) for name, shape in shapes.items()}


def _about(predictor: Predictor, difference: float) -> dict[str, Any]:
    """What the description says of any format."""
    track = predictor.track
    found = jax.eval_shape(exported_function(predictor), *_probes(track)[0])
    return {
        "inputs": {name: ["batch", *each.shape[1:]] for name, each in _inputs(track).items()},
        "outputs": {name: ["batch", *each.shape[1:]] for name, each in found.items()},
        "track": {
            **dataclasses.asdict(TrackRecord.of(track)),
            "limbs": dict(track.skeleton.limbs),
            "label_box_margin_px": track.label_box_margin_px,
        },
        "camera": None if predictor.camera is None else dataclasses.astuple(predictor.camera),
        "step": predictor.step,
        "weights_sha256": _digest(predictor.variables),
        "versions": {"a2j_jax": __version__, "jax": jax.__version__},
        "difference": difference,
    }


def _too_far(out: Path, difference: float, track: TrackSpec) -> str:
    return (
        f"{out}: not written: the exported network differs from the checkpoint's by {difference:g} {track.error_unit}, "
        f"more than {TOLERANCE:g}"
    )


def _write(out: Path, contents: bytes | bytearray, about: dict[str, Any]) -> None:
    """The file and its description, both or none."""
    description = description_of(out)
    with replacing_together(out.parent, description.name) as folder:
        (folder / out.name).write_bytes(contents)
        digest = hashlib.sha256(contents).hexdigest()
        write_json(folder / description.name, {**about, "file_sha256": digest})


def _probes(track: TrackSpec) -> list[tuple[np.ndarray, np.ndarray]]:
    """Batches of made-up crops, with the places that the function takes."""
    by_center = track.crop_by == "center"
    return [(crop, center if by_center else box) for crop, center, box in made_up_crops(track)]


def _digest(variables: Any) -> str:
    """SHA-256 of weights and their names."""
    digest = hashlib.sha256()
    for path, leaf in jax.tree_util.tree_leaves_with_path(variables):
        digest.update(jax.tree_util.keystr(path).encode())
        digest.update(np.asarray(leaf).tobytes())
    return digest.hexdigest()


def rendered_crops(predictor: Predictor, count: int, seed: int = 0) -> Iterator[Inputs]:
    """Crops of rendered hands or bodies, one at a time, as an exported function takes them.

    Args:
      predictor: of the track; cuts crops of gray levels, which depend on the entire frame.
      count: of crops.
      seed: crop i depends on seed and i alone.
    """
    track = predictor.track
    if track.frame_format == "stretch8":
        for truth in track_frames(track, count, seed):
            crop = predictor.crop(truth["frame"], box_px=truth["window_px"])
            box = np.asarray(crop.box_px, np.float32)
            yield {"crop_mm": crop.image_mm[None], "box_px": box[None]}
    else:
        place = "center_uvd" if track.crop_by == "center" else "box_px"
        for one in track_crops(track, count, seed):
            yield {"crop_mm": one["canvas"][None].astype(np.float32), place: one[place][None]}


def quantized(contents: bytes, crops: Sequence[Inputs]) -> bytes:
    """An ONNX model with its convolutions in 8-bit integers, by ONNX Runtime's static quantization.

    Weights and inputs of a convolution become integers, with one scale for each output channel and one for the input,
    which are found by running the model on the crops. The first and the last convolutions stay as they are: with them
    in 8 bits, joints of the quickstart's network moved by 13 mm, so by 1.2 mm. All else, such as the softmax over
    anchors, stays in float32.

    Args:
      contents: of an ONNX file.
      crops: inputs of the model, to find the ranges of its activations.
    """
    import onnx
    from onnxruntime.quantization import CalibrationDataReader, QuantType, quantize_static

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self._left = iter(crops)

        def get_next(self) -> Inputs | None:
            return next(self._left, None)

    model = onnx.load_model_from_string(contents)
    for number, node in enumerate(model.graph.node):
        node.name = f"{node.op_type}_{number}"
    level = logging.root.manager.disable
    logging.disable(logging.WARNING)  # it advises, by the root logger, what does not apply here
    try:
        with TemporaryDirectory() as folder:
            out = Path(folder) / "quantized.onnx"
            quantize_static(
                model,
                out,
                Reader(),
                op_types_to_quantize=["Conv"],
                nodes_to_exclude=_ends(model.graph.node),
                per_channel=True,
                activation_type=QuantType.QUInt8,
                weight_type=QuantType.QInt8,
            )
            return out.read_bytes()
    finally:
        logging.disable(level)


def _ends(nodes: Sequence[Any]) -> list[str]:
    """Names of the convolutions that no other one comes before, or none comes after; nodes are in order."""
    before, after = set[str](), set[str]()  # tensors that a convolution comes before, or after
    ends = []
    for node in nodes:
        if node.op_type == "Conv" and before.isdisjoint(node.input):
            ends.append(node.name)
        if node.op_type == "Conv" or not before.isdisjoint(node.input):
            before.update(node.output)
    for node in reversed(nodes):
        if node.op_type == "Conv" and after.isdisjoint(node.output):
            ends.append(node.name)
        if node.op_type == "Conv" or not after.isdisjoint(node.output):
            after.update(node.input)
    return ends
