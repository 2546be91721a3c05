"""What is wrong with a depth frame or its camera, if no hand is found or its joints are off: `a2j doctor`."""

import itertools
from collections.abc import Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from a2j_jax import geometry
from a2j_jax.data import crops
from a2j_jax.errors import UserError
from a2j_jax.geometry import Camera, Float64
from a2j_jax.inference.frame_predictor import DepthFrame
from a2j_jax.inference.hands import HandModel, HandPose
from a2j_jax.inference.locate import hand_centers
from a2j_jax.inference.smoothing import bone_lengths
from a2j_jax.pictures import Tile, draw_depth, draw_tile, new_page
from a2j_jax.tracks import TrackSpec

#: mm per count of depth cameras, and which these are.
UNITS_MM = {
    1.0: "most cameras",
    0.1: "RealSense D405",
    0.125: "SR300, SR305",
    0.25: "L515",
    10.0: "cm",
    1000.0: "m",
}
_SATURATED = 65535  # of 16 bits: a sensor that saw nothing
_USUAL_MM = 500.0  # distance of a hand
_HAND_MM = 150.0, 1500.0  # where the nearest surface is, if it is a hand
_NEAR_MM, _FAR_MM = 250.0, 1200.0  # further in or out, joints are less accurate
_MOST_EMPTY = 0.9
_VIEW_DEG = 35.0, 130.0  # horizontal fields of view of depth cameras
_OFF_MIDDLE = 0.1  # of a principal point, as a share of the frame
_BORDER_PX = 2.0
_LENGTH_MM = 120.0, 230.0  # from the wrist to the tip of the middle finger, along the bones


class Finding(NamedTuple):
    """One thing that was looked at.

    Attributes:
      what: "depth unit".
      found: its value, in words.
      fix: what is suspicious about it and how to fix it; empty: nothing.
    """

    what: str
    found: str
    fix: str = ""


class Diagnosis(NamedTuple):
    """What `diagnose` found.

    Attributes:
      findings: one for each check.
      depth_mm: (H, W), in the unit that was given or guessed.
      camera: as given.
      places_uvd: (N, 3) where a hand may be; the first is `locate.hand_center`.
      poses: of the hands, at least one; none where the frame has no reading.
    """

    findings: tuple[Finding, ...]
    depth_mm: DepthFrame
    camera: Camera
    places_uvd: Float64
    poses: tuple[HandPose, ...]


def diagnose(
    values: NDArray[Any],
    camera: Camera,
    hand: HandModel,
    unit_mm: float | None = None,
    most: int = 1,
    name: str = "depth frame",
) -> Diagnosis:
    """Checks a frame, its unit and its camera, and looks for hands.

    Args:
      values: (H, W) as stored, `depth_files.read_values`; 0, negative and non-finite mean no reading.
      camera: of the frame.
      hand: what looks.
      unit_mm: mm per count; None: 1, or a guess where 1 is impossible.
      most: hands to look for, 1 or more.
      name: of the frame, for warnings.

    Raises:
      UserError: not one image of depth.
    """
    if values.ndim != 2 or not values.size:
        raise UserError(f"expected one depth image (height, width), found shape {values.shape}")
    if values.dtype.itemsize == 1:
        raise UserError("8-bit values are a picture of depth: use the camera's 16-bit frames")
    counts = np.where(np.isfinite(values) & (values > 0), values, 0).astype(np.float32)
    empty = 1.0 - np.count_nonzero(counts) / counts.size
    some = f"{empty:.0%} of the pixels"
    saturated = values.dtype == np.uint16 and not (counts % _SATURATED).any()
    if saturated:
        counts[:] = 0
    if saturated or empty == 1.0:
        fix = "the camera saw nothing: is its lens covered, and is this the depth stream?"
        findings = Finding("without reading", some, fix), *_of_camera(counts.shape, camera)
        return Diagnosis(findings, counts, camera, np.zeros((0, 3)), ())
    unit, of_unit = _unit(counts, unit_mm)
    depth = counts * np.float32(unit)
    fix = ""
    if empty > _MOST_EMPTY:
        fix = "few readings: is the hand nearer than the camera can measure, in sunlight, or in a black glove?"
    low, middle, high = np.percentile(depth[depth > 0], (2.0, 50.0, 98.0))
    found = hand.find(depth, camera, most + 1, name)
    # Where nothing scores as a hand, the likeliest place shows why.
    poses = found[:most] if most > 1 and found else [hand(depth, camera, name=name)]
    findings = (
        of_unit,
        Finding("without reading", some, fix),
        Finding("distances", f"{low:.0f} to {high:.0f} mm, median {middle:.0f}"),
        *_of_camera(depth.shape, camera),
        _of_count(len(found), most),
        *itertools.chain.from_iterable(_of_hand(pose, depth, hand.spec, most) for pose in poses),
    )
    return Diagnosis(findings, depth, camera, hand_centers(depth, camera), tuple(poses))


