"""The device-side crop against the official one; the mapping, the draws and the borders."""

import dataclasses
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from a2j_jax import geometry
from a2j_jax.data import augment, crops
from a2j_jax.data.crops import Crop
from a2j_jax.lowering import lowering_for
from a2j_jax.tracks import get_track, with_crop_size


@partial(jax.jit, static_argnums=(1, 2))
def draw(key, size, track):
    return augment.draw(augment.example_keys(key, size), track)


augmented = jax.jit(augment.augment, static_argnames=("track", "border"))


@pytest.fixture(scope="module")
def official_augmentation(parity):
    """Canvases of the four frames, the fixed draws, and the official crops and labels (u, v, d)."""
    data, augmentation = (
        np.load(parity / f"preprocess_{name}.npz") for name in ("nyu", "nyu_augmented")
    )
    track = get_track("nyu")
    cuts = [
        crops.cut(frame, track, center)
        for frame, center in zip(data["frames"], data["centers_uvd"], strict=True)
    ]
    inputs = {
        name: np.stack(values)
        for name, values in zip(Crop._fields, zip(*cuts, strict=True), strict=True)
    }
    inputs |= {"center_uvd": data["centers_uvd"], "joints_uvd": data["joints_uvd"]}
    draws = augmentation["draws"].astype(np.float32)
    draws = augment.no_draws(4, track)._replace(
        box_jitter_px=draws[:, :4], rotation_deg=draws[:, 4], scale=draws[:, 5] + 0.5
    )
    return inputs, draws, augmentation["crop"][:, 0], augmentation["label"][..., [1, 0, 2]]


def held_by_the_canvas(inputs, draws, i):
    """Output pixels of frame i whose four source pixels all are in its canvas, (S, S) bool."""
    track = get_track("nyu")
    size, margin = track.crop_size, track.margin
    box = inputs["box_px"][i].astype(int)
    jittered = geometry.clip_box(
        inputs["window_px"][i] + draws.box_jitter_px[i], track.frame_size
    ).astype(int)
    known = []
    for axis in (1, 0):  # rows, columns
        stored = geometry.lattice(box[axis], box[axis + 2], size, margin)
        wanted = geometry.lattice(jittered[axis], jittered[axis + 2], size)
        known.append(np.isin(wanted, stored))
    # Beyond the crop there is nothing to be held: the border is known, too.
    known = np.pad(known[0][:, None] & known[1][None, :], 300, constant_values=True)
    angle, scale = np.deg2rad(draws.rotation_deg[i]), draws.scale[i]
    ramp = np.arange(size) - size / 2
    u, v = np.meshgrid(ramp, ramp)
    x = (np.cos(angle) * u - np.sin(angle) * v) / scale + size / 2 + 300
    y = (np.sin(angle) * u + np.cos(angle) * v) / scale + size / 2 + 300
    column, row = np.floor(x).astype(int), np.floor(y).astype(int)
    taps = [known[row + dy, column + dx] for dy in (0, 1) for dx in (0, 1)]
    return np.logical_and.reduce(taps)


def test_fixed_draws_give_the_official_crop(official_augmentation):
    inputs, draws, images, labels = official_augmentation
    ours, joints = augmented(inputs, draws=draws, track=get_track("nyu"), border="crop")
    np.testing.assert_allclose(joints, labels, rtol=0, atol=1e-3)  # px and mm
    error = np.abs(np.asarray(ours)[..., 0] - images)
    close = (error < 0.05).mean(axis=(1, 2))
    # Measured: 1.0, 0.949, 0.993, 1.0. The frames are speckled with holes, and where a window of
    # 210 px becomes a crop of 176 the canvas holds neighbors of some of the pixels that jitter
    # asks for.
    assert close.mean() > 0.98
    assert np.all(close > [0.9999, 0.94, 0.99, 0.9999])
    for i in range(4):
        held = held_by_the_canvas(inputs, draws, i)
        assert held.mean() > 0.4
        assert error[i][held].max() < 2e-4  # wherever it holds the pixels, it is the official crop


