"""The predictor: the same answer as the evaluation path, and one clear line per bad request."""

import re
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

from a2j_jax import geometry
from a2j_jax.baselines import GlobalRegression
from a2j_jax.data import augment, crops
from a2j_jax.errors import UserError
from a2j_jax.inference.frame_predictor import FrameCrop, frame_from_array
from a2j_jax.inference.frames import read_frame
from a2j_jax.inference.locate import depth_in_box, doubtful, hand_center
from a2j_jax.inference.predictor import Predictor
from a2j_jax.models.a2j import A2J
from a2j_jax.models.anchors import aggregate, anchor_grid, confidence
from a2j_jax.runs.checkpoints import save_variables
from a2j_jax.tracks import TrackSpec, get_track, with_crop_size
from tests import tiny

SIZE = 32
CENTER = (150.0, 100.0, 700.0)
BOX = (90.5, 40.2, 170.9, 150.7)


def track_of(name: str) -> TrackSpec:
    return with_crop_size(get_track(name), SIZE)


@cache
def network(name: str) -> tuple[A2J, Any]:
    track = track_of(name)
    model = A2J(
        track.num_joints, track.joint_dims, "resnet18", width=8, head_features=8, head_depth=1
    )
    return model, tiny.made_up(tiny.shapes(model))


@cache
def predictor(name: str) -> Predictor:
    return Predictor(*network(name), track_of(name))


def scene(background: float = 2001.0, shape: tuple[int, int] = (240, 320)) -> np.ndarray:
    """A tilted, bumpy hand-sized blob around (150, 100) at 700 mm before a wall."""
    rows, columns = np.mgrid[: shape[0], : shape[1]]
    blob = (rows - 100) ** 2 + (columns - 150) ** 2 < 60**2
    return np.where(blob, 700 + (columns - 150) / 2 + 15 * np.sin(rows / 9), background)


def frame(shape: tuple[int, int] = (240, 320)) -> np.ndarray:
    """The scene in whole millimeters, with some holes."""
    rows, columns = np.mgrid[: shape[0], : shape[1]]
    depth = np.round(scene(shape=shape)).astype(np.float32)
    depth[(rows * columns) % 37 == 0] = 0
    return depth


@pytest.mark.parametrize("name", ["nyu", "itop_front", "k2hpd"])
def test_it_answers_as_the_evaluation_does(name: str) -> None:
    """Stored canvas → evaluation image → network → frame: the same joints as from the frame."""
    track, (model, variables), depth = track_of(name), network(name), frame()
    by_center = track.crop_by == "center"
    where: Any = {"center_uvd": CENTER} if by_center else {"box_px": BOX}
    estimate = predictor(name)(depth, **where)
    other = predictor(name)(np.where(depth < 1000, depth + 40, depth), **where)
    assert np.abs(estimate.joints_uvd - other.joints_uvd).max() > 1e-3  # it depends on the frame

    crop = crops.cut(crops.to_storage_units(depth, track), track, **where)
    theta = np.array([CENTER[2] if by_center else 0.0])
    images = augment.evaluation_images(crop.canvas[None], theta, track)
    answer = aggregate(jax.jit(model.apply)(variables, images), anchor_grid(SIZE, SIZE))
    expected = crops.joints_to_frame(np.asarray(answer.joints[0]), crop.box_px, theta[0], track)
    np.testing.assert_allclose(estimate.joints_uvd, expected, atol=2e-3)
    np.testing.assert_allclose(estimate.confidence, confidence(answer.spread)[0], atol=1e-5)
    np.testing.assert_array_equal(estimate.box_px, crop.box_px)
    assert estimate.joints_uvd.shape == (track.num_joints, track.joint_dims)
    assert ((estimate.confidence > 0) & (estimate.confidence <= 1)).all()
    assert estimate.milliseconds > 0
    if track.joint_dims == 2:
        assert estimate.joints_xyz_mm is None
    else:
        assert track.camera is not None
        xyz = geometry.uvd_to_xyz(estimate.joints_uvd, track.camera)
        np.testing.assert_allclose(estimate.joints_xyz_mm, xyz)