def _of_count(found: int, most: int) -> Finding:
    """How many hands were found, of one more than asked for."""
    fix = ""
    if found > most:
        fix = f"asked for {most}: add --hands {found}, or keep the others out of view"
    elif found < most and most > 1:
        fix = f"asked for {most}: are all in view, and none behind another?"
    return Finding("hands in view", f"{found}" if found <= most else f"more than {most}", fix)


def _unit(counts: DepthFrame, given: float | None) -> tuple[float, Finding]:
    """The unit, mm per count, and the finding about it: the nearest surface is to be at the distance of a hand."""
    nearest = float(np.percentile(counts[counts > 0], 2.0))
    unit = 1.0 if given is None else given
    about = f"{unit:g} mm per count" + (", as given" if given is not None else "")
    if _HAND_MM[0] <= nearest * unit <= _HAND_MM[1]:
        return unit, Finding("depth unit", about)
    at = f"the nearest surface would be {nearest * unit / 1000:.3g} m away"
    possible = [u for u in UNITS_MM if _HAND_MM[0] <= nearest * u <= _HAND_MM[1]]
    if not possible:
        fix = f"{at}: hold the hand 0.3 to 1 m from the camera, or find out the unit (--depth_unit_mm)"
        return unit, Finding("depth unit", about, fix)
    best = min(possible, key=lambda u: abs(np.log(nearest * u / _USUAL_MM)))
    units = ", ".join(f"{u:g} ({UNITS_MM[u]}: {nearest * u / 1000:.2g} m)" for u in possible)
    fix = f"{at}; possible --depth_unit_mm: {units}"
    if best == 1000.0:
        fix = f"{at}: these are meters, multiply them by 1000"
    if given is not None:
        return unit, Finding("depth unit", about, fix)
    return best, Finding("depth unit", f"{best:g} mm per count, guessed", fix)


def _of_camera(shape: tuple[int, ...], camera: Camera) -> list[Finding]:
    """Field of view and principal point, for the size of the frame."""
    height, width = shape
    view = [
        float(2 * np.degrees(np.arctan(side / 2 / abs(f))))
        for side, f in ((width, camera.fx), (height, camera.fy))
    ]
    fix = ""
    if not _VIEW_DEG[0] <= view[0] <= _VIEW_DEG[1]:
        fix = f"depth cameras see {_VIEW_DEG[0]:g} to {_VIEW_DEG[1]:g} degrees: fx is of another frame size, or wrong"
    elif not 0.8 <= abs(camera.fx / camera.fy) <= 1.25:
        fix = f"fx {camera.fx:g} and fy {camera.fy:g} differ: pixels of depth cameras are square"
    of_view = Finding("field of view", f"{view[0]:.0f} x {view[1]:.0f} degrees", fix)
    where = f"{camera.u0:g},{camera.v0:g} of {width}x{height} px"
    share = np.array([camera.u0 / width, camera.v0 / height])
    if np.abs(share - 0.5).max() <= _OFF_MIDDLE:
        return [of_view, Finding("principal point", where)]
    scale = float(2.0 * share.mean())
    fix = "not near the middle: take the intrinsics of the depth stream at this frame size"
    if scale > 0 and np.ptp(share) < _OFF_MIDDLE:
        scaled = ",".join(f"{number / scale:.4g}" for number in camera.as_array())
        fix += (
            f"; these are of about {width * scale:.0f}x{height * scale:.0f} px: --camera {scaled}"
        )
    return [of_view, Finding("principal point", where, fix)]