def test_without_draws_it_is_the_evaluation_image(official_augmentation):
    inputs, _, _, _ = official_augmentation
    track, theta = get_track("nyu"), inputs["center_uvd"][:, 2]
    expected = augment.evaluation_images(inputs["canvas"], theta, track)
    official = crops.joints_to_crop(inputs["joints_uvd"], inputs["box_px"], theta, track)
    none = augment.no_draws(4, track)
    for border in ("crop", "canvas"):
        images, joints = augmented(inputs, draws=none, track=track, border=border)
        np.testing.assert_allclose(images, expected, rtol=0, atol=1e-5)
        np.testing.assert_allclose(joints, official, rtol=0, atol=1e-3)


def test_loop_and_vmap_give_the_same_crop(official_augmentation):
    inputs, draws, _, _ = official_augmentation
    crop = partial(augment.augment, track=get_track("nyu"))
    looped, _ = jax.jit(partial(crop))(inputs, draws)
    with lowering_for("gpu"):
        mapped, _ = jax.jit(partial(crop))(inputs, draws)  # another function: traced again
    np.testing.assert_allclose(looped, mapped, rtol=0, atol=1e-5)


def plain_images(batch, draws, track, border):
    """What `augment` should show, pixel by pixel in float32: the crop by pairs of indices, the warp by four of them."""
    reach = 1 + (track.margin if border == "canvas" else 0)
    last = track.crop_size + 2 * reach - 1
    k = np.arange(-reach, track.crop_size + reach)
    inside = (k >= 0) & (k < track.crop_size)
    for i, canvas in enumerate(batch["canvas"]):
        box = np.float32(batch["box_px"][i])
        jittered = geometry.clip_box(
            batch["window_px"][i] + draws.box_jitter_px[i], track.frame_size
        ).astype(np.float32)
        (columns, column_known), (rows, row_known) = (
            map(np.asarray, augment.canvas_lookup(box[a::2], jittered[a::2], track, reach))
            for a in (0, 1)
        )
        pixels = np.where(np.outer(row_known, column_known), canvas[np.ix_(rows, columns)], 0)
        depth, scale = batch["center_uvd"][i, 2], draws.scale[i]
        frame = np.asarray(augment.normalize(pixels, depth, track, scale))
        if border == "crop":
            frame = np.where(np.outer(inside, inside), frame, np.float32(0))
        x, y = (
            np.clip(np.asarray(places) + np.float32(reach), 0, last)
            for places in augment.source_coordinates(track.crop_size, draws.rotation_deg[i], scale)
        )
        column, row = (np.minimum(places.astype(np.int32), last - 1) for places in (x, y))
        right, down = x - np.float32(column), y - np.float32(row)
        above = frame[row, column] * (1 - right) + frame[row, column + 1] * right
        below = frame[row + 1, column] * (1 - right) + frame[row + 1, column + 1] * right
        yield above * (1 - down) + below * down


def places_at_the_edges(track, seed):
    """Made-up crops of 12 to 250 px, of which one lies in each corner of the frame."""
    rng = np.random.default_rng(seed)
    corner = np.array([[0, 0], [620, 0], [0, 460], [620, 460], [200, 100], [310, 222]], np.float64)
    box = np.concatenate([corner, corner + rng.integers(12, 250, corner.shape)], axis=1)
    batch = {
        "canvas": rng.integers(0, 4000, (6, track.canvas_size, track.canvas_size), np.uint16),
        "box_px": geometry.clip_box(box, track.frame_size),
        "window_px": box,
        "center_uvd": np.full((6, 3), 800, np.float32),
        "joints_uvd": np.full((6, track.num_joints, 3), 100, np.float32),
    }
    jitter = rng.integers(-30, 30, (6, 4)).astype(np.float32)
    return batch, augment.no_draws(6, track)._replace(box_jitter_px=jitter), rng


