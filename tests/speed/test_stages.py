"""What is timed computes what it should: the crop of the builders, the joints of the network, its size and work."""

import dataclasses
from pathlib import Path

import jax
import numpy as np
import pytest
from PIL import Image

from a2j_jax import geometry
from a2j_jax.data import augment, crops
from a2j_jax.errors import UserError
from a2j_jax.models.a2j import A2J
from a2j_jax.models.baselines import GlobalRegression
from a2j_jax.models.decoding import decode
from a2j_jax.tools import timing
from a2j_jax.tools.timing import (
    FrameFile,
    flops_per_frame,
    forward_of,
    frames_per_second,
    parameters,
    random_variables,
    read_and_warp_of,
)
from a2j_jax.tracks import get_track, with_crop_size
from tests import tiny

TRACK = with_crop_size(get_track("nyu"), tiny.SIZE)
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


def test_frames_per_second(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[tuple[int, ...]] = []

    def forward_like(model, variables, track, batch_size):  # type: ignore[no-untyped-def]
        return lambda images: calls.append(images.shape)

    monkeypatch.setattr(timing, "forward_of", forward_like)
    speed = frames_per_second(MODEL, {}, TRACK, batch_size=4, rounds=3)
    assert set(calls) == {(4, tiny.SIZE, tiny.SIZE, 1)}
    assert speed.lower <= speed.milliseconds <= speed.upper
    assert speed.frames_per_second == pytest.approx(1e3 / speed.milliseconds)


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