def _of_hand(pose: HandPose, depth: DepthFrame, track: TrackSpec, most: int) -> list[Finding]:
    """Where the hand is, how sure the network is of it, and whether it has the size of one; of several, its number."""
    assert pose.center_uvd is not None
    assert pose.joints_xyz_mm is not None
    u, v, d = pose.center_uvd
    fix = ""
    if not _NEAR_MM <= d <= _FAR_MM:
        fix = "best between 0.3 and 1 m from the camera"
    last = np.array(depth.shape[::-1]) - 1.0
    uv = pose.joints_uvd[:, :2]
    if np.any((uv < _BORDER_PX) | (uv > last - _BORDER_PX)):
        fix = "at the border of the frame, which may cut the hand off"
    which = f"hand {pose.number}: " if most > 1 else ""
    place = Finding(f"{which}place", f"{u:.0f},{v:.0f} px, {d:.0f} mm away", fix)
    side = f"{pose.handedness} ({pose.handedness_probability:.0%}), score {pose.score:.2f}"
    warnings = (pose.warning or "").split("; ")
    seen = Finding(
        f"{which}side" if which else "hand",
        side,
        "; ".join(w for w in warnings if "principal point" not in w),
    )
    finger = track.skeleton.limbs[2][1]
    bones = tuple(pairwise(finger))
    length = float(bone_lengths(pose.joints_xyz_mm, bones).sum())
    fix = ""
    if not _LENGTH_MM[0] <= length <= _LENGTH_MM[1]:
        usual = f"{_LENGTH_MM[0]:g} to {_LENGTH_MM[1]:g} mm"
        fix = f"hands measure {usual}: another depth unit, another focal length, or no hand"
    return [place, seen, Finding(f"{which}wrist to middle tip", f"{length:.0f} mm", fix)]


def draw(diagnosis: Diagnosis, track: TrackSpec, text: str, command: str) -> Any:
    """A figure: the frame with the places of `hand_centers`; of each hand the crop that the network saw and its joints.

    Args:
      diagnosis: of the frame.
      track: of the network.
      text: the caption.
      command: that drew it.

    Raises:
      UserError: no matplotlib.
    """
    depth, poses, camera = diagnosis.depth_mm, diagnosis.poses, diagnosis.camera
    rows = max(len(poses), 1)
    figure = new_page(11.0, 3.6 * rows, text, command)
    widths = [depth.shape[1] / depth.shape[0], 1.0, 1.0]
    axes = figure.subplots(rows, 3, width_ratios=widths, squeeze=False)
    frame = axes[0, 0]
    draw_depth(frame, depth)
    frame.set_title("frame: places (1 first), crop, principal point +", fontsize=8)
    frame.plot(camera.u0, camera.v0, "+", color="black")
    for number, (u, v, _) in enumerate(diagnosis.places_uvd, 1):
        frame.plot(u, v, "o", color="#D55E00", markersize=3)
        frame.annotate(str(number), (u, v), (3, 3), textcoords="offset points", color="#D55E00")
    for unused in (*axes[1:, 0], *([] if poses else axes[0, 1:])):
        unused.remove()
    for pose, (_, crop, answer) in zip(poses, axes, strict=False):
        name = f"hand {pose.number}" if len(poses) > 1 else ""
        _draw_hand(pose, depth, track, (frame, crop, answer), name)
    return figure


def _draw_hand(
    pose: HandPose, depth: DepthFrame, track: TrackSpec, axes: Sequence[Any], name: str
) -> None:
    """The box of one hand in the frame, its crop, and its joints; `axes` are those three."""
    frame, crop, answer = axes
    x0, y0, x1, y1 = pose.box_px
    frame.plot([x0, x1, x1, x0, x0], [y0, y0, y1, y1, y0], color="#0072B2", linewidth=1)
    if name:
        style = {"color": "#0072B2", "fontsize": 8}
        frame.annotate(name, (x0, y0), (2, -8), textcoords="offset points", **style)
    if min(x1 - x0, y1 - y0) < 1.0:  # of a unit or focal length that is far off
        crop.remove()
        answer.remove()
        return
    assert pose.center_uvd is not None
    window = track.depth_window_mm or np.inf
    canvas = crops.cut(depth, track, box_px=pose.box_px).canvas  # type: ignore[arg-type]
    image = geometry.center_crop(canvas, track.crop_size)
    near = np.where(np.abs(image - pose.center_uvd[2]) < window, image, 0.0)
    uv = geometry.frame_to_crop(pose.joints_uvd[:, :2], pose.box_px, track.crop_size)
    far = float(pose.center_uvd[2] + window)
    about = f"{name}: " if name else ""
    title = f"{about}crop: what the network sees"
    draw_tile(crop, Tile(near, far=far, title=title), track.skeleton, 1.6)
    title = f"{about}{pose.handedness} hand, score {pose.score:.2f}"
    draw_tile(answer, Tile(image, uv, far=far, title=title), track.skeleton, 1.6)


def suspicious(findings: Sequence[Finding]) -> list[str]:
    """What is suspicious, and the fix, of all findings that have one."""
    return [f"{finding.what}: {finding.fix}" for finding in findings if finding.fix]


def sentences(parts: Sequence[str]) -> str:
    """Joins sentences into one line; those without a final punctuation mark get a period."""
    return " ".join(part if part.endswith((".", "?", "!")) else f"{part}." for part in parts)