@pytest.mark.parametrize("platform", ["cpu", "tpu"])
@pytest.mark.parametrize("border", ["canvas", "crop"])
def test_pixels_are_those_of_a_plain_look_up(platform, border):
    """Bit for bit, whichever way a platform gathers them, op by op and compiled."""
    track = with_crop_size(get_track("nyu"), 32)
    track = dataclasses.replace(track, mean=0.0, std=1.0, depth_window_mm=None)

    def images(batch, draws):
        return augment.augment(batch, draws, track, border)[0][..., 0]

    spread = NamedSharding(Mesh(np.array(jax.devices()[:1]), "data"), PartitionSpec("data"))
    mapped = jax.pmap(images)
    compiled = {
        "jit": jax.jit(images),
        "mesh": jax.jit(images, in_shardings=spread),
        "pmap": lambda *example: mapped(*jax.tree.map(lambda x: x[None], example))[0],
    }
    for seed in range(3):
        batch, draws, rng = places_at_the_edges(track, seed)
        turned = draws._replace(
            rotation_deg=rng.uniform(-180, 180, 6).astype(np.float32),
            scale=rng.uniform(0.5, 1.5, 6).astype(np.float32),
        )
        # Without rounding: a compiler may add and multiply in one instruction, which rounds once.
        exact = draws._replace(scale=np.float32([0.5, 1, 2] * 2))
        wanted = {
            name: np.stack(list(plain_images(batch, chosen, track, border)))
            for name, chosen in (("turned", turned), ("exact", exact))
        }
        with lowering_for(platform):
            np.testing.assert_array_equal(images(batch, turned), wanted["turned"])
            for way, function in compiled.items():
                np.testing.assert_array_equal(function(batch, exact), wanted["exact"], err_msg=way)


def ramp_batch(track, corner=(200, 120)):
    """A frame whose depth tells the place, d = 400 + u + v mm; an S x S box: lattice = pixels."""
    width, height = track.frame_size
    u, v = np.meshgrid(np.arange(width), np.arange(height))
    frame = (400 + u + v).astype(np.uint16)
    size = track.crop_size
    box = np.array([*corner, corner[0] + size, corner[1] + size], np.float64)
    crop = crops.cut(frame, track, box_px=box)
    center_depth = 400.0 + corner[0] + corner[1] + size
    joints = np.zeros((1, track.num_joints, 3), np.float32)
    joints[0, :, 0] = np.linspace(corner[0] + 20, corner[0] + size - 20, track.num_joints)
    joints[0, :, 1] = np.linspace(corner[1] + size - 15, corner[1] + 30, track.num_joints)
    joints[0, :, 2] = 400 + joints[0, :, 0] + joints[0, :, 1]
    inputs = {name: values[None] for name, values in crop._asdict().items()}
    center = np.array([[0, 0, center_depth]], np.float32)
    return {**inputs, "center_uvd": center, "joints_uvd": joints}


@pytest.mark.parametrize(("rotation", "scale"), [(0, 1.0), (37, 0.9), (-120, 1.4), (179, 0.8)])
@pytest.mark.parametrize("shift", [(0, 0), (4, -3)])
def test_the_mapping_is_exact_on_a_ramp(rotation, scale, shift):
    track = with_crop_size(get_track("nyu"), 96)
    track = dataclasses.replace(track, mean=0.0, std=1.0, depth_window_mm=None)
    inputs = ramp_batch(track)
    draws = augment.no_draws(1, track)._replace(
        box_jitter_px=jnp.array([[*shift, *shift]], jnp.float32),
        rotation_deg=jnp.array([rotation], jnp.float32),
        scale=jnp.array([scale], jnp.float32),
    )
    images, joints = augmented(inputs, draws=draws, track=track)
    image, joints = np.asarray(images)[0, ..., 0], np.asarray(joints)[0]

    # Every pixel shows the depth of the place it claims to show.
    size = track.crop_size
    x, y = augment.source_coordinates(size, draws.rotation_deg[0], draws.scale[0])
    u = inputs["window_px"][0, 0] + shift[0] + x
    v = inputs["window_px"][0, 1] + shift[1] + y
    expected = (400 + u + v - inputs["center_uvd"][0, 2]) * scale
    margin = track.margin - max(abs(shift[0]), abs(shift[1])) - 1
    known = (np.minimum(x, y) >= -margin) & (np.maximum(x, y) <= size - 1 + margin)
    assert known.mean() > 0.5
    np.testing.assert_allclose(image[known], np.asarray(expected)[known], rtol=0, atol=2e-3)

    # And so the image at a joint shows that joint: labels and pixels move together.
    visible = np.all((joints[:, :2] > 1) & (joints[:, :2] < size - 2), axis=-1)
    assert visible.sum() >= 5
    for u, v, depth in joints[visible]:
        i, j, du, dv = int(v), int(u), u - int(u), v - int(v)
        patch = image[i : i + 2, j : j + 2]
        sampled = np.array([1 - dv, dv]) @ patch @ np.array([1 - du, du])
        assert abs(sampled - depth) < 5e-3


