"""A network as one file that needs nothing of this package: a crop in mm and its center -> joints in mm.

The file is StableHLO as `jax.export` serializes it, or ONNX, for any number of crops, with the weights inside. A JSON
file beside it says what it takes and what it is. docs/export.md has the lines that load it.
"""

import dataclasses
import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from a2j_jax import __version__
from a2j_jax.errors import UserError
from a2j_jax.files import replacing_together, write_json
from a2j_jax.geometry import Camera
from a2j_jax.inference.predictor import Predictor, check_finite
from a2j_jax.lowering import lowering_for
from a2j_jax.models.prepared import prepare_for_inference
from a2j_jax.tracks import TrackRecord, TrackSpec

FORMATS = ("stablehlo", "onnx")
PLATFORMS = ("cpu", "cuda", "rocm", "tpu")
#: Largest difference between the file and the predictor, mm (px in 2D), that passes for rounding.
TOLERANCE = 0.05
_CHECKED_BATCHES = (1, 3)


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
    weights = predictor.variables if variables is None else variables

    def function(crop_mm: jax.Array, place: jax.Array) -> dict[str, jax.Array]:
        box, depth = place, jnp.zeros(place.shape[0])
        if by_center:
            assert camera is not None
            box, depth = _window(place, camera, track), place[:, 2]
        found = predictor.core(weights, crop_mm, box, depth, fixed)
        named = {
            "joints_uvd": found.uvd,
            "joints_xyz_mm": found.xyz_mm,
            "confidence": found.confidence,
        }
        # float32 whatever JAX_ENABLE_X64 says, as the description promises
        return {n: value.astype(jnp.float32) for n, value in named.items() if value is not None}

    return function


def _window(center_uvd: jax.Array, camera: Camera, track: TrackSpec) -> jax.Array:
    """`geometry.box_from_center` and `clip_box`, on the device: (B, 3) px px mm -> (B, 4) px."""
    assert track.half_window_mm is not None
    focal = jnp.abs(jnp.array([camera.fx, camera.fy], jnp.float32))
    reach = track.half_window_mm * focal / center_uvd[:, 2:]
    last = jnp.array([side - 1.0 for side in track.frame_size], jnp.float32)
    corners = [jnp.clip(center_uvd[:, :2] + sign * reach, 0.0, last) for sign in (-1.0, 1.0)]
    return jnp.concatenate(corners, axis=-1)


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
            raise _not_exported(predictor, error) from error

    contents = exported(platforms).serialize()
    here = jax.devices()[0].platform.replace("gpu", "cuda")
    # A program for another machine's devices cannot run here: the same operations, for this one's, can.
    checked = contents if here in platforms else exported([here, *platforms]).serialize()
    loaded = jax.export.deserialize(bytearray(checked))
    difference = _difference(loaded.call, function, track)
    about = {"format": "stablehlo", "platforms": platforms, **_about(predictor, difference)}
    if not difference <= TOLERANCE:
        raise UserError(
            f"{_too_far(out, difference, track)}; use --platform {here} alone, or another version of JAX"
        )
    _write(out, contents, about)
    return about


def export_onnx(predictor: Predictor, out: str | Path) -> dict[str, Any]:
    """Write the function as ONNX, and its description, once ONNX Runtime's answers were compared with the predictor's.

    Batch norm is folded into the convolutions (`models.prepared`).

    Args:
      predictor: to export.
      out: file to write, e.g. hand.onnx; the description is beside it, and in its metadata as "a2j_jax".

    Returns:
      The description, with the largest "difference" that was found, mm (px in 2D).

    Raises:
      UserError: as `export_stablehlo`; a network with an operation that has no translation to ONNX.
    """
    if missing := [name for name in ("onnx", "onnxruntime") if find_spec(name) is None]:
        raise UserError(
            f"exporting ONNX needs {' and '.join(missing)}: pip install 'a2j-jax[export]'"
        )
    import onnx
    import onnxruntime

    from a2j_jax.inference.onnx_graph import OPSET, model_of

    out, track, model = Path(out), predictor.track, predictor.model
    description_of(out)
    try:
        # Plain convolutions, which ONNX has, in float32, whatever JAX_ENABLE_X64 says.
        with lowering_for("gpu"), jax.enable_x64(False):
            quick = prepare_for_inference(model, predictor.variables, track.crop_size)
            translated = model_of(exported_function(predictor, quick), _inputs(track))
    except Exception as error:
        raise _not_exported(predictor, error) from error
    contents = translated.SerializeToString()
    settings = onnxruntime.SessionOptions()
    settings.log_severity_level = 3  # errors
    try:
        session = onnxruntime.InferenceSession(
            contents, settings, providers=["CPUExecutionProvider"]
        )
    except Exception as error:
        raise _not_run(predictor, error) from error

    def answer(*given: np.ndarray) -> dict[str, np.ndarray]:
        names = [each.name for each in session.get_outputs()]
        try:
            found = session.run(None, dict(zip(_inputs(track), given, strict=True)))
        except Exception as error:
            raise _not_run(predictor, error) from error
        return dict(zip(names, found, strict=True))

    difference = _difference(answer, exported_function(predictor), track)
    about = {"format": "onnx", "opset": OPSET, **_about(predictor, difference)}
    about["versions"] |= {"onnx": onnx.__version__, "onnxruntime": onnxruntime.__version__}
    if not difference <= TOLERANCE:
        raise UserError(_too_far(out, difference, track))
    onnx.helper.set_model_props(translated, {"a2j_jax": json.dumps(about)})
    _write(out, translated.SerializeToString(), about)
    return about


