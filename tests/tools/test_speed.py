"""`a2j bench`: turns, frames to read, both parts, and the tables and JSON of their times."""

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from PIL import Image

from a2j_jax import geometry
from a2j_jax.data import augment, crops
from a2j_jax.errors import UserError
from a2j_jax.evaluation.tables import markdown
from a2j_jax.inference.frames import read_frame
from a2j_jax.models.a2j import A2J, GlobalRegression
from a2j_jax.models.anchors import decode
from a2j_jax.tools.speed import (
    WARM_UP_ROUNDS,
    Call,
    FrameFile,
    Images,
    Measured,
    Network,
    Row,
    body_camera,
    comparison_table,
    flops_per_frame,
    forward_of,
    frames_per_second,
    machine,
    measure,
    paper_speed,
    parameters,
    random_variables,
    ratio,
    read_and_warp_of,
    speed_table,
    spread,
    take_turns,
    to_json,
    usable_cores,
    write_frames,
)
from a2j_jax.tracks import TrackSpec, get_track, with_crop_size
from tests import tiny
from tests.tools import plain_frames

NYU = get_track("nyu")
TRACK = with_crop_size(NYU, tiny.SIZE)
ROUNDS = 2


class Clock:
    """Stands still but while something "works"."""

    def __init__(self) -> None:
        self.seconds = 100.0
        self.log: list[str] = []

    def __call__(self) -> float:
        return self.seconds

    def work(self, name: str, *seconds: float) -> Callable[[], None]:
        """A call that takes so long, the first round of the warm-up first, and the last of these from then on."""
        durations = list(seconds)

        def run() -> None:
            self.log.append(name)
            self.seconds += durations.pop(0) if len(durations) > 1 else durations[0]

        return run


def test_medians_are_of_the_rounds_after_the_warm_up() -> None:
    clock = Clock()
    warm_up = [60.0] * WARM_UP_ROUNDS
    calls = {"one": Call(clock.work("one", *warm_up, 1.0, 3.0, 2.0, 9.0, 4.0))}
    timing = take_turns(calls, 5, clock=clock)["one"]
    assert timing == (1000, 3000, 2000, 9000, 4000)
    assert spread(timing) == (3000, 2000, 4000)


def test_a_batch_is_counted_by_its_frames() -> None:
    clock = Clock()
    timings = take_turns({8: Call(clock.work("", 2.0), 8)}, 3, clock=clock)
    assert spread(timings[8]).median == 250


def test_calls_take_turns() -> None:
    clock = Clock()
    calls = {name: Call(clock.work(name, 1.0)) for name in "abc"}
    advanced: list[int] = []
    take_turns(calls, 3, advance=advanced.append, clock=clock)
    rounds = ["".join(clock.log[i : i + 3]) for i in range(0, len(clock.log), 3)]
    assert len(rounds) == WARM_UP_ROUNDS + 3
    assert rounds[WARM_UP_ROUNDS:] == ["abc", "cba", "abc"]
    assert advanced == [1] * len(clock.log)


def test_what_slows_both_does_not_change_their_ratio() -> None:
    slow = [1.0, 1.0, 5.0, 1.0, 7.0]
    one, other = tuple(30 * s for s in slow), tuple(20 * s for s in slow)
    assert ratio(one, other) == (1.5, 1.5, 1.5)


def test_only_runs_of_the_same_rounds_are_compared() -> None:
    with pytest.raises(ValueError):
        ratio((1.0, 2.0), (1.0,))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["nyu", "k2hpd"])
def test_frames_show_what_is_cropped(tmp_path: Path, name: str) -> None:
    track = get_track(name)
    files = write_frames(tmp_path, track, 2)
    assert len({file.path for file in files}) == 2
    for file in files:
        depth = read_frame(file.path, track.frame_format)
        assert depth.shape == track.frame_size[::-1]
        assert (depth > 0).mean() > 0.5  # something behind the subject, as in a room
        assert np.ptp(depth[depth > 0]) > 100
        if track.crop_by == "center":
            assert file.box_px is None
            assert file.center_uvd is not None
            _check_hand(depth, file.center_uvd, track)
        else:
            assert file.center_uvd is None
            assert file.box_px is not None
            x0, y0, x1, y1 = file.box_px
            assert x1 - x0 > 20
            assert y1 - y0 > 50


def _check_hand(depth: np.ndarray, center_uvd: np.ndarray, track: TrackSpec) -> None:
    u, v, d = center_uvd
    assert 0 <= u < track.frame_size[0]
    assert 0 <= v < track.frame_size[1]
    near = np.abs(depth - d) < 150
    rows, columns = np.nonzero(near)
    assert near.any()
    assert np.hypot(rows - v, columns - u).min() < 20


def test_other_resolutions_see_the_same() -> None:
    track = dataclasses.replace(get_track("itop_front"), camera=None)
    camera = body_camera(track.frame_size)
    assert camera == get_track("itop_front").camera
    half = body_camera((160, 120))
    assert (half.fx, half.v0) == (camera.fx / 2, camera.v0 / 2)


