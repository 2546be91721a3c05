"""Data sets that are built already: whether they are what is asked for, and what was left out of them."""

import json
from collections.abc import Mapping
from itertools import zip_longest
from pathlib import Path
from typing import Any

import tensorflow_datasets as tfds

from a2j_jax.errors import UserError
from a2j_jax.files import read_json
from a2j_jax.progress import say
from tfds_builders.wording import WARNING, counted

_LONGEST = 60  # characters of one value in a message
_Path = tuple[str, ...]


def reuse(
    folder: Path, spec: Mapping[str, Any], num_shards: int | None = None, strict: bool = False
) -> None:
    """Says that a finished data set is used as it is, and what a user may not expect of it.

    Args:
      folder: of the data set.
      spec: what the examples should be built from.
      num_shards: files per split that are asked for; None: any number will do.
      strict: frames that were left out are an error.

    Raises:
      UserError: it was built from something else, says not from what, or (strict) misses frames.
    """
    _check_same(folder, spec)
    anew = f"delete {folder} to build it again"
    left_out = [
        f"{counted(sum(reasons.values()), 'frame')} of {split} ({', '.join(reasons)})"
        for split, reasons in _read_metadata(folder).get("skipped", {}).items()
        if reasons
    ]
    if strict and left_out:
        raise UserError(f"{folder} was built without {' and '.join(left_out)} (--strict); {anew}")
    say(f"{folder} is built already; nothing to do")
    for part in left_out:
        say(f"{WARNING}{part}: left out when it was built; once fixed, {anew}")
    if num_shards is not None:
        splits = tfds.builder_from_directory(folder).info.splits
        shards = {name: split.num_shards for name, split in splits.items()}
        if set(shards.values()) != {num_shards}:
            there = ", ".join(
                f"{counted(count, 'shard')} of {name}" for name, count in shards.items()
            )
            say(f"{WARNING}--num_shards {num_shards} changes nothing, it has {there}; {anew}")


def read_spec(folder: Path) -> dict[str, Any] | None:
    """What the data set in a folder was built from; None where it does not say."""
    spec: dict[str, Any] | None = _read_metadata(folder).get("spec")
    return spec


def differences(there: Mapping[str, Any], wanted: Mapping[str, Any]) -> list[str]:
    """What differs between two specs, one short phrase each, e.g. "half_window_mm: 110 there, 120 wanted".

    Digests of a split (`digest: split: what`) are not shown: what they are of "differ", which says
    nothing new where the number of frames does.
    """
    one, other = _leaves(there), _leaves(wanted)
    differing = [path for path in {**one, **other} if one.get(path) != other.get(path)]
    resized = {path[-1] for path in differing if path[0] == "frames"}
    phrases = []
    for path in differing:
        if path[0] != "digest":
            phrases.append(f"{' '.join(path)}: {_side_by_side(one.get(path), other.get(path))}")
        elif path[1] not in resized:
            phrases.append(f"{' '.join(path[2:]) or 'contents'} of split {path[1]} differ")
    return phrases


def _read_metadata(folder: Path) -> dict[str, Any]:
    path = folder / "metadata.json"
    stored = read_json(path, "the metadata of a data set") if path.exists() else {}
    if not isinstance(stored, dict):
        raise UserError(f"{path}: damaged; delete {folder} and build it again")
    return stored


def _check_same(folder: Path, spec: Mapping[str, Any]) -> None:
    stored, wanted = read_spec(folder), json.loads(json.dumps(spec))
    if stored == wanted:
        return
    changed = "; ".join(differences(stored, wanted)) if stored else "not built by this program"
    raise UserError(
        f"{folder} holds another data set ({changed or 'by another version of this program'}); "
        "delete that folder to build it again, or name another --data_dir"
    )


def _leaves(spec: Mapping[str, Any], path: _Path = ()) -> dict[_Path, Any]:
    """Every value that is no mapping, by the keys that lead to it."""
    leaves: dict[_Path, Any] = {}
    for key, value in spec.items():
        here = (*path, str(key))
        leaves |= _leaves(value, here) if isinstance(value, Mapping) else {here: value}
    return leaves


def _side_by_side(there: Any, wanted: Any) -> str:
    texts = ["nothing" if value is None else str(value) for value in (there, wanted)]
    if max(map(len, texts)) > _LONGEST:
        # Of long lists, what differs in them.
        pairs = zip_longest(*(text.split(", ") for text in texts), fillvalue="nothing")
        differing = [pair for pair in pairs if pair[0] != pair[1]]
        texts = [_cut(", ".join(words)) for words in zip(*differing, strict=True)]
    return f"{texts[0]} there, {texts[1]} wanted"


def _cut(text: str) -> str:
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…"