def test_a_camera_of_its_own_moves_the_box_and_the_millimetres() -> None:
    camera = geometry.Camera(400.0, 400.0, 160.0, 120.0)
    estimate = predictor("nyu")(frame(), center_uvd=CENTER, camera=camera)
    assert get_track("nyu").half_window_mm == 110
    np.testing.assert_allclose(estimate.box_px[0], 150 - 110 * 400 / 700)
    assert estimate.joints_xyz_mm is not None
    xyz = geometry.uvd_to_xyz(estimate.joints_uvd, camera)
    np.testing.assert_allclose(estimate.joints_xyz_mm, xyz)
    at_build = Predictor(*network("nyu"), track_of("nyu"), camera)
    again = at_build(frame(), center_uvd=CENTER)
    np.testing.assert_array_equal(again.joints_uvd, estimate.joints_uvd)


def test_the_box_is_clipped_to_the_frame_at_hand_not_the_tracks() -> None:
    estimate = predictor("nyu")(frame((180, 200)), center_uvd=(150, 100, 700))
    np.testing.assert_allclose(estimate.box_px[2:], [199.0, 179.0])


def test_a_box_on_a_hand_track_takes_its_depth_from_the_readings() -> None:
    depth, box = frame(), (90, 40, 210, 160)
    depth[100, 150] = 210.0  # a stray reading in front
    assert predictor("nyu")(depth, box_px=box).center_depth_mm == pytest.approx(700, abs=10)
    assert depth_in_box(depth, box, 150.0) == pytest.approx(700, abs=10)
    with pytest.raises(UserError, match="no depth reading inside"):
        depth_in_box(np.zeros((20, 20)), (2, 2, 9, 9), 150.0)


@pytest.mark.parametrize(
    ("name", "kind", "expected", "close"),
    [
        ("nyu", "center_uvd", [150, 100, 715], 2),
        ("itop_front", "box_px", [82.5, 32.5, 217.5, 167.5], 4),
    ],
)
def test_the_frame_alone_says_where_to_look(
    name: str, kind: str, expected: list[float], close: float
) -> None:
    rows, columns = np.mgrid[:240, :320]
    depth = np.where((rows - 100) ** 2 + (columns - 150) ** 2 < 60**2, 700.0, 2001.0)
    found = vars(predictor(name).locate(depth))
    assert [where for where, values in found.items() if values is not None] == [kind]
    np.testing.assert_allclose(found[kind], expected, atol=close)
    one, other = (predictor(name)(depth, **where) for where in ({}, found))
    np.testing.assert_array_equal(one.joints_uvd, other.joints_uvd)
    np.testing.assert_array_equal(one.center_uvd, found["center_uvd"])
    for ask in (predictor(name).locate, predictor(name), predictor("k2hpd")):
        with pytest.raises(UserError, match="no depth reading"):
            ask(np.zeros((20, 20)))


@pytest.mark.parametrize(
    ("name", "depth", "where", "said"),
    [
        ("nyu", scene(), {}, None),
        ("nyu", scene(0), {}, None),
        ("nyu", scene() * 8, {}, r"5\.\d+ m from the camera.*unit of depth.*less than 1 mm"),
        ("nyu", np.round(scene() / 10).astype(np.uint16), {}, "0.06.* m from .*unit.*cm or meters"),
        ("nyu", np.full((240, 320), 900.0), {}, "flat surface .* a wall .*no hand in view"),
        ("nyu", scene(), {"center_uvd": (20, 20, 2000)}, "flat surface"),
        ("nyu", scene() * (np.arange(76800).reshape(240, 320) % 997 == 3), {}, "next to no depth"),
        ("itop_front", scene() * 4, {}, None),
        ("itop_front", np.full((240, 320), 200.0), {}, "person would be 0.2 m"),
        ("itop_front", scene() * 32, {}, "unit of depth.*less than 1 mm"),
        ("k2hpd", scene() / 9, {}, None),
    ],
)
def test_what_is_hardly_a_hand_or_person_is_said_once(
    name: str,
    depth: np.ndarray,
    where: dict[str, Any],
    said: str | None,
    capsys: pytest.CaptureFixture[str],
) -> None:
    ask = Predictor(*network(name), track_of(name)) if said else predictor(name)
    warnings = [ask(depth, **where, name=f"frame {i}").warning for i in range(2)]
    logged = capsys.readouterr().err
    if said is None:
        assert warnings == [None, None]
        assert logged == ""
    else:
        assert all(re.search(said, str(warning)) for warning in warnings)
        assert logged == f"warning: frame 0: {warnings[0]}\n"