def _not_run(predictor: Predictor, error: Exception) -> UserError:
    """What ONNX Runtime says: it has some operations only for some dtypes."""
    text = " ".join(str(error).split())[:300]
    return UserError(f"{type(predictor.model).__name__} cannot be exported: {text}")


def _not_exported(predictor: Predictor, error: Exception) -> UserError:
    network = type(predictor.model).__name__
    if isinstance(error, UserError):
        return UserError(f"{network} cannot be exported: {error}")
    text = " ".join(f"{type(error).__name__}: {error}".split())[:300]
    return UserError(
        f"{network} cannot be exported for any number of crops: {text}; take sizes from x.shape, not from len(x) or "
        "int(...)"
    )


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
    found = jax.eval_shape(exported_function(predictor), *_probe(track, 1))
    return {
        "inputs": {name: ["batch", *each.shape[1:]] for name, each in _inputs(track).items()},
        "outputs": {name: ["batch", *each.shape[1:]] for name, each in found.items()},
        "track": dataclasses.asdict(TrackRecord.of(track)),
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
        write_json(folder / description.name, about)


def description_of(out: Path) -> Path:
    """The file that describes an exported one, beside it: hand.json of hand.stablehlo, hand.onnx.json of hand.onnx.

    Raises:
      UserError: `out` has no suffix, or that of the description.
    """
    if out.suffix in ("", ".json"):
        raise UserError(f"{out}: expected the name of a file such as hand.stablehlo")
    return out.with_name(f"{out.name}.json") if out.suffix == ".onnx" else out.with_suffix(".json")


def _probe(track: TrackSpec, rows: int) -> tuple[np.ndarray, np.ndarray]:
    """Made-up crops and places: a bumpy surface, with holes, around each center."""
    rng, size = np.random.default_rng(rows), track.crop_size
    width, height = track.frame_size
    depth = rng.uniform(600.0, 900.0, rows)
    bumps = np.cumsum(rng.normal(0, 4, (rows, size, size)), axis=-1)
    crops = (bumps + depth[:, None, None]) * (rng.random((rows, size, size)) > 0.1)
    if track.frame_format == "stretch8":
        crops = np.clip(crops / 4, 0, 255).round()
    center = rng.uniform(0.3, 0.7, (rows, 2)) * (width, height)
    if track.crop_by == "center":
        place = np.column_stack([center, depth])
    else:
        reach = rng.uniform(0.1, 0.25, (rows, 2)) * (width, height)
        place = np.concatenate([center - reach, center + reach], axis=-1)
    return crops.astype(np.float32), place.astype(np.float32)


def _difference(
    exported: Callable[..., Mapping[str, Any]], function: Callable[..., Any], track: TrackSpec
) -> float:
    """Largest difference in a joint between an exported function and the original, for batches of several sizes.

    Raises:
      UserError: the original's numbers are not finite; outputs of other shapes, or confidences of other values. NaN:
        only the exported one's joints are not finite.
    """
    found = []
    for rows in _CHECKED_BATCHES:
        given = _probe(track, rows)
        theirs, ours = exported(*given), jax.jit(function)(*given)
        check_finite(*ours.values())
        shapes = [{n: np.shape(x) for n, x in each.items()} for each in (theirs, ours)]
        if shapes[0] != shapes[1]:
            raise UserError(
                f"the exported network's outputs have shapes {shapes[0]}, the checkpoint's {shapes[1]}"
            )
        sure, as_sure = (np.asarray(each.get("confidence", 0.0)) for each in (ours, theirs))
        if not np.allclose(as_sure, sure, rtol=1e-3, atol=1e-3):
            most = np.abs(as_sure - sure).max()
            raise UserError(
                f"the exported network's confidence differs from the checkpoint's by {most:g}"
            )
        name = "joints_xyz_mm" if "joints_xyz_mm" in ours else "joints_uvd"
        apart = np.abs(np.asarray(theirs[name]) - np.asarray(ours[name]))
        found.append(apart.max())
    return float(np.max(found))  # NaN, if one is; `max` would leave it out


def _digest(variables: Any) -> str:
    """SHA-256 of weights and their names."""
    digest = hashlib.sha256()
    for path, leaf in jax.tree_util.tree_leaves_with_path(variables):
        digest.update(jax.tree_util.keystr(path).encode())
        digest.update(np.asarray(leaf).tobytes())
    return digest.hexdigest()
