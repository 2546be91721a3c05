"""Custom tracks: a `track.json` describes a folder of frames, without any Python.

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

`like` names the track that all other values are taken from. Beside the keys above, plain numbers of `TrackSpec`,
`citation` and `notes` may be set; docs/own_data.md explains them all.
"""

import dataclasses
import itertools
import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from a2j_jax.errors import UserError, did_you_mean, printable
from a2j_jax.files import local_path, read_json
from a2j_jax.geometry import Camera
from a2j_jax.tracks import (
    ALL_SPLITS,
    TRACKS,
    USUAL_SPLITS,
    Skeleton,
    TrackSpec,
    get_track,
    with_crop_size,
)

TRACK_FILE = "track.json"
LARGEST_FRAME = 8192  # px
#: Words with another meaning on a command line: splits, values of --step and --centers, commands of `a2j`.
RESERVED_NAMES = {
    *USUAL_SPLITS, ALL_SPLITS, "best", "latest", "labels", "depth",
    "build", "show", "figure", "plan", "train", "config", "eval", "reproduce", "bench", "predict", "convert", "export",
    "doctor", "live",
}  # fmt: skip
_SMALLEST, _LARGEST = 1e-6, 1e6  # of plain numbers, for single precision
_MOST_JOINTS, _LONGEST_NAME = 512, 100
# No tracked object fits a smaller window: the number must be in meters.
_SMALLEST_MM, _LARGEST_MM = 5.0, 10_000.0
_SHORTEST_PX = 1.0


def find_track(name_or_path: str | Path) -> TrackSpec:
    """A track by name, or by the path of a `track.json` or of its folder.

    Raises:
      UserError: neither, or a file with impossible values, naming it.
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
      UserError: not JSON, or as `track_from_dict`, naming the file.
    """
    values, shown = read_json(path, "a track"), printable(str(path))
    if not isinstance(values, dict):
        raise UserError(f"{shown}: expected one JSON object of keys {', '.join(_KEYS)}")
    try:
        return track_from_dict(values)
    except UserError as error:
        raise UserError(f"{shown}: {error}") from error


def track_from_dict(values: Mapping[str, Any]) -> TrackSpec:
    """A track from the contents of a track file.

    Raises:
      UserError: unknown (naming the nearest) or missing keys, or impossible values.
    """
    check_keys(values, _KEYS)
    name = values.get("name")
    if not isinstance(name, str) or not re.fullmatch(r"[a-z][a-z0-9_]{0,63}", name):
        raise UserError(f"name {_shown(name)}: expected a word of small letters, digits and _")
    if name in TRACKS:
        raise UserError(f"name {name!r} is that of a built-in track; choose another")
    if name in RESERVED_NAMES:
        raise UserError(
            f"name {name!r} is a keyword of a2j (a split, command or option value); choose another, e.g. 'my_{name}'"
        )
    changes = {key: parse(values[key], key) for key, parse in _FIELDS.items() if key in values}
    try:
        base = get_track(_text(values.get("like", "hands2017"), "its value"))
    except UserError as error:
        raise UserError(f"like: {error}") from error
    if base.crop_by == "box" and "half_window_mm" in values:
        raise UserError(f"half_window_mm: tracks like {base.name!r} crop by a box; leave it out")
    if "joints" in values:
        changes["skeleton"] = _skeleton(name, values["joints"], values.get("limbs", {}))
        changes["protocol"] = "mean_error_mm"  # the others are for one skeleton only
    elif "limbs" in values:
        raise UserError("limbs without joints: name the joints too")
    taken = [key for key in ("camera", "frame_size") if key not in values and getattr(base, key)]
    also = f", with its {' and '.join(taken)}: {TRACK_FILE} names none" if taken else ""
    notes = f"Custom track, like {base.name}{also}. {changes.get('notes', '')}".strip()
    track = dataclasses.replace(base, **{"citation": "", **changes, "name": name, "notes": notes})
    return with_crop_size(track, track.crop_size)


def _shown(value: Any) -> str:
    return printable(repr(value), 80)


def check_keys(values: Iterable[str], known: Sequence[str]) -> None:
    """Rejects unknown keys.

    Raises:
      UserError: naming the first of them and the nearest known one.
    """
    for key in values:
        if key not in known:
            hint = did_you_mean(key, known)
            raise UserError(f"unknown key {_shown(key)}{hint} (keys: {', '.join(known)})")


def _text(value: Any, key: str) -> str:
    if not isinstance(value, str):
        raise UserError(f"{key} {_shown(value)}: expected a text")
    return value


def _number(value: Any, key: str) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        raise UserError(f"{key} {_shown(value)}: expected a number")
    return float(value)


