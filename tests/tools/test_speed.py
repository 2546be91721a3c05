"""`a2j bench`: turns, frames to read, both parts, and the tables and JSON of their times."""

import dataclasses
import json
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import numpy as np
import pytest
from PIL import Image

from a2j_jax import geometry
from a2j_jax.baselines import GlobalRegression
from a2j_jax.data import augment, crops
from a2j_jax.errors import UserError
from a2j_jax.evaluation.tables import markdown
from a2j_jax.inference.frames import read_frame
from a2j_jax.models.a2j import A2J, flops_per_frame
from a2j_jax.models.anchors import decode
from a2j_jax.tools.speed import (
    WARM_UP_ROUNDS,
    FrameFile,
    Images,
    Network,
    comparison_table,
    forward_of,
    frames_per_second,
    measure,
    parameters,
    random_variables,
    read_and_warp_of,
    speed_table,
    take_turns,
    times_of,
    write_frames,
)
from a2j_jax.tracks import get_track, with_crop_size
from tests import tiny
from tests.tools import plain_frames

NYU = get_track("nyu")
TRACK = with_crop_size(NYU, tiny.SIZE)
ROUNDS = 2


def test_rounds_after_the_warm_up_are_timed_and_their_order_turns_around():
    now, log, advanced = [100.0], [], []

    def work(name: str, seconds: list[float]) -> None:
        log.append(name)
        now[0] += seconds.pop(0)

    warm_up = [60.0] * WARM_UP_ROUNDS
    seconds = {"a": [0.010, 0.030, 0.020], "b": [0.4] * 3, "c": [0.0] * 3}
    calls = {name: partial(work, name, warm_up + each) for name, each in seconds.items()}
    found = take_turns(calls, 3, advance=advanced.append, clock=lambda: now[0])
    for name, each in seconds.items():
        np.testing.assert_allclose(found[name], 1e3 * np.array(each), atol=1e-6)
    assert "".join(log[3 * WARM_UP_ROUNDS :]) == "abc" + "cba" + "abc"
    assert advanced == [1] * len(log)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["nyu", "k2hpd"])
def test_frames_show_what_is_cropped(tmp_path, name):
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
            u, v, d = file.center_uvd
            rows, columns = np.nonzero(np.abs(depth - d) < 150)
            assert np.hypot(rows - v, columns - u).min() < 20
        else:
            assert file.center_uvd is None
            assert file.box_px is not None
            width, height = file.box_px[2:] - file.box_px[:2]
            assert width > 20
            assert height > 50


MODEL = A2J(14, backbone="resnet18", width=8, head_features=8, head_depth=1)


