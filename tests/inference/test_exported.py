"""Exported files, read back, and other runtimes: the joints of the predictor, or one clear line."""

import dataclasses
import hashlib
import json
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import onnx
import pytest

from a2j_jax.errors import UserError
from a2j_jax.geometry import Camera
from a2j_jax.inference.export import export_onnx, export_stablehlo
from a2j_jax.inference.exported import ExportedPredictor, description_of, sealed
from a2j_jax.inference.frame_predictor import FramePredictor
from a2j_jax.inference.predictor import Predictor
from a2j_jax.models.anchors import Estimate
from a2j_jax.runs.experiment import resolve
from a2j_jax.tracks import Skeleton, TrackSpec, get_track, with_crop_size
from tests import own_parts, tiny

CENTER, BOX = (150.0, 100.0, 700.0), (90.0, 40.0, 210.0, 165.0)
RUNTIMES = ("onnxruntime", "openvino")


def track_of(name: str) -> TrackSpec:
    built_in = get_track("nyu" if name == "mine" else name)
    track = dataclasses.replace(with_crop_size(built_in, tiny.SIZE), frame_size=(320, 240))
    if name == "mine":  # a track of somebody's own, with another window, camera and skeleton
        joints = tuple(f"joint_{k}" for k in range(track.num_joints))
        skeleton = Skeleton(name, joints, (("all", (0, 1, 2)),))
        camera = Camera(400.0, -410.0, 150.0, 110.0)
        track = dataclasses.replace(
            track, name=name, skeleton=skeleton, camera=camera, half_window_mm=95.0
        )
    return track


@cache
def predictor(name: str, runtime: Any = "jax") -> Predictor:
    built_in = "nyu" if name == "mine" else name
    model = resolve(tiny.quick(track=built_in)).model
    variables = tiny.made_up(tiny.shapes(model))
    return Predictor(model, variables, track_of(name), runtime=runtime)


