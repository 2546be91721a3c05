"""A network as one file: the same answers, without this package."""

import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import onnx
import pytest

from a2j_jax.errors import UserError
from a2j_jax.geometry import Camera
from a2j_jax.inference import export
from a2j_jax.inference.export import export_onnx, export_stablehlo
from a2j_jax.inference.exported import largest_difference
from a2j_jax.inference.predictor import Predictor
from a2j_jax.runs.experiment import resolve
from a2j_jax.tracks import get_track, with_crop_size
from tests import own_parts, tiny
from tests.conftest import REPOSITORY
from tests.pages import blocks

CAMERA = Camera(400.0, -410.0, 150.0, 110.0)  # y up


def predictor(track: str, camera: Camera | None = None) -> Predictor:
    """A2J on a short trunk; exported on a ResNet: `test_onnx_of_every_kind`, `tests/cli/test_export.py`."""
    spec = with_crop_size(get_track(track), tiny.SIZE)
    spec = dataclasses.replace(spec, frame_size=(320, 240))
    model = resolve(tiny.quick(track=track)).model
    return Predictor(model, tiny.made_up(tiny.shapes(model)), spec, camera, step=3)


def frame() -> np.ndarray:
    v, u = np.mgrid[:240, :320]
    return np.where(np.hypot(u - 150, v - 100) < 60, 690.0 + (u + v) % 20, 2001).astype(np.float32)


WITHOUT_US = """
import sys
sys.modules["a2j_jax"] = None  # whoever imports it gets an ImportError
import numpy as np
given = np.load("given.npz")
{cut}
camera, center_uvd = given["camera"], given["center_uvd"]
crop_mm = cut(given["depth_mm"], center_uvd, camera, float(given["half_window_mm"]), 32)
crop_mm, center_uvd = crop_mm.astype(np.float32), center_uvd.astype(np.float32)
{load}
np.savez("found.npz", **{{name: np.asarray(value) for name, value in found.items()}})
"""


