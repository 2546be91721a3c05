"""Finds the hand or person to crop in a depth frame.

`hand_center` serves tracks that crop around a point, `person_box` tracks that crop a box, and `depth_in_box` hand
tracks where only a box is known. They work on a subsampled view of the frame (about 160 × 120 readings), for speed.
docs/centers.md describes the methods and their accuracy.

SciPy is imported where it is used: 0.2 s of the start of a program that is given centers or boxes.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from a2j_jax.errors import UserError
from a2j_jax.geometry import Camera, Float64, clip_box, uvd_to_xyz, xyz_to_uvd
from a2j_jax.tracks import TrackSpec

BoolArray = NDArray[np.bool_]

_VIEW_COLUMNS = 160  # approximate number of a view's columns
# Walls and floors.
_PLANE_COLUMNS = 40  # approximate number of columns on which planes are searched
_TRIALS = np.random.default_rng(0).random((64, 3))  # of trial planes; fixed, for determinism
_PLANE_TOLERANCE = 0.015  # deviation along the ray, as a fraction of depth
_PLANE_SHARE = 0.03  # minimum share of the frame
_PLANE_EXTENT = 0.7  # minimum extent, as a share of the frame's width or height
_PLANE_BEHIND = 0.04  # maximum share of readings behind the plane
_MAX_PLANES = 3
_BORDER = 0.13  # of the frame's height or width: mostly walls and floors
# Hand and arm, mm and mm².
_HAND_LENGTH_MM = 150.0  # from the fingertips to the wrist of a half-open hand
_NEAREST_MM2 = (
    1500.0  # the nearest surface is at least this large (1.5 fingertips); less is stray readings
)
_LEAST_OBJECT_MM2 = 3000.0
_LARGEST_ARM_MM2 = 70_000.0  # visible surface of hand and forearm; a larger piece includes the body
_ARM_REACHES_MM = (250.0, 150.0, 90.0)  # depth of the arm; the shorter ones if the body is included
_DEPTH_JUMP_MM = 50.0
_BODY_HANDICAP_MM = 100.0
_JOINTS_BEHIND_SURFACE_MM = 15.0
# A person's extent around the middle of the body: in depth, and in x and y (a raised hand).
_PERSON_REACH_MM = 1000.0
_PERSON_REACH_XY_MM = 1250.0
_PERSON_CORE_MM = 400.0
_MIDDLE_SIGMA = (
    0.35  # σ of the preference for the middle of the frame, as a share of its width and height
)
# Doubtful crops.
_HAND_WINDOWS = 1.0, 20.0  # distances of a hand, in half windows
_LEAST_HAND_WINDOWS2 = 0.1  # visible surface of a hand, in squared half windows
_PERSON_MM = 400.0, 8000.0  # distances of the front of a person's box
_LEAST_PERSON_MM2 = 10_000.0
# A flat surface fills this share of the crop, nearly all of it within this of a plane, or this share of its depth.
_WALL_FILLS = 0.95
_WALL_MM, _WALL_SHARE = 8.0, 0.008


class View(NamedTuple):
    """Every n-th reading of a frame, or of a part of it.

    Attributes:
      depth: (h, w) float32, unit of the frame, 0 = no reading.
      columns: (w,) px of the full frame.
      rows: (h,) px of the full frame.
      stride: n, px.
    """

    depth: NDArray[np.float32]
    columns: Float64
    rows: Float64
    stride: int


def thin_out(
    depth: NDArray[np.generic], box_px: ArrayLike | None = None, columns: int = _VIEW_COLUMNS
) -> View:
    """Takes every n-th reading, so that about `columns` columns are left.

    Args:
      depth: (H, W) any real dtype; zero, negative and non-finite mean "no reading".
      box_px: (4,) x0 y0 x1 y1, ends included: the part of the frame to view; None: all of it.
      columns: of the view; a smaller frame is not subsampled.

    Returns:
      The view; empty where the box misses the frame.
    """
    height, width = depth.shape
    x0, y0, x1, y1 = 0, 0, width - 1, height - 1
    if box_px is not None:
        low, high = np.asarray(box_px, np.float64).reshape(2, 2)
        x0, y0 = (int(edge) for edge in np.maximum(low, 0))
        x1, y1 = (int(edge) for edge in np.minimum(high, (x1, y1)))
    stride = max(1, round((x1 - x0 + 1) / columns))
    u = np.arange(x0 + (stride - 1) // 2, x1 + 1, stride)
    v = np.arange(y0 + (stride - 1) // 2, y1 + 1, stride)
    if not (u.size and v.size):
        return View(np.zeros((0, 0), np.float32), np.zeros(0), np.zeros(0), stride)
    thin = depth[v[0] : y1 + 1 : stride, u[0] : x1 + 1 : stride].astype(np.float32)
    thin[~(np.isfinite(thin) & (thin > 0))] = 0.0
    return View(thin, u.astype(np.float64), v.astype(np.float64), stride)


def points(view: View, camera: Camera) -> Float64:
    """Camera coordinates (h, w, 3) mm of a view's readings."""
    u, v = np.meshgrid(view.columns, view.rows)
    return uvd_to_xyz(np.stack([u, v, view.depth], axis=-1), camera)