def test_unreadable_values_are_no_reading() -> None:
    array = np.array([[np.nan, np.inf, -5.0, 1e300, 700.0]])
    np.testing.assert_array_equal(frame_from_array(array), [[0, 0, 0, 0, 700]])


@pytest.mark.parametrize("folder", ["nyu_test_frame1", "sr305_hands"])
def test_real_frames_are_not_doubted(reference: Path, folder: str) -> None:
    track, camera, unit = get_track("nyu"), get_track("nyu").camera, 1.0
    if folder == "sr305_hands":
        camera, unit = geometry.Camera(476.007, 476.007, 313.683, 242.755), 0.125
        track = get_track("hands2017")
    assert camera is not None
    paths = list((reference / "frames" / folder).rglob("*.png"))
    for path in paths:
        depth = read_frame(path, "nyu_packed" if unit == 1 else "depth16", unit)
        center = hand_center(depth, camera)
        box = crops.cut(depth, track, center, camera=camera).box_px
        assert doubtful(depth, box, center[2], track, camera) is None
        off = doubtful(depth * 8, box, center[2] * 8, track, camera)
        assert off is not None
    assert paths


@pytest.mark.parametrize("ask", ["locate", "__call__"])
@pytest.mark.parametrize(
    ("depth", "camera", "message"),
    [
        (scene(), (588.0, 587.0, 320.0, 240.0), r"a2j_jax\.Camera\(fx, fy"),
        ("frame.png", None, r"found a path; .*read_depth"),
        (scene() / 1000, None, "meters"),
        (np.zeros((2, 3, 4)), None, "depth frame: expected"),
        (np.array([["a"]]), None, "depth frame: expected"),
        (np.zeros((0, 3)), None, "depth frame: expected"),
        (np.zeros(5), None, "depth frame: expected"),
    ],
)
def test_wrong_arguments(ask: str, depth: Any, camera: Any, message: str) -> None:
    with pytest.raises(UserError, match=message):
        getattr(predictor("nyu"), ask)(depth, camera=camera)
    if message == "meters":
        getattr(predictor("k2hpd"), ask)(depth)  # has no unit


