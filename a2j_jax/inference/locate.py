"""What stands out in a depth frame: pieces from which `centers` finds a hand or a person.

Everything works on a thinned-out view of the frame (about 160 × 120 readings): where an object is
does not need every pixel, and a million frames do need speed. Pure numpy and scipy.

Where the object is, from the depth frame alone: what to crop when nobody says.

`hand_center` for tracks that crop around a point, `person_box` for tracks that crop a box, and
`depth_in_box` where only the box of a hand is known. docs/centers.md tells how they work in words,
and how well.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import ndimage

from a2j_jax.data.batch import FloatArray
from a2j_jax.errors import UserError
from a2j_jax.geometry import Camera, xyz_to_uvd
from a2j_jax.tracks import TrackSpec

BoolArray = NDArray[np.bool_]

# A view has about this many columns; planes are looked for on about this many.
_VIEW_COLUMNS = 160
_PLANE_COLUMNS = 40
# Three numbers per trial plane, drawn once: the same frame always gives the same answer.
_TRIALS = np.random.default_rng(0).random((64, 3))
# A wall or floor: deviation along the ray as a fraction of depth, least share of the frame, least
# extent as a share of the frame's width or height, and the share of readings that may lie behind.
_PLANE_TOLERANCE = 0.015
_PLANE_SHARE = 0.03
_PLANE_EXTENT = 0.7
_PLANE_BEHIND = 0.04
_MAX_PLANES = 3
_BORDER = 0.13  # of the frame's height or width: where walls and floors are, and objects are not


class View(NamedTuple):
    """Every n-th reading of a frame, or of a part of it.

    Attributes:
        depth: (h, w) float32, unit of the frame, 0 = no reading.
        columns: (w,) px of the full frame.
        rows: (h,) px of the full frame.
        stride: n, px.
    """

    depth: NDArray[np.float32]
    columns: FloatArray
    rows: FloatArray
    stride: int


def thin_out(
    depth: NDArray[np.generic], box_px: ArrayLike | None = None, columns: int = _VIEW_COLUMNS
) -> View:
    """Takes every n-th reading, such that about `columns` columns are left.

    Args:
        depth: (H, W) any real dtype; zero, negative and non-finite mean "no reading".
        box_px: (4,) x0 y0 x1 y1: only the part of the frame inside, both ends included.
        columns: of the view; a smaller frame is taken as it is.

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


def points(view: View, mask: BoolArray, camera: Camera) -> FloatArray:
    """Camera coordinates (n, 3) mm of the readings of a mask, in its row-major order."""
    rows, columns = np.nonzero(mask)
    z = view.depth[rows, columns].astype(np.float64)
    x = (view.columns[columns] - camera.u0) * z / camera.fx
    y = (view.rows[rows] - camera.v0) * z / camera.fy
    return np.stack([x, y, z], axis=1)


