"""Cameras, boxes, the canvas and the crop maps: round trips, borders, degenerate boxes."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from a2j_jax import geometry
from a2j_jax.errors import UserError
from a2j_jax.geometry import Camera

WIDTH, HEIGHT = 64, 48

cameras = st.builds(
    Camera,
    fx=st.floats(50, 800),
    fy=st.floats(50, 800) | st.floats(-800, -50),
    u0=st.floats(0, 640),
    v0=st.floats(0, 480),
)
points_uvd = st.tuples(st.floats(-700, 700), st.floats(-700, 700), st.floats(1, 9000)).map(np.array)
boxes = st.tuples(
    st.floats(0, WIDTH - 4), st.floats(0, HEIGHT - 4), st.floats(2, WIDTH), st.floats(2, HEIGHT)
).map(lambda b: np.array([b[0], b[1], min(b[0] + b[2], WIDTH - 1), min(b[1] + b[3], HEIGHT - 1)]))


@given(points_uvd, cameras)
def test_uvd_to_xyz_and_back(uvd, camera):
    back = geometry.xyz_to_uvd(geometry.uvd_to_xyz(uvd, camera), camera)
    np.testing.assert_allclose(back, uvd, rtol=1e-9, atol=1e-6)


def test_uvd_to_xyz_signs_and_scale():
    camera = Camera(500.0, -500.0, 320.0, 240.0)  # y up
    np.testing.assert_allclose(
        geometry.uvd_to_xyz([[420.0, 340.0, 1000.0]], camera), [[200.0, -200.0, 1000.0]]
    )


def test_cameras_round_trip_through_arrays():
    camera = Camera(1.5, -2.5, 3.0, 4.0)
    assert Camera.from_array(camera.as_array()) == camera


@given(points_uvd, st.floats(10, 500), cameras)
def test_box_from_center_is_ordered_centred_and_of_the_right_size(center, half_window, camera):
    x0, y0, x1, y1 = geometry.box_from_center(center, half_window, camera)
    assert x0 < x1
    assert y0 < y1
    np.testing.assert_allclose([(x0 + x1) / 2, (y0 + y1) / 2], center[:2], rtol=1e-9, atol=1e-5)
    np.testing.assert_allclose(
        [x1 - x0, y1 - y0],
        2 * half_window * np.abs([camera.fx, camera.fy]) / center[2],
        rtol=1e-6,
    )


def test_box_from_center_is_vectorised():
    centers = np.array([[[320.0, 240.0, 500.0]], [[100.0, 80.0, 900.0]]])
    camera = Camera(588.03, -587.07, 320.0, 240.0)
    many = geometry.box_from_center(centers, 110.0, camera)
    assert many.shape == (2, 1, 4)
    np.testing.assert_array_equal(
        many[1, 0], geometry.box_from_center(centers[1, 0], 110.0, camera)
    )


@pytest.mark.parametrize("depth", [0.0, -5.0, np.nan, np.inf])
def test_box_from_center_needs_a_depth(depth):
    with pytest.raises(UserError, match="depth > 0"):
        geometry.box_from_center([10.0, 10.0, depth], 100.0, Camera(500, 500, 320, 240))


@given(st.lists(st.floats(-1e4, 1e4), min_size=4, max_size=4))
def test_clip_box_stays_in_the_frame_and_keeps_what_is_inside(box):
    clipped = geometry.clip_box(box, (WIDTH, HEIGHT))
    assert np.all(clipped >= 0)
    assert np.all(clipped <= [WIDTH - 1, HEIGHT - 1, WIDTH - 1, HEIGHT - 1])
    np.testing.assert_array_equal(geometry.clip_box(clipped, (WIDTH, HEIGHT)), clipped)
    inside = (np.array(box) >= 0) & (np.array(box) <= [63, 47, 63, 47])
    np.testing.assert_array_equal(clipped[inside], np.array(box)[inside])


@given(st.integers(0, 500), st.integers(1, 700), st.sampled_from([16, 96, 176, 288]))
def test_lattice_is_exact_but_for_opencvs_rounding(start, extent, size):
    points = geometry.lattice(start, start + extent, size, margin=size // 8)
    k = range(-(size // 8), size + size // 8)
    for point, i in zip(points.tolist(), k, strict=True):
        exact = start + (i * extent) // size  # Python's integers know no rounding
        assert point == exact or (point == exact - 1 and i * extent % size == 0)
    crop = points[size // 8 : -(size // 8)]
    assert crop[0] == start
    assert crop[-1] < start + extent
    assert np.all(np.diff(points) >= 0)


@pytest.mark.parametrize(("size", "widths", "points"), [(176, 49, 136), (288, 59, 277)])
def test_lattice_rounds_as_opencv_does(size, widths, points):
    """Recorded from cv2.resize(INTER_NEAREST), 4.11 and 5.0: where it is one pixel short of exact."""
    k = np.arange(size)
    short = [(geometry.lattice(0, w, size) != k * w // size).sum().item() for w in range(1, 641)]
    assert (np.count_nonzero(short), sum(short)) == (widths, points)


@settings(max_examples=50)
@given(boxes, st.sampled_from([16, 32, 96]), st.integers(0, 12))
def test_canvas_shows_the_lattice_and_its_centre_is_the_crop(box, size, margin):
    frame = 1 + np.arange(WIDTH * HEIGHT, dtype=np.uint16).reshape(HEIGHT, WIDTH)
    canvas = geometry.crop_canvas(frame, box, size, margin)
    assert canvas.shape == (size + 2 * margin,) * 2
    assert canvas.dtype == frame.dtype
    x0, y0, x1, y1 = (int(edge) for edge in box)
    rows, columns = (
        geometry.lattice(*edges, size, margin).tolist() for edges in ((y0, y1), (x0, x1))
    )
    for i, j in [(0, 0), (margin, margin), (size + 2 * margin - 1, margin // 2), (-1, -1)]:
        i, j = i % len(canvas), j % len(canvas)
        row, column = rows[i], columns[j]
        inside = 0 <= row < HEIGHT and 0 <= column < WIDTH
        assert canvas[i, j] == (frame[row, column] if inside else 0)
    crop = geometry.center_crop(canvas, size)
    np.testing.assert_array_equal(crop, geometry.crop_canvas(frame, box, size, 0))
    assert crop.min() > 0  # the crop itself never leaves the frame


def test_canvas_fills_what_is_off_the_frame():
    frame = np.full((HEIGHT, WIDTH), 7, np.float32)
    canvas = geometry.crop_canvas(frame, [0.0, 0.0, 32.0, 47.0], 16, 4, outside=-1)
    assert np.all(canvas[:4] == -1)
    assert np.all(canvas[:, :4] == -1)
    assert np.all(canvas[4:-4, 4:] == 7)
    assert frame.min() == 7  # the frame itself is left alone


@pytest.mark.parametrize(
    "box",
    [
        (-30, 5, -10, 20),  # left of the frame
        (70, 5, 90, 20),  # right of it
        (5, 60, 20, 90),  # below
        (10.2, 5, 10.9, 20),  # no whole column between int() of the edges
        (5, 20, 30, 20),  # no height
        (30, 5, 10, 20),  # inverted
    ],
)
def test_boxes_without_pixels_are_the_users_mistake(box):
    clipped = geometry.clip_box(box, (WIDTH, HEIGHT))
    with pytest.raises(UserError, match="covers no pixel of the 64x48 frame"):
        geometry.crop_canvas(np.zeros((HEIGHT, WIDTH), np.uint16), clipped, 16, 2)


def test_unclipped_boxes_are_refused():
    with pytest.raises(ValueError, match="clip_box first"):
        geometry.crop_canvas(np.zeros((HEIGHT, WIDTH), np.uint16), (-3.0, 2, 20, 20), 16, 2)


@given(boxes, points_uvd, st.sampled_from([96, 176, 288]))
def test_frame_to_crop_and_back(box, uvd, size):
    crop = geometry.frame_to_crop(uvd[:2], box, size)
    np.testing.assert_allclose(
        geometry.crop_to_frame(crop, box, size), uvd[:2], rtol=1e-9, atol=1e-6
    )


def test_crop_maps_take_one_box_per_set_of_points():
    uv = np.array([[[10.0, 20.0], [30.0, 40.0]], [[5.0, 5.0], [6.0, 7.0]]])
    two = np.array([[10.0, 20.0, 30.0, 40.0], [1.0, 2.0, 11.0, 12.0]])
    crop = geometry.frame_to_crop(uv, two, 100)
    np.testing.assert_allclose(crop[0], [[0, 0], [100, 100]])
    np.testing.assert_allclose(crop[1], [[40, 30], [50, 50]])
    np.testing.assert_allclose(geometry.frame_to_crop(uv, two[0], 100)[1], [[-25, -75], [-20, -65]])


@pytest.mark.parametrize("numbers", [(0, 500, 1, 2), (500, 0, 1, 2), (500, 500, np.nan, 2)])
def test_a_camera_that_makes_no_image_is_refused(numbers: tuple[float, ...]) -> None:
    with pytest.raises(
        UserError, match=r"camera fx=.*: expected finite numbers in px, focal lengths not 0"
    ):
        Camera(*numbers)
