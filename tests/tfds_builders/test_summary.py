"""What a build says of splits and crops."""

import numpy as np
import pytest

from a2j_jax.errors import UserError
from a2j_jax.tracks import get_track
from tfds_builders.raw_files import RawSplit
from tfds_builders.summary import say_crops, say_labels

NYU = get_track("nyu")


def split_of(frames: int, **more: object) -> RawSplit:
    joints = np.full((frames, 14, 3), 100.0, np.float32)
    return RawSplit([str(i) for i in range(frames)], range(frames), joints, **more)  # type: ignore[arg-type]


def test_notes_and_faults_are_told_apart(capsys: pytest.CaptureFixture[str]) -> None:
    split = split_of(2, notes=("odd", "warning: strange"), faults=("file is missing",))
    say_labels("train", split, NYU, 2, None)
    assert capsys.readouterr().err.splitlines() == [
        "train: 2 frames",
        "train: note: odd",
        "train: warning: strange",
        "train: warning: file is missing",
    ]


def test_strict_faults_are_an_error_that_names_the_first() -> None:
    faults = tuple(f"fault {i}" for i in range(5))
    with pytest.raises(
        UserError, match=r"^split 'test': fault 0; fault 1; fault 2; 2 more \(--strict\)$"
    ):
        say_labels("test", split_of(2, faults=faults), NYU, None, None, strict=True)
    with pytest.raises(UserError, match=r"^split 'test': fault 0 \(--strict\)$"):
        say_labels("test", split_of(2, faults=faults[:1]), NYU, None, None, strict=True)
    say_labels("test", split_of(2, notes=faults), NYU, None, None, strict=True)


def test_unusual_labels_are_counted_in_good_grammar(capsys: pytest.CaptureFixture[str]) -> None:
    split = split_of(1)
    assert split.joints_uvd is not None
    split.joints_uvd[0, 0, 0] = np.nan
    split.joints_uvd[0, 1:3, 0] = -1
    say_labels("train", split, NYU, 3, 5)
    assert capsys.readouterr().err.splitlines() == [
        "train: 1 frame, the first 1 to be used",
        "train: warning: 3 frames were published; is the download complete?",
        "train: note: 2 joints in 1 frame: outside the frame; kept, and they count",
    ]


def test_where_crops_come_from_is_always_said(capsys: pytest.CaptureFixture[str]) -> None:
    say_crops("test", NYU, ["odd"], {"labels": 8})
    say_crops("train", get_track("k2hpd"), [], {"a.mat": 2000, "depth": 1})
    assert capsys.readouterr().err.splitlines() == [
        "test: note: odd",
        "test: centers: 8 (labels)",
        "train: boxes: 2,000 (a.mat), 1 (depth)",
    ]
