"""Tracks of your own: a `track.json` says what a folder of frames is, without any Python.

```json
{
  "name": "my_hands",
  "like": "hands2017",
  "camera": {"fx": 475.0, "fy": 475.0, "cx": 320.0, "cy": 240.0},
  "frame_size": [640, 480],
  "joints": ["wrist", "thumb_tip", "index_tip"],
  "limbs": {"thumb": ["wrist", "thumb_tip"], "index": ["wrist", "index_tip"]},
  "half_window_mm": 110
}
```

`like` names the track that everything unsaid is taken from. Beside the keys above, plain numbers of
`TrackSpec`, `citation` and `notes` may be set; docs/own_data.md explains them all.
"""

import dataclasses
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from a2j_jax.errors import UserError, did_you_mean
from a2j_jax.files import local_path, read_json
from a2j_jax.geometry import Camera
from a2j_jax.skeletons import Skeleton
from a2j_jax.tracks import TRACKS, TrackSpec, get_track, with_crop_size

TRACK_FILE = "track.json"

# Fields of `TrackSpec` that a file sets as they are.
_POSITIVE = (
    "half_window_mm",
    "depth_window_mm",
    "image_unit_mm",
    "joint_depth_scale",
    "std",
    "storage_unit_mm",
    "loss_lambda",
    "depth_unit_mm",
)
_NUMBERS = (*_POSITIVE, "mean")
_WORDS = ("citation", "notes")
_KEYS = ("name", "like", "camera", "frame_size", "crop_size", "joints", "limbs", *_NUMBERS, *_WORDS)
# A window of fewer mm holds nothing that anyone tracks: it is meant in metres.
_SMALLEST_MM = 5.0
# No number of a track is larger, in any unit.
_LARGEST = 1e6
_LARGEST_SIDE_PX = 8192
_SHORTEST_PX = 1.0


def find_track(name_or_path: str | Path) -> TrackSpec:
    """A track by name, or by the path of a `track.json` or of the folder that holds one.

    Raises:
      UserError: neither; or a file that says something impossible, naming it.
    """
    path = track_file(name_or_path)
    return get_track(str(name_or_path)) if path is None else load_track(path)


def track_file(name_or_path: str | Path) -> Path | None:
    """The `track.json` that a path means; None where it is the name of a track.

    Raises:
      UserError: a path, but there is no such file.
    """
    text = str(name_or_path)
    if text in TRACKS:
        return None
    path = local_path(text, "track")
    if path.is_dir():
        if not (path / TRACK_FILE).is_file():
            raise UserError(
                f"{path}: holds no {TRACK_FILE}; expected a folder with {TRACK_FILE}, joints.csv (or "
                "joints.json) and the frames they name, as docs/own_data.md describes it"
            )
        return path / TRACK_FILE
    if path.suffix != ".json" and "/" not in text:
        return None
    if not path.is_file():
        raise UserError(
            f"{path}: no such track file or folder; expected the name of a track or a folder with "
            f"{TRACK_FILE} (docs/own_data.md)"
        )
    return path


def load_track(path: str | Path) -> TrackSpec:
    """Reads a track file; see the module for its form.

    Raises:
      UserError: not JSON, unknown keys (naming the nearest), or values that make no track.
    """
    path = Path(path)
    values = read_json(path, "a track file")
    if not isinstance(values, dict):
        raise UserError(f"{path}: expected one JSON object of keys {', '.join(_KEYS)}")
    try:
        return track_from_dict(values)
    except UserError as error:
        raise UserError(f"{path}: {error}") from error


def track_from_dict(values: Mapping[str, Any]) -> TrackSpec:
    """A track out of the contents of a track file.

    Raises:
      UserError: unknown or missing keys, or values that make no track.
    """
    check_keys(values, _KEYS)
    name = values.get("name")
    if not isinstance(name, str) or not re.fullmatch(r"[a-z][a-z0-9_]*", name):
        raise UserError(f"name {name!r}: expected a word of small letters, digits and _")
    if name in TRACKS:
        raise UserError(f"name {name!r} is that of a built-in track; choose another")
    try:
        base = get_track(str(values.get("like", "hands2017")))
    except UserError as error:
        raise UserError(f"like: {error}") from error
    changes: dict[str, Any] = {"name": name, "citation": "", "notes": _origin(base, values)}
    for key in _NUMBERS:
        if key in values:
            changes[key] = _constant(values[key], key)
    if base.crop_by == "box" and "half_window_mm" in values:
        raise UserError(f"half_window_mm: tracks like {base.name!r} crop by a box; leave it out")
    if "citation" in values:
        changes["citation"] = str(values["citation"])
    if "camera" in values:
        changes["camera"] = _camera(values["camera"])
    if "frame_size" in values:
        changes["frame_size"] = _frame_size(values["frame_size"])
    if "joints" in values:
        changes["skeleton"] = _skeleton(name, values["joints"], values.get("limbs", {}))
        changes["protocol"] = "mean_error_mm"  # the others are of one skeleton only
    elif "limbs" in values:
        raise UserError("limbs without joints: name the joints too")
    track = dataclasses.replace(base, **changes)
    if "crop_size" in values:
        size = _number(values["crop_size"], "crop_size")
        if size != int(size):
            raise UserError(f"crop_size {size:g}: expected a whole number of px")
        track = with_crop_size(track, int(size))
    return track