def _constant(value: Any, key: str) -> float:
    """A plain number of `TrackSpec`."""
    number = _number(value, key)
    if key != "mean" and number <= 0:
        raise UserError(f"{key} {number:g}: expected a number above 0")
    if not _SMALLEST <= (abs(number) or 1.0) <= _LARGEST:
        raise UserError(f"{key} {number:g}: out of range; expected {_SMALLEST:g} to {_LARGEST:g}")
    if key.endswith("window_mm"):
        if number < _SMALLEST_MM:
            raise UserError(f"{key} {number:g}: expected mm; are these meters?")
        if number > _LARGEST_MM:
            raise UserError(
                f"{key} {number:g}: expected at most {_LARGEST_MM:g} mm around one object"
            )
    return number


def _crop_size(value: Any, key: str) -> int:
    size = _number(value, key)
    if size != int(size):
        raise UserError(f"{key} {size:g}: expected a whole number of px")
    return int(size)


def checked_camera(values: Any, key: str = "camera") -> Camera:
    """A camera from a mapping of fx, fy, cx and cy, px; `UserError` for other keys or impossible numbers."""
    names = ("fx", "fy", "cx", "cy")
    if not isinstance(values, dict) or set(values) != set(names):
        raise UserError(f"{key} {_shown(values)}: expected fx, fy, cx and cy in px")
    fx, fy, cx, cy = (_number(values[name], f"{key} {name}") for name in names)
    if fx < _SHORTEST_PX or abs(fy) < _SHORTEST_PX:
        raise UserError(
            f"{key} fx {fx:g}, fy {fy:g}: expected focal lengths in px, fx above 0 and fy not 0, of 1 px or "
            "more (fy negative where your y axis points up)"
        )
    return Camera(fx, fy, cx, cy)


def checked_frame_size(values: Any, key: str = "frame_size") -> tuple[int, int]:
    """(width, height) of a frame, px; `UserError` unless they are two integers from 1 to 8192."""
    pair = isinstance(values, list | tuple) and len(values) == 2
    if not pair or not all(type(v) is int and 1 <= v <= LARGEST_FRAME for v in values):
        raise UserError(
            f"{key} {_shown(values)}: expected width and height in px, two whole numbers from 1 to {LARGEST_FRAME}"
        )
    return values[0], values[1]


def _skeleton(name: str, joints: Any, limbs: Any) -> Skeleton:
    if not isinstance(joints, list) or not joints or not all(isinstance(j, str) for j in joints):
        raise UserError(f"joints {_shown(joints)}: expected a list of names")
    if len(joints) > _MOST_JOINTS or not all(0 < len(j) <= _LONGEST_NAME for j in joints):
        raise UserError(
            f"joints: expected at most {_MOST_JOINTS} names of 1 to {_LONGEST_NAME} characters"
        )
    twice = next((joint for joint in joints if joints.count(joint) > 1), None)
    if twice is not None:
        raise UserError(f"joints: {_shown(twice)} is named twice; expected every name once")
    if "center" in joints:
        raise UserError("joints: 'center' is where to crop; use another name for the joint")
    if not isinstance(limbs, dict):
        raise UserError('limbs: expected {"limb": ["joint", "joint", ...], ...}')
    chains = []
    for limb, chain in limbs.items():
        where = f"limb {_shown(limb)} {_shown(chain)}"
        if not isinstance(chain, list) or len(chain) < 2:
            raise UserError(f"{where}: expected a list of two joints or more")
        if any(joint == following for joint, following in itertools.pairwise(chain)):
            raise UserError(f"{where}: a joint follows itself")
        for joint in chain:
            if joint not in joints:
                hint = did_you_mean(str(joint), joints)
                raise UserError(f"limb {_shown(limb)}: no joint is called {_shown(joint)}{hint}")
        chains.append((str(limb), tuple(joints.index(joint) for joint in chain)))
    return Skeleton(name, tuple(joints), tuple(chains))


# Key of a file, which is the field of `TrackSpec` that it sets -> function of its value and the key.
_FIELDS: dict[str, Callable[[Any, str], Any]] = {
    "camera": checked_camera,
    "frame_size": checked_frame_size,
    "crop_size": _crop_size,
    "half_window_mm": _constant,
    "depth_window_mm": _constant,
    "image_unit_mm": _constant,
    "joint_depth_scale": _constant,
    "mean": _constant,
    "std": _constant,
    "storage_unit_mm": _constant,
    "loss_lambda": _constant,
    "depth_unit_mm": _constant,
    "citation": _text,
    "notes": _text,
}
_KEYS = ("name", "like", "joints", "limbs", *_FIELDS)