@pytest.mark.parametrize("name", ["nyu", "icvl", "itop_front", "k2hpd"])
def test_the_crop_is_that_of_a_data_set(tmp_path, name):
    track = get_track(name)
    rng = np.random.default_rng(0)
    depth = rng.integers(600, 900, track.frame_size[::-1], np.uint16)
    depth[:, :20] = 0
    image = depth
    if track.frame_format == "nyu_packed":
        image = np.stack([depth * 0, depth // 256, depth % 256], -1).astype(np.uint8)
    Image.fromarray(image).save(tmp_path / "frame.png")
    center, box = np.array([*np.divide(track.frame_size, 2), 750.0]), None
    if track.crop_by == "box":
        center, box = None, np.array([40.0, 30.0, 200.0, 190.0])
    found = read_and_warp_of(track)(FrameFile(tmp_path / "frame.png", center, box))

    stored = crops.cut(crops.to_storage_units(depth, track), track, center, box).canvas
    crop = geometry.center_crop(stored, track.crop_size)
    wanted = augment.normalize(crop, np.float32(0 if center is None else center[2]), track)
    assert found.shape == (track.crop_size, track.crop_size, 1)
    assert found.dtype == np.float32
    assert found.std() > 0.1
    np.testing.assert_allclose(found[..., 0], wanted, atol=1e-5)


def test_a_host_that_is_left_out(monkeypatch):
    def no_host(backend: str) -> list[jax.Device]:
        raise RuntimeError(f"Unknown backend {backend}")

    monkeypatch.setattr("jax.local_devices", no_host)
    with pytest.raises(UserError, match="JAX_PLATFORMS leaves out the CPU"):
        read_and_warp_of(TRACK)


def test_forward_is_network_and_decoding():
    variables = random_variables(MODEL, TRACK)
    images = np.random.default_rng(0).standard_normal((2, tiny.SIZE, tiny.SIZE, 1), np.float32)
    found = forward_of(MODEL, variables, TRACK, 2)(images)
    wanted = decode(jax.jit(MODEL.apply)(variables, images), tiny.SIZE)
    assert isinstance(found.joints, np.ndarray)  # in host memory, that is: done
    assert np.isfinite(found.joints).all()
    np.testing.assert_allclose(found.joints, wanted.joints, rtol=1e-3, atol=1e-3)


def test_frames_per_second():
    calls: list[tuple[int, ...]] = []
    found = frames_per_second(lambda images: calls.append(images.shape), tiny.SIZE, rounds=3)
    assert set(calls) == {(1, tiny.SIZE, tiny.SIZE, 1)}
    assert found["lower"] <= found["milliseconds"] <= found["upper"]
    assert found["frames_per_second"] == pytest.approx(1e3 / found["milliseconds"])


def test_flops_are_those_of_the_convolutions():
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


def network(name: str, **changed: Any) -> Network:
    model = A2J(14, backbone="resnet18", width=8, head_features=8, head_depth=1, **changed)
    return Network(name, model, random_variables(model, TRACK))


@pytest.mark.slow
def test_every_network_at_every_batch_size_takes_its_turns(tmp_path):
    """The official network where there is one; the other network of Table 7 is not the official program's."""
    given: list[tuple[int, ...]] = []

    def official_of(model: A2J, variables: Any, crop_size: int) -> Callable[[Images], None]:
        assert not model.one_branch
        assert crop_size == tiny.SIZE

        def forward(images: Images) -> None:
            assert np.isfinite(images).all()
            given.append(images.shape)
            if len(images) > 1:
                time.sleep(0.1)

        return forward

    networks = [network("full"), network("one branch", one_branch=True)]
    files = plain_frames.write_frames(tmp_path, TRACK, 3)
    found = measure(networks, TRACK, (1, 6), ROUNDS, files, official_of)["networks"]
    rows = [(row["network"], row["batch_size"]) for row in found]
    assert rows == [("full", 1), ("full", 6), ("one branch", 1), ("one branch", 6)]
    assert len({row["flops_per_frame"] for row in found}) == 2
    counts = [parameters(one.variables) for one in networks]
    assert [row["parameters"] for row in found[::2]] == counts
    assert {len(row["rounds_ms"]) for row in found} == {ROUNDS}
    timed = [row["official"] and len(row["official"]["rounds_ms"]) for row in found]
    assert timed == [ROUNDS, ROUNDS, None, None]
    # A batch is counted by its frames.
    assert 100 / 6 < min(found[1]["official"]["rounds_ms"]) < 100
    size = (tiny.SIZE, tiny.SIZE, 1)
    assert sorted(given) == [(1, *size)] * (ROUNDS + 1) + [(6, *size)] * (ROUNDS + 1)


def timed(*rows: dict[str, Any]) -> dict[str, Any]:
    reading = {"median": 2.0, "lower": 2.0, "upper": 2.0}
    return {"read_and_warp_ms": reading, "networks": rows}


def one_at_a_time(network: str) -> dict[str, Any]:
    return times_of(network, 42_700_000, 11.2e9, 1, 2.0, np.array([8.0, 6.0, 7.0]), None)


COMPARED = times_of(
    "A2J resnet50", 42_700_000, 11.2e9, 8, 2.0, np.array([3.0] * 3), np.array([6.0, 4.5, 6.0])
)
SMALL = times_of("own, Tiny", 230_000, 1.234e6, 1, 2.0, np.array([1.0, 1.0, 1.0]), None)
FOUND = timed(one_at_a_time("A2J resnet50"), COMPARED)


def test_the_sum_is_of_both_parts():
    assert json.loads(json.dumps(FOUND, allow_nan=False))["networks"] == list(FOUND["networks"])
    table = speed_table(FOUND, "Speed", NYU)
    cells = dict(zip(table.columns, table.rows[0], strict=True))
    assert cells == {
        "network": "A2J resnet50",
        "M weights": "42.7",
        "GFLOP": "11.2",
        "batch": "1",
        "read, warp": "2",
        "forward": "7 (6.5–7.5)",
        "sum": "9",
        "frames/s": "111.1",
        "paper": "105.06",
    }
    assert {row[1:3] for row in speed_table(timed(SMALL), "", NYU).rows} == {("0.23", "0.00123")}
    assert table.rows[1][-1] == "–"  # eight frames at a time: the paper has no such number
    assert "| A2J resnet50 | 42.7 |" in markdown(table)


def test_the_comparison_is_by_round():
    (row,) = comparison_table(FOUND).rows
    assert row == ("A2J resnet50", "8", "3 (3–3)", "6 (5.25–6)", "2.00 (1.75–2.00)")
    # What slows both does not change their ratio, and only runs of the same rounds are compared.
    slow = np.array([1.0, 1.0, 5.0, 1.0, 7.0])
    both = times_of("n", 1, 1.0, 1, 2.0, 20 * slow, 30 * slow)
    assert set(both["official"]["times_as_fast"].values()) == {1.5}
    with pytest.raises(ValueError):
        times_of("n", 1, 1.0, 1, 2.0, np.ones(2), np.ones(3))


@pytest.mark.parametrize(("track", "fps"), [("nyu", "105.06"), ("synthetic_hand", None)])
def test_the_papers_speed_is_quoted_with_its_source(track, fps):
    table = speed_table(FOUND, "", get_track(track))
    quoted = [note for note in table.notes if "1080 Ti" in note and "Sec. 4.4" in note]
    assert len(quoted) == (fps is not None)
    assert all(f"{fps} frames/s" in note for note in quoted)


@pytest.mark.parametrize(
    ("network", "track", "speed"),
    [
        ("A2J resnet18", "nyu", "192.25"),
        ("A2J resnet34", "itop_front", "122.47"),
        ("A2J resnet50", "icvl", "105.06"),
        ("A2J resnet50", "k2hpd", "93.78"),
        ("global regression resnet50", "k2hpd", "145.12"),
        ("FCN with heat maps resnet50", "k2hpd", "45.48"),
        ("FCN with heat maps resnet50", "nyu", None),
        ("A2J resnet18", "k2hpd", None),
        ("tiny, A2J resnet50", "nyu", None),
    ],
)
def test_networks_of_tables_8_and_10(network, track, speed):
    table = speed_table(timed(one_at_a_time(network)), "", get_track(track))
    assert (table.rows[0][-1] if "paper" in table.columns else None) == speed