def test_borders():
    track = with_crop_size(get_track("nyu"), 96)
    inputs = ramp_batch(track)
    draws = augment.no_draws(1, track)._replace(scale=jnp.array([0.5]))
    official, _ = augmented(inputs, draws=draws, track=track, border="crop")
    ours, _ = augmented(inputs, draws=draws, track=track, border="canvas")
    official, ours = np.asarray(official)[0, ..., 0], np.asarray(ours)[0, ..., 0]
    # At half the size the crop fills the middle 48 px, and the margin of 12 another 6 on each side.
    assert np.all(official[:, :23] == 0.0)
    np.testing.assert_allclose(official[26:70, 26:70], ours[26:70, 26:70], atol=1e-5)
    assert np.all(np.abs(ours[48, 19:23] - ours[48, 0]) > 0.1)  # real pixels
    np.testing.assert_allclose(ours[:, :17], -track.mean / track.std, atol=1e-6)  # no reading


def applied(track, box, joint, draws):
    """Images and targets of one box of a frame at 2 m; every joint is the same."""
    width, height = track.frame_size
    frame = np.full((height, width), round(2000 / track.storage_unit_mm), np.uint16)
    crop = crops.cut(frame, track, box_px=box)
    joints = np.full((1, track.num_joints, track.joint_dims), joint, np.float32)
    inputs = {name: values[None] for name, values in crop._asdict().items()}
    batch = {**inputs, "center_uvd": np.zeros((1, 3)), "joints_uvd": joints}
    return augmented(batch, draws, track=track)


def test_scale_leaves_absolute_depth_alone():
    track = dataclasses.replace(with_crop_size(get_track("itop_front"), 96), mean=0.0, std=1.0)
    draws = augment.no_draws(1, track)._replace(scale=jnp.array([1.2]))
    images, joints = applied(track, [100, 60, 200, 160], (150.0, 110.0, 2000.0), draws)
    np.testing.assert_allclose(images, 2.0, rtol=1e-6)
    np.testing.assert_allclose(joints, np.full((1, 15, 3), (48.0, 48.0, 100.0)), rtol=1e-5)


def test_two_dimensional_tracks():
    track = with_crop_size(get_track("k2hpd"), 96)
    images, joints = applied(track, [40, 32, 120, 190], 80.0, draw(jax.random.key(0), 1, track))
    assert images.shape == (1, 96, 96, 1)
    assert joints.shape == (1, 19, 2)


def test_a_box_smaller_than_its_jitter_still_gives_numbers():
    track = with_crop_size(get_track("itop_front"), 96)
    draws = augment.no_draws(1, track)._replace(box_jitter_px=jnp.array([[14.0, 14, -15, -15]]))
    for values in applied(track, [100, 60, 110, 70], 105.0, draws):
        assert np.isfinite(values).all()


def test_draws_keep_to_the_ranges_and_to_the_key():
    track = with_crop_size(get_track("nyu"), 32)
    draws = draw(jax.random.key(3), 512, track)
    jitter = np.asarray(draws.box_jitter_px)
    assert (jitter.min(), jitter.max()) == (-5, 4)
    assert np.all(jitter == np.round(jitter))
    for values, low, high in ((draws.rotation_deg, -180, 180), (draws.scale, 0.5, 1.5)):
        assert low <= values.min() < low + 0.02 * (high - low)
        assert high >= values.max() > high - 0.02 * (high - low)
    again = draw(jax.random.key(3), 512, track)
    other = draw(jax.random.key(4), 512, track)
    assert all(np.array_equal(a, b) for a, b in zip(draws, again, strict=True))
    assert not np.array_equal(draws.noise, other.noise)


def test_what_an_example_draws_depends_on_its_place_and_not_on_its_batch():
    track = with_crop_size(get_track("nyu"), 32)
    whole = draw(jax.random.key(3), 8, track)
    keys = augment.example_keys(jax.random.key(3), 3, first=5)
    part = jax.jit(augment.draw, static_argnums=1)(keys, track)
    for drawn, of_whole in zip(part, whole, strict=True):
        np.testing.assert_array_equal(drawn, of_whole[5:])
    assert len(np.unique(whole.rotation_deg)) == 8