def frame() -> np.ndarray:
    v, u = np.mgrid[:240, :320]
    return np.where(np.hypot(u - 150, v - 100) < 60, 690.0 + (u + v) % 20, 2001).astype(np.float32)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Exported networks: NAME.onnx and nyu.stablehlo, with their descriptions."""
    folder = tmp_path_factory.mktemp("exported")
    for name in ("nyu", "itop_front", "k2hpd", "mine"):
        export_onnx(predictor(name), folder / f"{name}.onnx")
    export_stablehlo(predictor("nyu"), folder / "nyu.stablehlo")
    return folder


def agree(theirs: FramePredictor, ours: FramePredictor, **where: Any) -> None:
    """Both find the same joints in a frame, alone and in a batch of three."""
    found, wanted = theirs(frame(), **where), ours(frame(), **where)
    np.testing.assert_allclose(found.joints_uvd, wanted.joints_uvd, atol=2e-2)
    np.testing.assert_allclose(found.confidence, wanted.confidence, atol=1e-4)
    np.testing.assert_array_equal(found.box_px, wanted.box_px)
    assert (found.joints_xyz_mm is None) == (wanted.joints_xyz_mm is None)
    if wanted.joints_xyz_mm is not None:
        np.testing.assert_allclose(found.joints_xyz_mm, wanted.joints_xyz_mm, atol=2e-2)  # type: ignore[arg-type]
    batch = theirs.batch([theirs.crop(frame(), **where)] * 3)
    for one in batch:
        np.testing.assert_allclose(one.joints_uvd, wanted.joints_uvd, atol=2e-2)


@pytest.mark.parametrize(
    ("file", "runtime"),
    [
        *((f"{name}.onnx", "onnxruntime") for name in ("nyu", "itop_front", "k2hpd", "mine")),
        ("nyu.onnx", "openvino"),
        ("k2hpd.onnx", "openvino"),
        ("nyu.stablehlo", "jax"),
    ],
)
def test_a_file_answers_as_its_checkpoint(files: Path, file: str, runtime: Any) -> None:
    name = Path(file).stem
    theirs = ExportedPredictor.from_file(files / file, runtime)
    where: Any = {"center_uvd": CENTER} if theirs.track.crop_by == "center" else {"box_px": BOX}
    agree(theirs, predictor(name), **where)
    if name == "nyu":
        agree(theirs, predictor(name))  # located in the frame
    recorded = ("crop_size", "half_window_mm", "frame_size", "camera", "storage_unit_mm")
    for field in recorded:
        assert getattr(theirs.track, field) == getattr(predictor(name).track, field)
    assert theirs.track.skeleton.joints == predictor(name).track.skeleton.joints
    assert theirs.track.skeleton.limbs == predictor(name).track.skeleton.limbs


@pytest.mark.parametrize("runtime", RUNTIMES)
@pytest.mark.parametrize("name", ["nyu", "k2hpd"])
def test_a_predictor_runs_by_another_runtime(name: str, runtime: Any) -> None:
    theirs, ours = predictor(name, runtime), predictor(name)
    agree(theirs, ours, box_px=BOX)
    if name == "nyu":
        agree(theirs, ours, center_uvd=CENTER)
        other = Camera(450.0, 450.0, 160.0, 120.0)  # of a call
        agree(theirs, ours, center_uvd=CENTER, camera=other)
    crop = theirs.crop(frame(), box_px=BOX)
    np.testing.assert_array_equal(theirs.votes(crop).joints, ours.votes(crop).joints)


def test_a_runtime_that_answers_otherwise_is_refused() -> None:
    class Wrong(own_parts.Tiny):
        def decode(self, outputs: Any, crop_size: int) -> Estimate:
            found: Estimate = super().decode(outputs, crop_size)
            joints = outputs["joints"]
            # NaN is lost in ONNX Runtime's maxima.
            lost = jnp.isnan(jnp.where(joints > 0, jnp.nan, joints).max(1)).mean()
            return found._replace(joints=found.joints + lost)

    model = Wrong(14)
    variables = tiny.made_up(tiny.shapes(model))
    with pytest.raises(UserError, match="onnxruntime: its joints differ from JAX's by"):
        Predictor(model, variables, track_of("nyu"), runtime="onnxruntime")


@pytest.mark.parametrize(
    ("runtime", "missing"), [("onnxruntime", "onnxruntime"), ("openvino", "openvino"), ("openvino", "onnx")]
)  # fmt: skip
def test_a_runtime_that_is_not_installed_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, runtime: Any, missing: str
) -> None:
    monkeypatch.setitem(sys.modules, missing, None)  # type: ignore[arg-type]
    with pytest.raises(UserError, match=rf"needs {missing}: pip install 'a2j-jax\[export\]'"):
        Predictor.from_checkpoint("nowhere", runtime=runtime)


def test_runtimes_by_name(files: Path) -> None:
    with pytest.raises(UserError, match=r"openvin.*did you mean 'openvino'"):
        Predictor.from_checkpoint("nowhere", runtime="openvin")  # type: ignore[arg-type]
    with pytest.raises(UserError, match="a onnx file runs by onnxruntime or openvino"):
        ExportedPredictor.from_file(files / "nyu.onnx", "jax")
    with pytest.raises(UserError, match="a stablehlo file runs by jax"):
        ExportedPredictor.from_file(files / "nyu.stablehlo", "openvino")
    with pytest.raises(UserError, match="float32"):
        ExportedPredictor.from_file(files / "nyu.onnx", "onnxruntime", "bfloat16")


def test_a_frame_that_the_file_does_not_take(files: Path) -> None:
    hand = ExportedPredictor.from_file(files / "nyu.onnx")
    with pytest.raises(UserError, match="320x240 px"):
        hand(frame()[:200], center_uvd=CENTER)
    with pytest.raises(UserError, match="exported for Camera"):
        hand(frame(), center_uvd=CENTER, camera=Camera(400.0, 400.0, 160.0, 120.0))
    with pytest.raises(UserError, match="give center_uvd"):
        hand(frame(), box_px=BOX)
    with pytest.raises(UserError, match="cut for track 'k2hpd'"):
        hand.batch([predictor("k2hpd").crop(frame(), box_px=BOX)])
    ours, good = predictor("nyu"), hand.crop(frame(), center_uvd=CENTER)
    other = Camera(400.0, 400.0, 160.0, 120.0)
    for crop in (
        ours.crop(frame(), box_px=BOX),
        ours.crop(frame(), center_uvd=CENTER, camera=other),
        ours.crop(frame()[:200], center_uvd=CENTER),
    ):
        with pytest.raises(UserError, match="cut the frame with this predictor's crop"):
            hand.batch([good, crop])


def copied(files: Path, folder: Path, name: str, edit: dict[str, Any] | None = None) -> Path:
    """A file and its description, which is edited."""
    path = folder / name
    shutil.copy(files / name, path)
    about = json.loads(description_of(files / name).read_text())
    description_of(path).write_text(json.dumps(merged(about, edit or {})))
    return path


def merged(about: Any, edit: Any) -> Any:
    """`about` with some values changed, in objects within objects too."""
    if not isinstance(edit, dict) or not isinstance(about, dict):
        return edit
    return {**about, **{key: merged(about.get(key), value) for key, value in edit.items()}}


def test_what_is_no_exported_network_is_refused(files: Path, tmp_path: Path) -> None:
    def refused(path: Path, told: str) -> None:
        with pytest.raises(UserError, match=told):
            ExportedPredictor.from_file(path)

    onnx, hlo = (copied(files, tmp_path, name) for name in ("nyu.onnx", "nyu.stablehlo"))
    shutil.copy(files / "mine.onnx", onnx)
    refused(onnx, "describes another file")
    description_of(onnx).unlink()
    for contents in (b"", b"\x08\x0a no model"):
        onnx.write_bytes(contents)
        refused(onnx, "expected an ONNX file of a2j export")
    hlo.write_bytes(hlo.read_bytes()[:-100])
    refused(hlo, "describes another file")
    about = json.loads(description_of(hlo).read_text())
    digest = hashlib.sha256(hlo.read_bytes()).hexdigest()
    description_of(hlo).write_text(json.dumps({**about, "file_sha256": digest}))
    refused(hlo, "cannot be read as StableHLO")
    description_of(hlo).write_text(json.dumps({k: v for k, v in about.items() if k != "versions"}))
    refused(hlo, "lacks versions")
    description_of(hlo).unlink()
    refused(hlo, "no such file; expected the description")


@pytest.mark.parametrize(
    "edit",
    [
        {"inputs": [1]},
        {"camera": None},
        {"camera": [300.0, 300.0, 160.0, 120.0]},
        {"track": 3},
        {"track": {"frame_size": [640, 480]}},
        {"track": {"crop_size": 32.0}},
        {"track": {"half_window_mm": 95.0}},
        {"track": {"depth_unit_mm": 0.125}},
        {"track": {"joints": []}},
        {"step": 5},
    ],
    ids=str,
)
def test_a_description_that_was_edited_is_refused(
    files: Path, tmp_path: Path, edit: dict[str, Any]
) -> None:
    for name in ("nyu.stablehlo", "nyu.onnx"):
        with pytest.raises(UserError, match=r"has changed since a2j export wrote it"):
            ExportedPredictor.from_file(copied(files, tmp_path, name, edit))


def test_an_onnx_file_that_was_edited_is_refused(files: Path, tmp_path: Path) -> None:
    path, model = tmp_path / "net.onnx", onnx.load_model(files / "nyu.onnx")

    def refused(told: str) -> None:
        onnx.save_model(model, path)
        with pytest.raises(UserError, match=told):
            ExportedPredictor.from_file(path)

    onnx.save_model(model, path)
    ExportedPredictor.from_file(path)  # alone, without the JSON file beside
    (told,) = model.metadata_props
    kept = told.value
    told.value = json.dumps({**json.loads(kept), "camera": [300.0, 300.0, 160.0, 120.0]})
    refused("the description has changed")
    told.value = kept
    weights = max(model.graph.initializer, key=lambda each: len(each.raw_data))
    weights.raw_data = bytes(len(weights.raw_data))
    refused("the network has changed")


def test_a_stablehlo_program_that_takes_something_else_is_refused(
    files: Path, tmp_path: Path
) -> None:
    path = copied(files, tmp_path, "nyu.stablehlo")
    shapes = [jax.ShapeDtypeStruct((2, 2), jnp.float32)] * 2
    path.write_bytes(jax.export.export(jax.jit(jnp.add))(*shapes).serialize())
    about = json.loads(description_of(path).read_text())
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    description_of(path).write_text(json.dumps({**about, "file_sha256": digest}))
    with pytest.raises(UserError, match=r"cannot be run: .*export it again"):
        ExportedPredictor.from_file(path)


def test_a_foreign_file_with_a_description_of_ours_is_refused(files: Path) -> None:
    about = json.loads(description_of(files / "nyu.stablehlo").read_text())
    doubles = {"joints_uvd": np.ones((1, 14, 3)), "confidence": np.ones((1, 14))}
    for found in ({}, {"joints_uvd": np.ones((1, 3)), "confidence": np.ones(1)}, doubles):
        with pytest.raises(UserError, match="outputs have shapes"):
            ExportedPredictor(get_track("nyu"), lambda given, found=found: found, about, "jax")


def test_names_of_no_exported_network(tmp_path: Path) -> None:
    (tmp_path / "folder.onnx").mkdir()
    for name in ("missing.onnx", "folder.onnx", "missing.tflite"):
        with pytest.raises(UserError, match=name):
            ExportedPredictor.from_file(tmp_path / name)


def test_another_version_is_told(
    files: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    edit = {"versions": {"a2j_jax": "0.0.1"}, "track": {"half_window_mm": 125.0}}
    path = copied(files, tmp_path, "nyu.stablehlo", edit)
    about = sealed(json.loads(description_of(path).read_text()))
    description_of(path).write_text(json.dumps(about))
    with caplog.at_level("INFO", "a2j_jax"):
        found = ExportedPredictor.from_file(path)
    assert "exported by a2j_jax 0.0.1" in caplog.text
    assert "half_window_mm 125 there, 110 here" in caplog.text
    assert found.track.half_window_mm == 125.0  # what the weights were trained with


@pytest.mark.slow
def test_eight_bits(tmp_path: Path) -> None:
    """Of a ResNet: sums of shortcuts are rounded as well; in small frames, some 100 of which are rendered."""
    camera = Camera(150.0, -150.0, 80.0, 60.0)
    track = dataclasses.replace(track_of("nyu"), frame_size=(160, 120), camera=camera)
    ours = Predictor(resolve(tiny.config(track="nyu")).model, tiny.variables("nyu"), track)
    exact = export_onnx(ours, tmp_path / "exact.onnx")
    about = export_onnx(ours, tmp_path / "rounded.onnx", int8=True)
    assert about["difference"] == exact["difference"]
    cost = about["int8"]["cost"]
    assert (cost["unit"], cost["frames"]) == ("mm", 32)
    assert 0 < cost["mean"] < cost["largest"]
    for runtime in RUNTIMES:
        rounded, plain = (
            ExportedPredictor.from_file(tmp_path / f"{name}.onnx", runtime)  # type: ignore[arg-type]
            for name in ("rounded", "exact")
        )
        assert rounded.about["int8"]["cost"] == cost
        small, center = frame()[::2, ::2], (75.0, 50.0, 700.0)
        found, wanted = (each(small, center_uvd=center) for each in (rounded, plain))
        moved = np.linalg.norm(found.joints_uvd - wanted.joints_uvd, axis=-1)
        assert 0 < moved.max() < 3 * cost["largest"]


TELLS = """
import socket, sys, subprocess
def refuse(*args, **kwargs): raise SystemExit("network")
socket.socket.connect = refuse
from a2j_jax.inference.exported import _openvino_without_telemetry
_openvino_without_telemetry().Core()
import multiprocessing
assert "openvino_telemetry" not in sys.modules
assert not multiprocessing.active_children()
"""


def test_openvino_tells_nobody_that_it_is_imported() -> None:
    done = subprocess.run([sys.executable, "-c", TELLS], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