def cut_at_jumps(depth: NDArray[np.float32], mask: BoolArray, jump: float) -> BoolArray:
    """Removes the far side of every depth step larger than `jump` from a mask, which disconnects what is behind.

    Args:
      depth: (h, w).
      mask: (h, w), the readings that count.
      jump: unit of `depth`.
    """
    kept, front = mask.copy(), np.where(mask, depth, np.float32(0))
    for near, far in (
        (np.s_[:, :-1], np.s_[:, 1:]),
        (np.s_[:, 1:], np.s_[:, :-1]),
        (np.s_[:-1], np.s_[1:]),
        (np.s_[1:], np.s_[:-1]),
    ):
        kept[far] &= ~(mask[near] & (front[far] - front[near] > jump))
    return kept


def in_front_of_planes(depth: NDArray[np.float32]) -> BoolArray:
    """The readings (h, w) bool of a depth image (h, w), 0 = no reading, that belong to no wall, floor or ceiling.

    The inverse depth of a plane is linear in the pixel: neither intrinsics nor a unit are needed. Planes are found one
    after the other by RANSAC (three readings per trial, half of the trials near the frame's border, where a person
    rarely is) and a least-squares fit to the inliers. A plane bounds the scene if it reaches across most of the frame
    and hardly anything lies behind it: the room lies behind a torso. The result is on the camera's side of all planes.
    """
    height, width = depth.shape
    step = max(1, round(width / _PLANE_COLUMNS))
    coarse = depth[step // 2 :: step, step // 2 :: step]
    v, u = np.nonzero(coarse)
    z = coarse[v, u].astype(np.float64)
    front = depth > 0
    if z.size < 0.05 * coarse.size:
        return front
    # A plane p = (a, b, c) has depth 1/(a u + b v + c): rays @ p is 1 on it, < 1 in front of it.
    rays = np.stack([u * step + step // 2, v * step + step // 2, np.ones(len(u))]) * z
    border = np.maximum(_from_middle(u, coarse.shape[1]), _from_middle(v, coarse.shape[0]))
    border_mask, alive = border > 0.5 - _BORDER, np.ones(len(z), bool)
    grid_u, grid_v = np.arange(width), np.arange(height)[:, None]
    for _ in range(_MAX_PLANES):
        plane = _next_plane(rays, u, v, alive, border_mask, coarse.shape)
        if plane is None:
            break
        alive &= plane @ rays < 1.0 - _PLANE_TOLERANCE
        a, b, c = plane.astype(np.float32)
        front &= (grid_u * a + (grid_v * b + c)) * depth < 1.0 - _PLANE_TOLERANCE
    return front


def _from_middle(index: NDArray[np.int64], size: int) -> Float64:
    """0 in the middle of the frame, 0.5 at its edge."""
    return np.abs((index + 0.5) / size - 0.5)


def _next_plane(
    rays: Float64,
    u: NDArray[np.int64],
    v: NDArray[np.int64],
    alive: BoolArray,
    border: BoolArray,
    shape: tuple[int, ...],
) -> Float64 | None:
    """(3,) the bounding plane that most of the readings in `alive` lie on; None where there is none."""
    size = shape[0] * shape[1]
    enough = _PLANE_SHARE * size
    everywhere = np.flatnonzero(alive)
    if everywhere.size < enough:
        return None
    near_border = np.flatnonzero(alive & border)
    pools = near_border if near_border.size > 10 else everywhere, everywhere
    trials = np.concatenate(
        [
            pool[(draws * pool.size).astype(np.int64)]
            for pool, draws in zip(pools, np.split(_TRIALS, 2), strict=True)
        ]
    )
    triples = rays[:, trials].transpose(1, 2, 0)
    # Three collinear readings determine no plane.
    scale = np.prod(np.linalg.norm(triples, axis=2), axis=1)
    triples = triples[np.abs(np.linalg.det(triples)) > 1e-9 * scale]
    if not len(triples):
        return None
    planes = np.linalg.solve(triples, np.ones((len(triples), 3, 1)))[..., 0]
    # float32: a million products per frame, and the tolerance is 1.5 %.
    ratio = planes.astype(np.float32) @ rays.astype(np.float32)
    agree = ((np.abs(ratio - 1.0) < _PLANE_TOLERANCE) & alive).sum(axis=1)
    behind = (ratio > 1.0 + 3.0 * _PLANE_TOLERANCE).sum(axis=1)
    agree[behind > _PLANE_BEHIND * size] = 0
    best = int(agree.argmax())
    plane = planes[best]
    for _ in range(2):
        on = alive & (np.abs(plane @ rays - 1.0) < _PLANE_TOLERANCE)
        if on.sum() < enough:
            return None
        extent = max(np.ptp(u[on]) / shape[1], np.ptp(v[on]) / shape[0])
        if agree[best] < enough or extent < _PLANE_EXTENT:
            return None
        plane = np.linalg.lstsq(rays[:, on].T, np.ones(on.sum()), rcond=None)[0]
    return plane


def depth_in_box(
    depth_mm: NDArray[np.floating], box_px: ArrayLike, depth_window_mm: float
) -> float:
    """Depth of the object in front of a box, mm: the θ of a hand track.

    The median of the readings at most 2 × the depth window behind the nearest surface (2nd percentile, against stray
    pixels). The published centers of a hand are such means over its pixels.

    Args:
      depth_mm: (H, W) mm, 0 = no reading.
      box_px: (4,) x0 y0 x1 y1, clipped to the frame, px.
      depth_window_mm: the track's; the object is at most twice this deep.

    Raises:
      UserError: no reading inside the box.
    """
    x0, y0, x1, y1 = (int(edge) for edge in np.asarray(box_px, np.float64))
    inside = depth_mm[y0 : y1 + 1, x0 : x1 + 1]
    readings = inside[inside > 0]
    if readings.size == 0:
        raise UserError(
            f"box {x0},{y0},{x1},{y1}: no depth reading inside; expected a box around the object"
        )
    nearest = np.percentile(readings, 2.0)
    return float(np.median(readings[readings <= nearest + 2.0 * depth_window_mm]))


def hand_center(
    depth_mm: NDArray[np.generic], camera: Camera, box_px: ArrayLike | None = None
) -> Float64:
    """The center of the hand nearest to the camera.

    1. The arm is the nearest sizable piece connected without a jump in depth. If it shows more surface than an arm
       has, it includes the body: the search is repeated with less depth behind the front.
    2. The hand is the end of that piece with the more ragged outline (fingers), nearer to the camera, and not cut off
       by the frame's border; a piece no longer than a hand is all hand.
    3. The center is that end's center of mass, each reading weighted with the area it covers, and a little behind it:
       joints lie inside.

    Unlike DeepPrior's, the center of mass is not iterated in a window around itself: with the forearm in view it would
    move up the arm (docs/centers.md has the numbers).

    Args:
      depth_mm: (H, W) mm, any real dtype, 0 = no reading.
      camera: of this frame.
      box_px: (4,) x0 y0 x1 y1 of the hand, where it is known; step 2 is then skipped.

    Returns:
      (3,) float64: u px, v px, d mm in the full frame.

    Raises:
      UserError: no reading in the frame, or in the box.
    """
    view = thin_out(depth_mm, box_px)
    if not view.depth.any():
        raise UserError("no depth reading" + (" inside the box" if box_px is not None else ""))
    arm = _arm(view, camera)
    xyz = points(view, camera)[arm]
    if box_px is None:
        xyz = xyz[_hand_ends(xyz, arm)[0]]
    return _center_of(xyz, camera)


def hand_centers(depth_mm: NDArray[np.generic], camera: Camera, most: int = 4) -> Float64:
    """Where a hand may be, the likeliest place first, which is that of `hand_center`.

    The others are the other end of the arm, and both ends of the next pieces behind it.

    Args:
      depth_mm: (H, W) mm, any real dtype, 0 = no reading.
      camera: of this frame.
      most: the number of places.

    Returns:
      (N, 3) float64, 1 <= N <= most: u px, v px, d mm in the full frame.

    Raises:
      UserError: no reading in the frame.
    """
    view = thin_out(depth_mm)
    if not view.depth.any():
        raise UserError("no depth reading")
    xyz, found = points(view, camera), list[Float64]()
    while len(found) < most and view.depth.any():
        arm = _arm(view, camera)
        found += [_center_of(xyz[arm][end], camera) for end in _hand_ends(xyz[arm], arm)]
        view.depth[arm] = 0.0
    return np.stack(found[:most])


def _center_of(xyz: Float64, camera: Camera) -> Float64:
    """(3,) uvd: the center of mass of a hand's readings (n, 3) mm, and a little behind it."""
    center = np.average(xyz, axis=0, weights=xyz[:, 2] ** 2)
    return xyz_to_uvd(center * (1.0 + _JOINTS_BEHIND_SURFACE_MM / center[2]), camera)


def doubtful(
    depth_mm: NDArray[np.floating],
    box_px: ArrayLike,
    center_depth_mm: float | None,
    track: TrackSpec,
    camera: Camera | None,
) -> tuple[str, str] | None:
    """Why a crop probably does not show the hand or person of a track; None where nothing is suspicious.

    Args:
      depth_mm: (H, W) mm, 0 = no reading.
      box_px: (4,) x0 y0 x1 y1 of the crop, px.
      center_depth_mm: of the hand; None on tracks without such a depth.
      track: of the network.
      camera: of this frame; None on 2D tracks, which cannot be judged: their depth has no unit.

    Returns:
      The symptom and its likely cause.
    """
    view = thin_out(depth_mm, box_px, columns=64)
    near = view.depth > 0
    if camera is None or track.frame_format == "stretch8" or not near.any():
        return None
    what, (nearest, farthest), least = "person", _PERSON_MM, _LEAST_PERSON_MM2
    depth = float(np.percentile(view.depth[near], 20.0))
    if center_depth_mm is not None and track.half_window_mm is not None:
        half, depth = track.half_window_mm, center_depth_mm
        what, least = "hand", _LEAST_HAND_WINDOWS2 * half**2
        nearest, farthest = (windows * half for windows in _HAND_WINDOWS)
        near &= np.abs(view.depth - depth) < (track.depth_window_mm or np.inf)
        # In cm, a hand has too little surface to be found, and the background is taken.
        everywhere = thin_out(depth_mm, columns=64).depth
        front = float(np.percentile(everywhere[everywhere > 0], 2.0))
        depth = front if front < nearest else depth
    if not nearest <= depth <= farthest:
        counts = (
            "a count is less than 1 mm (depth_unit_mm), or nothing is in view but the background"
        )
        if depth < nearest:
            counts = "a count is more than 1 mm (depth_unit_mm), or these are cm or meters"
        odd = f"the {what} would be {depth / 1000:.3g} m from the camera"
        return odd, f"is the unit of depth right? Perhaps {counts}"
    surface = near.sum() * view.stride**2 * depth**2 / abs(camera.fx * camera.fy)
    if surface < least:
        return f"next to no depth readings where the {what} should be", "is it in view?"
    if near.mean() > _WALL_FILLS and _is_flat(view, near, depth):
        return "a flat surface fills the crop", f"a wall or a table, and no {what} in view?"
    return None


def _is_flat(view: View, mask: BoolArray, depth: float) -> bool:
    """Whether nearly all readings of a mask lie on a plane, which is linear in 1/depth."""
    rows, columns = np.nonzero(mask)
    z = view.depth[rows, columns].astype(np.float64)
    rays = np.stack([columns, rows, np.ones(len(z))], axis=1)
    off = z - 1.0 / (rays @ np.linalg.lstsq(rays, 1.0 / z, rcond=None)[0])
    return float(np.percentile(np.abs(off), 95.0)) < max(_WALL_MM, _WALL_SHARE * depth)


def _arm(view: View, camera: Camera) -> BoolArray:
    """(h, w) the nearest sizable connected piece of a view that has readings."""
    mask = view.depth > 0
    z = view.depth[mask].astype(np.float64)
    area = z**2 * (view.stride**2 / abs(camera.fx * camera.fy))  # covered by each reading, mm²
    # Bins of 5 mm: twenty times as fast as sorting.
    surface = np.cumsum(np.bincount((z / 5.0).astype(np.int64), area))
    nearest = 5.0 * (np.searchsorted(surface, min(_NEAREST_MM2, 0.5 * surface[-1])) + 1.0)
    arm = mask
    for reach in _ARM_REACHES_MM:
        arm, shown = _nearest_piece(view.depth, mask, area, nearest + reach)
        if shown <= _LARGEST_ARM_MM2:
            break
    return arm


def _nearest_piece(
    depth: NDArray[np.float32], mask: BoolArray, area: Float64, farthest: float
) -> tuple[BoolArray, float]:
    """(h, w) the piece whose front is nearest, and its visible surface, mm²."""
    from scipy import ndimage

    near = mask & (depth < farthest)
    labels, count = ndimage.label(cut_at_jumps(depth, near, _DEPTH_JUMP_MM))
    pieces, z = labels[mask], depth[mask].astype(np.float64)
    shown = np.bincount(pieces, area, count + 1)
    shown[0] = 0.0
    if not shown.any():  # only scattered readings
        return near, float(area.sum())
    candidates = np.flatnonzero(shown > _LEAST_OBJECT_MM2)
    if not candidates.size:
        candidates = np.array([shown.argmax()])
    fronts = []
    for piece in candidates:
        own = pieces == piece
        rank = min(int(_NEAREST_MM2 / area[own].mean()), int(own.sum()) - 1)
        handicap = _BODY_HANDICAP_MM if shown[piece] > _LARGEST_ARM_MM2 else 0.0
        fronts.append(np.partition(z[own], rank)[rank] + handicap)
    best = candidates[int(np.argmin(fronts))]
    return labels == best, float(shown[best])


def _hand_ends(xyz: Float64, arm: BoolArray) -> list[BoolArray]:
    """(n,) which of the arm's n readings are its hand, and which are the other end, if it is longer than a hand."""
    from scipy import ndimage

    offset = xyz - xyz.mean(axis=0)
    along = offset @ np.linalg.eigh(offset.T @ offset)[1][:, -1]
    low, high = np.quantile(along, (0.01, 0.99))
    if high - low <= _HAND_LENGTH_MM + 40.0:
        return [np.ones(len(xyz), bool)]
    rows, columns = np.nonzero(arm)
    outline = ~ndimage.binary_erosion(arm, border_value=1)[rows, columns]
    height, width = arm.shape
    cut_off = (np.minimum(rows, columns) <= 1) | (rows >= height - 2) | (columns >= width - 2)

    def like_a_hand(end: BoolArray) -> float:
        ragged = np.log((outline[end].sum() + 1) / end.sum())
        # Worth the same: e times the outline, 300 mm nearer, five readings at the border.
        return float(2 * ragged - xyz[end, 2].mean() / 150 - 2 * min(1, cut_off[end].sum() / 5))

    ends = (along < low + _HAND_LENGTH_MM), (along > high - _HAND_LENGTH_MM)
    return sorted(ends, key=like_a_hand, reverse=True)


def person_box(
    depth: NDArray[np.generic],
    margin_px: float,
    camera: Camera | None = None,
    near_uvd: ArrayLike | None = None,
    box_px: ArrayLike | None = None,
) -> Float64:
    """The box around the one person in view, seen from the front or from above.

    Walls, floor and ceiling are removed (`in_front_of_planes`). Of the connected pieces that remain, the person is the
    one with the most readings, pieces in the middle of the frame preferred, without readings more than 1 m from its
    median depth.

    Args:
      depth: (H, W), 0 = no reading; in mm where there is a camera, else in any unit.
      margin_px: added on every side of the person's outline.
      camera: of this frame; None: depth is not a distance, and the 1 m rule does not apply.
      near_uvd: (3,) px px mm, a point known to be in the person, who is then the piece with the most readings around
        it, up to 1 m in depth and 1.25 m in x and y. Needs the camera.
      box_px: (4,) where to search; None: everywhere.

    Returns:
      (4,) float64 x0 y0 x1 y1, px, clipped to the frame.

    Raises:
      UserError: no reading in the frame; none near `near_uvd`.
    """
    from scipy import ndimage

    view = thin_out(depth, box_px)
    mask = view.depth > 0
    core: BoolArray | None = None
    if near_uvd is not None and camera is not None:
        off = np.abs(points(view, camera) - uvd_to_xyz(near_uvd, camera))
        mask &= np.all(off < [_PERSON_REACH_XY_MM, _PERSON_REACH_XY_MM, _PERSON_REACH_MM], axis=-1)
        core = np.all(off < _PERSON_CORE_MM, axis=-1)
    if not mask.any():
        raise UserError("no depth reading" + (" near the given center" if core is not None else ""))
    # The opening removes single readings, which noise leaves of a wall.
    front = ndimage.binary_opening(in_front_of_planes(view.depth) & mask, np.ones((2, 2)))
    person = _main_piece(view, front if front.any() else mask, camera, core)
    rows, columns = np.nonzero(person)
    half = (view.stride - 1) / 2 + margin_px
    low = view.columns[columns.min()] - half, view.rows[rows.min()] - half
    high = view.columns[columns.max()] + half, view.rows[rows.max()] + half
    return clip_box([*low, *high], (depth.shape[1], depth.shape[0]))


def _main_piece(
    view: View, front: BoolArray, camera: Camera | None, core: BoolArray | None
) -> BoolArray:
    """(h, w) the largest connected piece, without readings too far behind it or in front.

    With `core`, readings known to be in the middle of the person, the piece that has most of them; else pieces in the
    middle of the view are preferred.
    """
    from scipy import ndimage

    labels, count = ndimage.label(front)
    rows, columns = np.nonzero(front)
    piece = labels[rows, columns]
    size = np.maximum(np.bincount(piece, minlength=count + 1), 1)
    score = size.astype(np.float64)
    if core is not None and (core & front).any():
        inside = core[rows, columns].astype(np.float64)
        score = np.bincount(piece, inside, count + 1).astype(np.float64)
    else:
        for index, extent in ((rows, front.shape[0]), (columns, front.shape[1])):
            mean = np.bincount(piece, index, count + 1) / size / extent
            score *= np.exp(-0.5 * ((mean - 0.5) / _MIDDLE_SIGMA) ** 2)
    score[0] = 0.0
    person = labels == score.argmax()
    if camera is not None:
        person &= np.abs(view.depth - np.median(view.depth[person])) < _PERSON_REACH_MM
    return person
