"""What stands out in a depth frame: pieces from which `centers` finds a hand or a person.

Everything works on a thinned-out view of the frame (about 160 × 120 readings): where an object is
does not need every pixel, and a million frames do need speed. Pure numpy and scipy.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import ndimage

from a2j_jax.geometry import Camera

FloatArray = NDArray[np.float64]
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