@pytest.mark.parametrize(
    ("name", "where", "message"),
    [
        ("nyu", {"center_uvd": CENTER, "box_px": BOX}, "center_uvd and box_px: expected only one"),
        ("itop_front", {"center_uvd": CENTER}, "crops by box: give the person's box_px"),
        ("nyu", {"center_uvd": (320, 100, 700)}, "outside the 320×240 frame"),
        ("nyu", {"center_uvd": (150, -1, 700)}, "outside the 320×240 frame"),
        ("nyu", {"center_uvd": (150, 100, 0)}, "center_uvd depth 0 mm"),
        ("nyu", {"center_uvd": (150, 100, -5)}, "center_uvd depth -5 mm"),
        ("nyu", {"center_uvd": (150, 100, np.nan)}, "3 finite numbers"),
        ("nyu", {"center_uvd": (150, 100)}, "3 finite numbers"),
        ("nyu", {"center_uvd": ("a", 1, 2)}, "3 finite numbers"),
        ("nyu", {"center_uvd": (150, 100, 0.7)}, r"within 150 mm of the center depth 0.7 mm"),
        ("nyu", {"center_uvd": (150, 100, 5600)}, r"no reading within 150 mm of the center depth"),
        ("itop_front", {"box_px": (50, 20, 50, 80)}, "expected x0 < x1"),
        ("itop_front", {"box_px": (50, 20, 10, 80)}, "expected x0 < x1"),
        ("itop_front", {"box_px": (400, 20, 500, 80)}, "covers no pixel"),
        ("itop_front", {"box_px": (1, 2, 3)}, "4 finite numbers"),
        ("itop_front", {"box_px": (0, 0, 1.5, 1.5)}, "no depth reading inside the box"),
    ],
)
def test_bad_requests(name: str, where: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        predictor(name)(frame(), **where)
    assert "\n" not in str(caught.value)


def test_from_checkpoint_binds_what_was_saved(tmp_path: Path) -> None:
    save_variables(tmp_path / "saved", network("nyu")[1], tiny.config(track="nyu"))
    loaded = Predictor.from_checkpoint(tmp_path / "saved", step="latest")
    with pytest.raises(UserError, match="7"):
        Predictor.from_checkpoint(tmp_path / "saved", step=7)
    one, other = (p(frame(), center_uvd=CENTER) for p in (loaded, predictor("nyu")))
    np.testing.assert_array_equal(one.joints_uvd, other.joints_uvd)


def test_a_network_of_another_skeleton_is_refused() -> None:
    with pytest.raises(UserError, match=r"predicts 14 joints × 3.*has 21 × 3"):
        Predictor(*network("nyu"), track_of("synthetic_hand"))


PROGRAM = """
import sys
import numpy as np
from a2j_jax import Predictor
predictor = Predictor.from_checkpoint(sys.argv[1])
print(predictor(np.full((240, 320), 700, np.uint16), center_uvd=(160, 120, 700)).joints_uvd.shape)
print(sorted({"tensorflow_datasets", "grain", "array_record", "optax", "a2j_jax.training"} & set(sys.modules)))
"""


@pytest.mark.slow
def test_a_first_prediction_imports_nothing_of_training_or_data_sets(tmp_path: Path) -> None:
    save_variables(tmp_path / "checkpoint", tiny.variables(), tiny.config())
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(tmp_path / "checkpoint")],
        cwd=Path(__file__).resolve().parents[2],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.splitlines() == ["(21, 3)", "[]"]


def crop_of(name: str, depth: np.ndarray | None = None) -> FrameCrop:
    by_center = track_of(name).crop_by == "center"
    where: Any = {"center_uvd": CENTER} if by_center else {"box_px": BOX}
    return predictor(name).crop(frame() if depth is None else depth, **where)


def inputs_of(crop: FrameCrop) -> tuple[Any, ...]:
    """One crop as `core` takes it, without variables."""
    camera = crop.camera and crop.camera.as_array().astype(np.float32)
    depth = np.float32([crop.center_depth_mm or 0.0])
    return crop.image_mm[None], np.float32(crop.box_px)[None], depth, camera


@pytest.mark.parametrize("name", ["nyu", "itop_front", "k2hpd"])
def test_batches_and_core_answer_as_a_call(name: str) -> None:
    found, crop = predictor(name), crop_of(name)
    other = crop_of(name, np.where(frame() < 1000, frame() + 40, frame()))
    one, *_, last = found.batch([crop, other, crop, other, other])
    for estimate, taken in (one, crop), (last, other):
        alone = found.batch([taken])[0]
        np.testing.assert_allclose(estimate.joints_uvd, alone.joints_uvd, atol=2e-3)
        core = jax.jit(found.core)(found.variables, *inputs_of(taken))
        np.testing.assert_allclose(core.uvd[0], alone.joints_uvd, atol=2e-3)
        np.testing.assert_allclose(core.confidence[0], alone.confidence, atol=1e-5)
        if alone.joints_xyz_mm is None:
            assert core.xyz_mm is None
        else:
            np.testing.assert_allclose(core.xyz_mm[0], alone.joints_xyz_mm, atol=2e-2)
    assert found.batch([]) == []