def cut_at_jumps(depth: NDArray[np.float32], mask: BoolArray, jump: float) -> BoolArray:
    """The mask without the far side of every step in depth, so that what is behind comes loose.

    Args:
        depth: (h, w).
        mask: (h, w), the readings that count.
        jump: a step from one reading to its neighbour that is larger separates the two.
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
    """The readings that belong to no wall, floor or ceiling: those planes bound the scene.

    A plane is a linear function of the pixel in 1/depth, whatever the camera: no intrinsics are
    needed, and any unit will do. Planes are found one after the other by trial (three readings each,
    half of the trials near the frame's border, where a person rarely is) and by least squares over
    the readings that agree. One bounds the scene if it reaches across most of the frame and next
    to nothing lies behind it: a torso fits a plane too, but the room lies behind it. What remains
    is on the camera's side of every plane found, be it a wall behind or a floor seen from above.

    Args:
        depth: (h, w), 0 = no reading.

    Returns:
        (h, w) bool.
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


def _from_middle(index: NDArray[np.int64], size: int) -> FloatArray:
    """0 in the middle of the frame, 0.5 at its edge."""
    return np.abs((index + 0.5) / size - 0.5)


def _next_plane(
    rays: FloatArray,
    u: NDArray[np.int64],
    v: NDArray[np.int64],
    alive: BoolArray,
    border: BoolArray,
    shape: tuple[int, ...],
) -> FloatArray | None:
    """(3,) the bounding plane that most of the living readings lie on; None: there is no more."""
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
    # Three readings in a line determine no plane.
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


def label(mask: BoolArray) -> tuple[NDArray[np.int32], int]:
    """Connected pieces of a mask (4-neighbours): numbers 1…n, 0 outside, and n."""
    labels, count = ndimage.label(mask)
    return labels, int(count)


# Of a hand and its arm, mm and mm². From fingertips to the wrist of a half-open hand:
_HAND_LENGTH_MM = 150.0
# The nearest surface counts from this much on: a fingertip and a half; less is a stray reading.
_NEAREST_MM2 = 1500.0
_LEAST_OBJECT_MM2 = 3000.0
# Hand and forearm show less than this; a piece that shows more has the body in it.
_LARGEST_ARM_MM2 = 70_000.0
# How far behind the nearest surface the arm may reach; the shorter ones where the body is in it.
_ARM_REACHES_MM = (250.0, 150.0, 90.0)
_DEPTH_JUMP_MM = 50.0
_BODY_HANDICAP_MM = 100.0
# Joints lie inside the hand, its surface in front of them.
_JOINTS_BEHIND_SURFACE_MM = 15.0

# A person is within this of the middle of their body: in depth, and in x and y (a raised hand).
_PERSON_REACH_MM = 1000.0
_PERSON_REACH_XY_MM = 1250.0
_PERSON_CORE_MM = 400.0
# What is hardly a hand: nearer than this many half windows, or farther; less surface than this many half windows².
_HAND_WINDOWS = 1.0, 20.0
_LEAST_HAND_WINDOWS2 = 0.1
# What is hardly a person: the front of the box nearer or farther, or less surface in it.
_PERSON_MM = 400.0, 8000.0
_LEAST_PERSON_MM2 = 10_000.0
# A flat surface: it fills the crop, and nearly all of it is within this of a plane, or this share of its depth.
_WALL_FILLS = 0.95
_WALL_MM, _WALL_SHARE = 8.0, 0.008
# σ of the preference for the middle of the frame, as a share of its width and height.
_MIDDLE_SIGMA = 0.35


def depth_in_box(
    depth_mm: NDArray[np.floating], box_px: ArrayLike, depth_window_mm: float
) -> float:
    """Depth of the object that fills the front of a box: the θ of a hand track.

    The nearest surface is found first (2nd percentile of the readings: a stray near pixel does not
    count); readings farther than 2 × the depth window behind it are background; the median of the
    rest is the object's depth. The published centres of a hand are such means over its pixels.

    Args:
        depth_mm: (H, W) mm, 0 = no reading.
        box_px: (4,) x0 y0 x1 y1, clipped to the frame, px.
        depth_window_mm: the track's; the object is at most twice this deep.

    Returns:
        mm.

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
) -> FloatArray:
    """The middle of the hand that is nearest to the camera.

    1. The nearest sizeable piece that is connected without a jump in depth is the arm. If it shows
       more surface than an arm has, the body is in it: again with less depth behind the front.
    2. Of a piece longer than a hand, the hand is one of its two ends: the one with the more ragged
       outline (fingers), nearer to the camera, and not cut off by the frame's border.
    3. The centre of mass of that end, each reading weighed with the area it covers, and a little
       behind: joints lie inside.

    The centre of mass is not iterated in a window around itself, as DeepPrior does: with the
    forearm in view it walks up the arm (docs/centers.md has the numbers).

    Args:
        depth_mm: (H, W) mm, any real dtype, 0 = no reading.
        camera: of this frame.
        box_px: (4,) x0 y0 x1 y1 of the hand, where it is known: step 2 is left out.

    Returns:
        (3,) float64: u px, v px, d mm in the full frame.

    Raises:
        UserError: no reading in the frame, or in the box.
    """
    view = thin_out(depth_mm, box_px)
    if not view.depth.any():
        raise UserError("no depth reading" + (" inside the box" if box_px is not None else ""))
    arm = _arm(view, camera)
    xyz = points(view, arm, camera)
    if box_px is None:
        xyz = xyz[_hand_end(xyz, arm)]
    center = np.average(xyz, axis=0, weights=xyz[:, 2] ** 2)
    center *= 1.0 + _JOINTS_BEHIND_SURFACE_MM / center[2]
    return xyz_to_uvd(center, camera)


def doubtful(
    depth_mm: NDArray[np.floating],
    box_px: ArrayLike,
    center_depth_mm: float | None,
    spec: TrackSpec,
    camera: Camera | None,
) -> tuple[str, str] | None:
    """Why a crop hardly shows the hand or person of a track; None where nothing is odd.

    Args:
        depth_mm: (H, W) mm, 0 = no reading.
        box_px: (4,) x0 y0 x1 y1 of the crop, px.
        center_depth_mm: of the hand; None on tracks without such a depth.
        spec: of the network.
        camera: of this frame; None on 2D tracks, whose depth has no unit: nothing is known of them.

    Returns:
        What is odd, and the likely cause.
    """
    view = thin_out(depth_mm, box_px, columns=64)
    near = view.depth > 0
    if camera is None or spec.frame_format == "stretch8" or not near.any():
        return None
    what, (nearest, farthest), least = "person", _PERSON_MM, _LEAST_PERSON_MM2
    depth = float(np.percentile(view.depth[near], 20.0))
    if center_depth_mm is not None and spec.half_window_mm is not None:
        half, depth = spec.half_window_mm, center_depth_mm
        what, least = "hand", _LEAST_HAND_WINDOWS2 * half**2
        nearest, farthest = (windows * half for windows in _HAND_WINDOWS)
        near &= np.abs(view.depth - depth) < (spec.depth_window_mm or np.inf)
        # In cm, a hand shows too little surface to be found, and what is behind it is taken.
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
    """(h, w) the nearest sizeable connected piece of a view that has readings."""
    mask = view.depth > 0
    z = view.depth[mask].astype(np.float64)
    # What one reading covers, mm²: its own depth decides.
    area = z**2 * (view.stride**2 / abs(camera.fx * camera.fy))
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
    depth: NDArray[np.float32], mask: BoolArray, area: FloatArray, farthest: float
) -> tuple[BoolArray, float]:
    """(h, w) the piece whose front is nearest, and how much surface it shows, mm²."""
    near = mask & (depth < farthest)
    labels, count = label(cut_at_jumps(depth, near, _DEPTH_JUMP_MM))
    pieces, z = labels[mask], depth[mask].astype(np.float64)
    shown = np.bincount(pieces, area, count + 1)
    shown[0] = 0.0
    if not shown.any():  # nothing but scattered readings
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


def _hand_end(xyz: FloatArray, arm: BoolArray) -> BoolArray:
    """(n,) which of the arm's n readings are its hand."""
    offset = xyz - xyz.mean(axis=0)
    along = offset @ np.linalg.eigh(offset.T @ offset)[1][:, -1]
    low, high = np.quantile(along, (0.01, 0.99))
    if high - low <= _HAND_LENGTH_MM + 40.0:
        return np.ones(len(xyz), bool)
    rows, columns = np.nonzero(arm)
    outline = ~_inner(arm)[rows, columns]
    height, width = arm.shape
    cut_off = (np.minimum(rows, columns) <= 1) | (rows >= height - 2) | (columns >= width - 2)

    def like_a_hand(end: BoolArray) -> float:
        ragged = np.log((outline[end].sum() + 1) / end.sum())
        # Worth the same: e times the outline, 300 mm nearer, five readings at the border.
        return float(2 * ragged - xyz[end, 2].mean() / 150 - 2 * min(1, cut_off[end].sum() / 5))

    ends = (along < low + _HAND_LENGTH_MM), (along > high - _HAND_LENGTH_MM)
    return max(ends, key=like_a_hand)


def _inner(mask: BoolArray) -> BoolArray:
    """(h, w) the readings of a mask whose four neighbours are in it too; beyond the frame counts."""
    inner = mask.copy()
    inner[1:] &= mask[:-1]
    inner[:-1] &= mask[1:]
    inner[:, 1:] &= mask[:, :-1]
    inner[:, :-1] &= mask[:, 1:]
    return inner


def person_box(
    depth: NDArray[np.generic],
    margin_px: float,
    camera: Camera | None = None,
    near_uvd: ArrayLike | None = None,
    box_px: ArrayLike | None = None,
) -> FloatArray:
    """The box around the one person in view, seen from the front or from above.

    Walls, floor and ceiling are taken away (`foreground.in_front_of_planes`); of the connected
    pieces that remain, the person is the one with the most readings, those in the middle of the
    frame counting more; readings farther in depth than 1 m from its median are not theirs.

    Args:
        depth: (H, W), 0 = no reading; in mm where there is a camera, else in any unit.
        margin_px: added on every side of the person's outline.
        camera: of this frame; None: depth is not a distance, and the 1 m rule is left out.
        near_uvd: (3,) px px mm, a point known to be in the person, who is then the piece with the
            most readings around it, as far as 1 m in depth and 1.25 m in x and y. Needs the camera.
        box_px: (4,) look only inside.

    Returns:
        (4,) float64 x0 y0 x1 y1, px, clipped to the frame.

    Raises:
        UserError: no reading in the frame; none near `near_uvd`.
    """
    view = thin_out(depth, box_px)
    mask = view.depth > 0
    core: BoolArray | None = None
    if near_uvd is not None and camera is not None:
        off = np.abs(_offset_mm(view, near_uvd, camera))
        reach = np.array([_PERSON_REACH_XY_MM, _PERSON_REACH_XY_MM, _PERSON_REACH_MM])
        mask &= np.all(off < reach[:, None, None], axis=0)
        core = np.all(off < _PERSON_CORE_MM, axis=0)
    if not mask.any():
        raise UserError("no depth reading" + (" near the given center" if core is not None else ""))
    # Two by two: what remains of a wall after noise is single readings.
    front = ndimage.binary_opening(in_front_of_planes(view.depth) & mask, np.ones((2, 2)))
    person = _main_piece(view, front if front.any() else mask, camera, core)
    rows, columns = np.nonzero(person)
    half = (view.stride - 1) / 2 + margin_px
    low = view.columns[columns.min()] - half, view.rows[rows.min()] - half
    high = view.columns[columns.max()] + half, view.rows[rows.max()] + half
    last = np.array([depth.shape[1] - 1, depth.shape[0] - 1], np.float64)
    return np.clip(np.array([*low, *high], np.float64), 0.0, [*last, *last])


def _offset_mm(view: View, near_uvd: ArrayLike, camera: Camera) -> FloatArray:
    """(3, h, w) mm: where the readings of a view are, seen from a point given as uvd."""
    u, v, d = np.asarray(near_uvd, np.float64)
    x = (view.columns - camera.u0) / camera.fx * view.depth - (u - camera.u0) / camera.fx * d
    y = ((view.rows - camera.v0) / camera.fy)[:, None] * view.depth
    return np.stack([x, y - (v - camera.v0) / camera.fy * d, view.depth - d])


def _main_piece(
    view: View, front: BoolArray, camera: Camera | None, core: BoolArray | None
) -> BoolArray:
    """(h, w) the largest connected piece, without what is too far behind it or in front.

    Where it is known what is in the middle of the person (`core`), the piece with most of that;
    else pieces in the middle of the view are preferred.
    """
    labels, count = label(front)
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