@pytest.mark.slow
def test_the_page_loads_it_without_this_package(tmp_path: Path) -> None:
    ours = predictor("synthetic_hand", CAMERA)
    about = export_stablehlo(ours, tmp_path / "hand.stablehlo")
    assert (
        json.loads((tmp_path / "hand.json").read_text())["weights_sha256"]
        == about["weights_sha256"]
    )
    assert about["difference"] < 1e-3
    center = (150.0, 100.0, 700.0)
    window = {"camera": CAMERA.as_array(), "half_window_mm": ours.track.half_window_mm}
    np.savez(tmp_path / "given.npz", depth_mm=frame(), center_uvd=np.array(center), **window)
    load, cut, *_ = blocks("docs/export.md")
    program = WITHOUT_US.format(load=load, cut=cut)
    clean = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, env=clean, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    wanted = ours(frame(), center_uvd=center)
    with np.load(tmp_path / "found.npz") as found:
        np.testing.assert_allclose(found["joints_uvd"][0], wanted.joints_uvd, atol=1e-2)
        np.testing.assert_allclose(found["joints_xyz_mm"][0], wanted.joints_xyz_mm, atol=2e-2)
        np.testing.assert_allclose(found["confidence"][0], wanted.confidence, atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("number", [2, 3], ids=["ONNX Runtime", "OpenVINO"])
def test_the_page_runs_onnx_without_this_package_or_jax(tmp_path: Path, number: int) -> None:
    ours = predictor("synthetic_hand", CAMERA)
    about = export_onnx(ours, tmp_path / "hand.onnx")
    described = json.loads((tmp_path / "hand.onnx.json").read_text())
    assert described["weights_sha256"] == about["weights_sha256"]
    (inside,) = onnx.load(tmp_path / "hand.onnx").metadata_props
    assert inside.key == "a2j_jax"
    assert json.loads(inside.value)["track"] == described["track"]
    assert about["difference"] < 1e-3
    centers = np.float32([(150, 100, 700), (152, 98, 690)])
    crops = [ours.crop(frame(), center_uvd=center) for center in centers]
    images = np.stack([crop.image_mm for crop in crops])
    np.savez(tmp_path / "given.npz", crop_mm=images, center_uvd=centers)
    program = "import sys\nsys.modules['a2j_jax'] = sys.modules['jax'] = None\n"
    program += "import numpy as np\ngiven = np.load('given.npz')\n"
    program += "crop_mm, center_uvd = given['crop_mm'], given['center_uvd']\n"
    program += f"{blocks('docs/export.md')[number]}\nnp.savez('found.npz', **found)"
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    with np.load(tmp_path / "found.npz") as found:
        for row, wanted in enumerate(ours.batch(crops)):
            np.testing.assert_allclose(found["joints_uvd"][row], wanted.joints_uvd, atol=1e-2)
            np.testing.assert_allclose(found["joints_xyz_mm"][row], wanted.joints_xyz_mm, atol=2e-2)
            np.testing.assert_allclose(found["confidence"][row], wanted.confidence, atol=1e-4)


@pytest.mark.parametrize(
    ("track", "parts"),
    [
        pytest.param("itop_front", None, marks=pytest.mark.slow),
        ("k2hpd", None),
        pytest.param("nyu", "a2j_jax.baselines:global_regression", marks=pytest.mark.slow),
        pytest.param("nyu", "a2j_jax.baselines:heat_maps", marks=pytest.mark.slow),
        ("nyu", "tests.own_parts:parts"),
    ],
)
def test_onnx_of_every_kind(tmp_path: Path, track: str, parts: str | None) -> None:
    experiment = resolve(dataclasses.replace(tiny.config(track=track), parts=parts))
    variables = tiny.made_up(tiny.shapes(experiment.model))
    about = export_onnx(
        Predictor(experiment.model, variables, experiment.track), tmp_path / "x.onnx"
    )
    assert about["format"] == "onnx"
    assert ("joints_xyz_mm" in about["outputs"]) == (track != "k2hpd")
    assert about["difference"] < 1e-2


@pytest.mark.slow
def test_onnx_is_float32_in_64_bits_too(tmp_path: Path) -> None:
    ours = predictor("nyu")
    with jax.enable_x64(True):
        assert export_onnx(ours, tmp_path / "x.onnx")["difference"] < 1e-2


def test_onnx_of_what_has_no_translation_is_refused(tmp_path: Path) -> None:
    class Sorts(own_parts.Tiny):
        def decode(self, outputs: Any, crop_size: int) -> Any:
            return super().decode({"joints": jnp.sort(outputs["joints"])}, crop_size)

    model = Sorts(14)
    refused = Predictor(model, tiny.made_up(tiny.shapes(model)), predictor("nyu").track)
    with pytest.raises(UserError, match="Sorts cannot be exported: the network uses 'sort'"):
        export_onnx(refused, tmp_path / "sorts.onnx")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        # ONNX Runtime takes another element than the last, or none.
        (lambda x: jnp.where(jnp.isnan(jnp.where(x > 0, jnp.nan, x).max(1)), 1.0, 0.0), "confidence"),
        (lambda x: jnp.nan_to_num(jnp.take_along_axis(x, 99 + x[:, :1].astype(jnp.int32), axis=1)), "GatherElements"),
        (lambda x: (x[..., 0].astype(jnp.bfloat16) * 0).astype(jnp.float32), "bfloat16"),
    ],
)  # fmt: skip
def test_onnx_that_computes_otherwise_is_refused(tmp_path: Path, changed: Any, named: str) -> None:
    class Sure(own_parts.Tiny):
        def decode(self, outputs: Any, crop_size: int) -> Any:
            found = super().decode(outputs, crop_size)
            sure = found.confidence * 0 + changed(outputs["joints"]).mean()
            return found._replace(confidence=sure)

    model = Sure(14)
    refused = Predictor(model, tiny.made_up(tiny.shapes(model)), predictor("nyu").track)
    with pytest.raises(UserError, match=named):
        export_onnx(refused, tmp_path / "sure.onnx")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("track", "inputs", "outputs"),
    [
        ("nyu", {"crop_mm", "center_uvd"}, {"joints_uvd", "joints_xyz_mm", "confidence"}),
        pytest.param(
            "itop_front",
            {"crop_mm", "box_px"},
            {"joints_uvd", "joints_xyz_mm", "confidence"},
            marks=pytest.mark.slow,
        ),
        pytest.param(
            "k2hpd", {"crop_mm", "box_px"}, {"joints_uvd", "confidence"}, marks=pytest.mark.slow
        ),
    ],
)
def test_tracks_of_every_kind_and_several_platforms(
    tmp_path: Path, track: str, inputs: set[str], outputs: set[str]
) -> None:
    about = export_stablehlo(predictor(track), tmp_path / "x.stablehlo", ("tpu", "cuda"))
    assert about["inputs"].keys() == inputs
    assert about["outputs"].keys() == outputs
    assert about["platforms"] == ["tpu", "cuda"]
    assert (about["step"], about["track"]["joints"]) == (3, get_track(track).skeleton.joints)