def test_votes_are_what_a_call_averages() -> None:
    found, crop = predictor("nyu"), crop_of("nyu")
    heads, votes = found.outputs(crop), found.votes(crop)
    anchors = anchor_grid(SIZE, SIZE)
    assert heads.offset.shape == (1, len(anchors), 14, 2)
    mean = np.einsum("ak,akc->kc", votes.weights[0], anchors[:, None] + heads.offset[0])
    np.testing.assert_allclose(votes.joints[0, :, :2], mean, atol=1e-3)
    np.testing.assert_allclose(votes.weights.sum(1), 1, atol=1e-5)


def test_votes_need_anchors() -> None:
    track = track_of("nyu")
    model = GlobalRegression(14, backbone="resnet18", width=8)
    other = Predictor(model, tiny.made_up(tiny.shapes(model)), track)
    with pytest.raises(UserError, match="GlobalRegression has no anchors"):
        other.votes(crop_of("nyu"))


def test_a_joint_has_a_gradient_with_respect_to_the_depth_image() -> None:
    found = predictor("nyu")
    image, *rest = inputs_of(crop_of("nyu"))
    slope_of = jax.grad(lambda x: found.core(found.variables, x, *rest).xyz_mm[0, 3, 2])
    slope = jax.jit(slope_of)(image)
    assert np.isfinite(slope).all()
    near = np.abs(image - 700) < 150  # beyond the window of depth, nothing counts
    assert np.abs(slope)[near].max() > 0
    assert np.abs(slope)[~near].max() == 0


def test_core_is_mapped_over_crops() -> None:
    found = predictor("nyu")
    image, box, depth, camera = inputs_of(crop_of("nyu"))
    images = np.stack([image, image + np.float32(5)])

    def joints(x: jax.Array) -> jax.Array:
        return found.core(found.variables, x, box, depth, camera).uvd

    mapped, alone = jax.jit(jax.vmap(joints))(images), jax.jit(joints)
    for row, x in zip(mapped, images, strict=True):
        np.testing.assert_allclose(row, alone(x), atol=2e-3)


def test_crops_of_something_else_are_refused() -> None:
    nyu, itop = predictor("nyu"), predictor("itop_front")
    crop, other = (
        FrameCrop(
            np.zeros((32, 32)), np.zeros(4), 1.0, None, None, None, np.zeros((n, n)), name, (9, 9)
        )
        for n, name in ((nyu.track.canvas_size, "itop_front"), (60, "nyu"))
    )
    for given in (crop, [crop], [other], np.zeros((32, 32)), [None], None):
        with pytest.raises(UserError, match=r"^crops: "):
            nyu.batch(given)  # type: ignore[arg-type]
    for ask in (nyu.outputs, nyu.votes):
        with pytest.raises(UserError, match="cut for track 'itop_front'"):
            ask(crop)
        for several in ([crop], None):
            with pytest.raises(UserError, match=r"^crop: expected one "):
                ask(several)  # type: ignore[arg-type]
    assert itop.batch([]) == []


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("crop_mm", np.zeros((2, 48, 48))),
        ("crop_mm", np.zeros((32, 32))),
        ("box_px", np.zeros((2, 2, 2))),
        ("center_depth_mm", np.zeros((2, 3))),
        ("center_depth_mm", None),
        ("camera", np.eye(3)),
        ("camera", geometry.Camera(400, 400, 1, 1)),
    ],
)
def test_core_names_an_argument_of_another_shape(name: str, value: Any) -> None:
    ours = predictor("nyu")
    given = {
        "crop_mm": np.full((2, 32, 32), 700.0),
        "box_px": np.array([[0.0, 0, 90, 90]] * 2),
        "center_depth_mm": np.array([700.0, 710.0]),
        "camera": np.array([400.0, 400, 150, 110]),
    }
    assert jax.eval_shape(ours.core, ours.variables, **given).uvd.shape == (2, 14, 3)
    with pytest.raises(UserError, match=f"core: {name}: expected"):
        ours.core(ours.variables, **given | {name: value})


def test_variables_of_another_network_are_refused() -> None:
    ours = predictor("nyu")
    for variables in ({}, {"params": {}}, tiny.variables("synthetic_hand")):
        with pytest.raises(UserError, match="variables do not fit A2J"):
            Predictor(ours.model, variables, ours.track)