MODEL = A2J(14, backbone="resnet18", width=8, head_features=8, head_depth=1)


@pytest.mark.parametrize("name", ["nyu", "icvl", "itop_front", "k2hpd"])
def test_the_crop_is_that_of_a_data_set(tmp_path: Path, name: str) -> None:
    track = get_track(name)
    rng = np.random.default_rng(0)
    depth = rng.integers(600, 900, track.frame_size[::-1], np.uint16)
    depth[:, :20] = 0
    image = depth
    if track.frame_format == "nyu_packed":
        image = np.stack([depth * 0, depth // 256, depth % 256], -1).astype(np.uint8)
    Image.fromarray(image).save(tmp_path / "frame.png")
    center, box = None, None
    if track.crop_by == "center":
        center = np.array([track.frame_size[0] / 2, track.frame_size[1] / 2, 750.0])
    else:
        box = np.array([40.0, 30.0, 200.0, 190.0])
    found = read_and_warp_of(track)(FrameFile(tmp_path / "frame.png", center, box))

    stored = crops.cut(crops.to_storage_units(depth, track), track, center, box).canvas
    crop = geometry.center_crop(stored, track.crop_size)
    wanted = augment.normalize(crop, np.float32(0 if center is None else center[2]), track)
    assert found.shape == (track.crop_size, track.crop_size, 1)
    assert found.dtype == np.float32
    assert found.std() > 0.1
    np.testing.assert_allclose(found[..., 0], wanted, atol=1e-5)


def test_a_host_that_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_host(backend: str) -> list[jax.Device]:
        raise RuntimeError(f"Unknown backend {backend}")

    monkeypatch.setattr("jax.local_devices", no_host)
    with pytest.raises(UserError, match="JAX_PLATFORMS leaves out the CPU"):
        read_and_warp_of(TRACK)


def test_forward_is_network_and_decoding() -> None:
    variables = random_variables(MODEL, TRACK)
    images = np.random.default_rng(0).standard_normal((2, tiny.SIZE, tiny.SIZE, 1), np.float32)
    found = forward_of(MODEL, variables, TRACK, 2)(images)
    wanted = decode(jax.jit(MODEL.apply)(variables, images), tiny.SIZE)
    assert isinstance(found.joints, np.ndarray)  # in host memory, that is: done
    assert np.isfinite(found.joints).all()
    np.testing.assert_allclose(found.joints, wanted.joints, rtol=1e-3, atol=1e-3)


def test_frames_per_second() -> None:
    calls: list[tuple[int, ...]] = []
    found = frames_per_second(lambda images: calls.append(images.shape), tiny.SIZE, rounds=3)
    assert set(calls) == {(1, tiny.SIZE, tiny.SIZE, 1)}
    assert found["lower"] <= found["milliseconds"] <= found["upper"]
    assert found["frames_per_second"] == pytest.approx(1e3 / found["milliseconds"])


def test_flops_are_those_of_the_convolutions() -> None:
    size, inputs = 512, 16
    model = GlobalRegression(2, joint_dims=2, backbone="resnet18", width=inputs)
    macs = (size // 2) ** 2 * 7 * 7 * inputs
    for width, stride in (16, 4), (32, 8), (64, 16), (128, 16):
        positions = (size // stride) ** 2
        macs += positions * 9 * width * (inputs + 3 * width)
        macs += positions * inputs * width * (inputs != width)  # the projection
        inputs = width
    # XLA leaves out products with the padding around a map, and counts batch norm and ReLU.
    found = flops_per_frame(model, dataclasses.replace(TRACK, crop_size=size))
    assert 0.95 < found / (2 * macs) < 1.03


def test_parameters() -> None:
    model = GlobalRegression(2, joint_dims=2, backbone="resnet18", width=8)
    variables = random_variables(model, TRACK)
    assert parameters(variables) == sum(x.size for x in jax.tree.leaves(variables["params"]))
    assert parameters({"params": {"a": np.zeros((2, 3)), "b": 1.0}, "batch_stats": {"c": 1}}) == 7


def test_random_variables_are_the_same_every_time() -> None:
    assert tiny.same(random_variables(MODEL, TRACK), random_variables(MODEL, TRACK))


def network(name: str, **changed: Any) -> Network:
    model = A2J(14, backbone="resnet18", width=8, head_features=8, head_depth=1, **changed)
    return Network(name, model, random_variables(model, TRACK))


def test_every_network_at_every_batch_size_takes_its_turns(tmp_path: Path) -> None:
    """The official network where there is one; the other network of Table 7 is not the official program's."""
    given: list[tuple[int, ...]] = []

    def official_of(model: A2J, variables: Any, crop_size: int) -> Callable[[Images], None]:
        assert not model.one_branch
        assert crop_size == tiny.SIZE

        def forward(images: Images) -> None:
            assert np.isfinite(images).all()
            given.append(images.shape)

        return forward

    networks = [network("full"), network("one branch", one_branch=True)]
    files = plain_frames.write_frames(tmp_path, TRACK, 3)
    found = measure(networks, TRACK, (1, 6), ROUNDS, files, official_of)
    assert [(row.network, row.batch_size) for row in found.rows] == [
        ("full", 1),
        ("full", 6),
        ("one branch", 1),
        ("one branch", 6),
    ]
    assert len({row.flops for row in found.rows}) == 2
    assert [row.parameters for row in found.rows[::2]] == [
        parameters(one.variables) for one in networks
    ]
    assert {len(row.forward) for row in found.rows} == {ROUNDS}
    assert len(found.read_and_warp) == ROUNDS
    assert [row.official and len(row.official) for row in found.rows] == [
        ROUNDS,
        ROUNDS,
        None,
        None,
    ]
    size = (tiny.SIZE, tiny.SIZE, 1)
    assert sorted(given) == [(1, *size)] * (ROUNDS + 1) + [(6, *size)] * (ROUNDS + 1)


def test_the_machine_is_named() -> None:
    facts = machine()
    assert "cpu" in facts["device"]
    assert facts["threads"].startswith(str(usable_cores()))
    for name in ("a2j_jax", "jax", "jaxlib", "numpy", "Python"):
        assert f"{name} " in facts["versions"]


FOUND = Measured(
    (2.0, 2.0, 2.0),
    (
        Row("a2j resnet50", 42_700_000, 11.2e9, 1, (8.0, 6.0, 7.0), None),
        Row("a2j resnet50", 42_700_000, 11.2e9, 8, (3.0,) * 3, (6.0, 4.5, 6.0)),
    ),
)


def test_the_sum_is_of_both_parts() -> None:
    table = speed_table(FOUND, "Speed", NYU)
    cells = dict(zip(table.columns, table.rows[0], strict=True))
    assert cells == {
        "network": "a2j resnet50",
        "M weights": "42.7",
        "GFLOP": "11.20",
        "batch": "1",
        "read, warp": "2",
        "forward": "7 (6.5–7.5)",
        "sum": "9",
        "frames/s": "111.1",
        "paper": "105.06",
    }
    assert table.rows[1][-1] == "–"  # eight frames at a time: the paper has no such number
    assert "| a2j resnet50 | 42.7 |" in markdown(table)


def test_the_comparison_is_by_round() -> None:
    (row,) = comparison_table(FOUND).rows
    assert row == ("a2j resnet50", "8", "3 (3–3)", "6 (5.25–6)", "2.00 (1.75–2.00)")


def test_json_holds_everything() -> None:
    contents = json.loads(json.dumps(to_json(FOUND, {"device": "abacus"}, NYU), allow_nan=False))
    assert contents["device"] == "abacus"
    assert (contents["track"], contents["crop_size"]) == ("nyu", 176)
    one, other = contents["networks"]
    assert one["forward_ms"] == {"median": 7.0, "lower": 6.5, "upper": 7.5}
    assert one["rounds_ms"] == [8.0, 6.0, 7.0]
    assert one["total_ms"] == 9.0
    assert one["frames_per_second"] == pytest.approx(1000 / 9)
    assert one["official"] is None
    assert other["official"]["times_as_fast"]["median"] == 2.0


@pytest.mark.parametrize(
    ("track", "said"), [("nyu", "105.06 frames/s"), ("k2hpd", "93.78 frames/s")]
)
def test_the_papers_speed_is_quoted_with_its_source(track: str, said: str) -> None:
    (note,) = paper_speed(get_track(track))
    assert said in note
    assert "1080 Ti" in note
    assert "Sec. 4.4" in note
    assert note in speed_table(FOUND, "", get_track(track)).notes


def test_where_no_speed_was_published_nothing_is_quoted() -> None:
    hand = get_track("synthetic_hand")
    assert paper_speed(hand) == ()
    assert "paper" not in speed_table(FOUND, "", hand).columns


@pytest.mark.parametrize(
    ("network", "track", "speed"),
    [
        ("a2j resnet18", "nyu", "192.25"),
        ("a2j resnet34", "itop_front", "122.47"),
        ("a2j resnet50", "icvl", "105.06"),
        ("a2j resnet50", "k2hpd", "93.78"),
        ("regression resnet50", "k2hpd", "145.12"),
        ("heat_maps resnet50", "k2hpd", "45.48"),
        ("heat_maps resnet50", "nyu", None),
        ("a2j resnet18", "k2hpd", None),
    ],
)
def test_networks_of_tables_8_and_10(network: str, track: str, speed: str | None) -> None:
    found = Measured(FOUND.read_and_warp, (dataclasses.replace(FOUND.rows[0], network=network),))
    table = speed_table(found, "", get_track(track))
    assert (table.rows[0][-1] if "paper" in table.columns else None) == speed