def test_tracks_without_augmentation_draw_nothing():
    track = with_crop_size(get_track("nyu"), 32)
    off = dataclasses.replace(track.augmentation, max_rotation_deg=0.0, scale_range=(1.0, 1.0),
                              box_jitter_px=0, noise_probability=0.0)  # fmt: skip
    draws = draw(jax.random.key(0), 8, dataclasses.replace(track, augmentation=off))
    for drawn, none in zip(draws, augment.no_draws(8, track), strict=True):
        np.testing.assert_array_equal(drawn, none)


def test_noise_is_gaussian_on_one_rectangle():
    track = with_crop_size(get_track("itop_front"), 64)
    noise = np.asarray(draw(jax.random.key(0), 400, track).noise)
    noisy = [image for image in noise if image.any()]
    assert 0.42 < len(noisy) / len(noise) < 0.58
    areas = []
    for image in noisy:
        rows, columns = np.flatnonzero(image.any(1)), np.flatnonzero(image.any(0))
        inside = image[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
        assert (inside != 0).mean() > 0.99
        areas.append(inside.size / image.size)
    assert 0.015 < min(areas) < 0.05
    assert 0.35 < max(areas) < 0.42
    values = np.concatenate([image[image != 0] for image in noisy])
    np.testing.assert_allclose([values.mean(), values.std()], [0.0, 0.2], atol=2e-3)


def test_another_center_gives_the_crop_that_is_cut_around_it():
    """Recentered, a batch is what cutting the frame at the shifted center gives, where the canvas reaches."""
    track = dataclasses.replace(with_crop_size(get_track("nyu"), 96), mean=0.0, std=1.0)
    rng, camera = np.random.default_rng(0), track.camera
    slope = np.round(0.3 * np.arange(track.frame_size[0]))
    frame = np.tile((660 + slope).astype(np.uint16), (track.frame_size[1], 1))
    joints = rng.uniform([[250, 180, 700]], [[390, 300, 800]], (track.num_joints, 3))
    center = np.array([310.0, 250.0, 750.0])
    shift = np.array([9.0, -7.0, 21.0])
    moved = geometry.xyz_to_uvd(geometry.uvd_to_xyz(center, camera) + shift, camera)

    def batch_at(uvd):
        crop = crops.cut(frame, track, center_uvd=uvd)
        example = {**crop._asdict(), "center_uvd": uvd, "joints_uvd": joints}
        example |= {"camera": camera.as_array()}
        return {name: np.asarray(value)[None] for name, value in example.items()}

    before, wanted = batch_at(center), batch_at(moved)
    found = jax.jit(augment.recenter)(before, np.float32([shift]))
    np.testing.assert_allclose(found["center_uvd"], wanted["center_uvd"], rtol=1e-6)
    np.testing.assert_allclose(found["window_px"], wanted["window_px"], rtol=1e-5)
    none = augment.no_draws(1, track)
    (image, target), (same, same_target) = (
        augmented(batch, none, track=track) for batch in (found, wanted)
    )
    np.testing.assert_allclose(target, same_target, atol=2e-3)
    # The canvas shows every second pixel, and lattice points of the other crop fall between: 2 px are 0.6 mm, rounded.
    assert np.abs(np.asarray(same)).max() > 20
    np.testing.assert_allclose(image, same, atol=1.0)


def test_centers_are_shifted_as_far_as_the_track_says():
    track = get_track("nyu")
    ranges = dataclasses.replace(track.augmentation, center_shift_mm=10.0)
    track = dataclasses.replace(track, augmentation=ranges)
    keys = augment.example_keys(jax.random.key(0), 4000)
    shift = np.asarray(augment.draw_center_shifts(keys, track))
    assert shift.mean(axis=0) == pytest.approx([0, 0, 0], abs=1.0)
    # 85 % with 10 mm, 15 % with 20 mm: σ² = 145.
    assert shift.std(axis=0) == pytest.approx([12.04] * 3, rel=0.05)
    far = (np.linalg.norm(shift, axis=1) > 40).mean()
    assert 0.02 < far < 0.06, "more outliers than a Gaussian has"