def test_a_network_of_its_own_is_exported(tmp_path: Path) -> None:
    config = dataclasses.replace(tiny.config(), parts="tests.own_parts:parts")
    experiment = resolve(config)
    assert isinstance(experiment.model, own_parts.Tiny)
    variables = tiny.made_up(tiny.shapes(experiment.model))
    about = export_stablehlo(
        Predictor(experiment.model, variables, experiment.track), tmp_path / "own.stablehlo"
    )
    assert about["outputs"]["joints_xyz_mm"] == ["batch", 21, 3]


def test_a_network_for_a_fixed_number_of_crops_is_refused(tmp_path: Path) -> None:
    class Counts(own_parts.Tiny):
        def decode(self, outputs: Any, crop_size: int) -> Any:
            return super().decode(
                {"joints": outputs["joints"][: len(outputs["joints"])]}, crop_size
            )

    model = Counts(14)
    refused = Predictor(model, tiny.made_up(tiny.shapes(model)), predictor("nyu").track)
    with pytest.raises(UserError, match="Counts cannot be exported for any number of crops"):
        export_stablehlo(refused, tmp_path / "counts.stablehlo")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_a_file_that_answers_otherwise_is_not_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(export, "TOLERANCE", -1.0)
    with pytest.raises(UserError, match="not written: the exported network differs"):
        export_stablehlo(predictor("nyu"), tmp_path / "nyu.stablehlo")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("part", ["weights", "confidence"])
def test_numbers_that_are_not_finite_are_not_written(tmp_path: Path, part: str) -> None:
    class Doubtful(own_parts.Tiny):
        def decode(self, outputs: Any, crop_size: int) -> Any:
            found = super().decode(outputs, crop_size)
            return found._replace(
                confidence=found.confidence * (np.nan if part == "confidence" else 1)
            )

    model = Doubtful(14)
    variables = tiny.made_up(tiny.shapes(model))
    if part == "weights":
        variables = jax.tree.map(lambda x: np.full_like(x, np.nan), variables)
    broken = Predictor(model, variables, predictor("nyu").track)
    with pytest.raises(UserError, match="not finite"):
        export_stablehlo(broken, tmp_path / "nyu.stablehlo")
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_alone_is_not_finite_differs() -> None:
    crops = np.ones((2, 32, 32), np.float32)
    found = largest_difference(
        lambda _: {"joints_uvd": np.full((2, 14, 3), np.nan)},
        lambda crops: {"joints_uvd": crops[:, :14, :3]},
        [(crops,)],
    )
    assert np.isnan(found)


def test_platforms_and_names(tmp_path: Path) -> None:
    ours = predictor("nyu")
    about = export_stablehlo(ours, tmp_path / "x.stablehlo", ["cpu", "cpu"])
    assert about["platforms"] == ["cpu"]
    for platforms in ((), "gpu", ("cpu", "gpu")):
        with pytest.raises(UserError, match="expected some of cpu, cuda, rocm, tpu"):
            export_stablehlo(ours, tmp_path / "y.stablehlo", platforms)
    for name in ("y.json", "y"):  # the first is where the description goes
        with pytest.raises(UserError, match="expected the name of a file"):
            export_stablehlo(ours, tmp_path / name)


@pytest.mark.slow
def test_the_file_is_float32_where_jax_computes_in_64_bits(tmp_path: Path) -> None:
    with jax.enable_x64(True):
        export_stablehlo(predictor("nyu"), tmp_path / "x.stablehlo")
    file = jax.export.deserialize(bytearray((tmp_path / "x.stablehlo").read_bytes()))
    assert {str(one.dtype) for one in file.out_avals} == {"float32"}


def test_a_track_by_center_needs_a_camera(tmp_path: Path) -> None:
    track = dataclasses.replace(predictor("nyu").track, camera=None)
    model = resolve(tiny.config(track="nyu")).model
    with pytest.raises(UserError, match="has no camera"):
        export_stablehlo(Predictor(model, tiny.variables("nyu"), track), tmp_path / "nyu.stablehlo")


def test_the_page_names_the_tolerance() -> None:
    assert f"More than {export.TOLERANCE:g} mm" in (REPOSITORY / "docs/export.md").read_text()


@pytest.mark.slow
def test_rendered_gray_levels_are_stretched() -> None:
    (found,) = export.rendered_crops(predictor("k2hpd"), 1)
    assert 20 < found["crop_mm"].max() <= 255