def check_keys(values: Iterable[str], known: Sequence[str]) -> None:
    """Refuses keys that mean nothing.

    Raises:
      UserError: naming the first of them and the nearest known one.
    """
    for key in values:
        if key not in known:
            hint = did_you_mean(key, known)
            raise UserError(f"unknown key {key!r}{hint} (keys: {', '.join(known)})")


def _origin(base: TrackSpec, values: Mapping[str, Any]) -> str:
    """The track's notes: what it is like, and what a reader may not know that it took from there."""
    there = {"camera": base.camera, "frame_size": base.frame_size}
    taken = [key for key, value in there.items() if key not in values and value is not None]
    also = f", with its {' and '.join(taken)}: {TRACK_FILE} names none" if taken else ""
    return f"Own data, like {base.name}{also}. {values.get('notes', '')}".strip()


def _number(value: Any, key: str) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        raise UserError(f"{key} {value!r}: expected a number")
    number = float(value)
    if abs(number) > _LARGEST:
        raise UserError(f"{key} {number:g}: expected a number up to {_LARGEST:g}")
    return number


def _constant(value: Any, key: str) -> float:
    """One of `_NUMBERS`, if it is possible."""
    number = _number(value, key)
    if key in _POSITIVE and number <= 0:
        raise UserError(f"{key} {number:g}: expected a number above 0")
    if key.endswith("window_mm") and number < _SMALLEST_MM:
        raise UserError(f"{key} {number:g}: expected mm; are these metres?")
    return number


def _camera(values: Any) -> Camera:
    names = ("fx", "fy", "cx", "cy")
    if not isinstance(values, dict) or set(values) != set(names):
        raise UserError(f"camera {values!r}: expected fx, fy, cx and cy in px")
    fx, fy, cx, cy = (_number(values[name], f"camera {name}") for name in names)
    if fx < _SHORTEST_PX or abs(fy) < _SHORTEST_PX:
        raise UserError(
            f"camera fx {fx:g}, fy {fy:g}: expected focal lengths in px, fx above 0 and fy not 0, of 1 px or "
            "more (fy negative where your y axis points up)"
        )
    return Camera(fx, fy, cx, cy)


def _frame_size(values: Any) -> tuple[int, int]:
    whole = isinstance(values, list) and all(isinstance(v, int) and v > 0 for v in values)
    if not whole or len(values) != 2:
        raise UserError(f"frame_size {values!r}: expected [width, height] in px")
    if max(values) > _LARGEST_SIDE_PX:
        raise UserError(f"frame_size {values!r}: expected up to {_LARGEST_SIDE_PX} px a side")
    return values[0], values[1]


def _skeleton(name: str, joints: Any, limbs: Any) -> Skeleton:
    if not isinstance(joints, list) or not joints or not all(isinstance(j, str) for j in joints):
        raise UserError(f"joints {joints!r}: expected a list of names")
    twice = next((joint for joint in joints if joints.count(joint) > 1), None)
    if twice is not None:
        raise UserError(f"joints: {twice!r} is named twice; expected every name once")
    if "center" in joints:
        raise UserError("joints: 'center' is where to crop; call the joint otherwise")
    if not isinstance(limbs, dict):
        raise UserError('limbs: expected {"limb": ["joint", "joint", ...], ...}')
    chains = []
    for limb, chain in limbs.items():
        if not isinstance(chain, list) or len(chain) < 2:
            raise UserError(f"limb {limb!r} {chain!r}: expected a list of two joints or more")
        for joint in chain:
            if joint not in joints:
                hint = did_you_mean(str(joint), joints)
                raise UserError(f"limb {limb!r}: no joint is called {joint!r}{hint}")
        chains.append((str(limb), tuple(joints.index(joint) for joint in chain)))
    return Skeleton(name, tuple(joints), tuple(chains))
