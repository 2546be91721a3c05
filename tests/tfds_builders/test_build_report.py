"""Messages of a build, and how a finished data set is reused or refused."""

import numpy as np
import pytest
import tensorflow_datasets as tfds

from a2j_jax.errors import UserError
from a2j_jax.tracks import get_track, with_crop_size
from tests.distributions import nyu
from tests.tfds_builders.numbered_frames import build_numbered
from tfds_builders.build import How, build_raw, differences, report_crops, report_labels
from tfds_builders.crop_plan import plan_crops
from tfds_builders.nyu import Nyu
from tfds_builders.raw_files import RawSplit
from tfds_builders.reader import RawReader

NYU = with_crop_size(get_track("nyu"), 16)
A, B = "split train", "split test"


def test_frames_left_out_are_said_again_when_reused(tmp_path, capsys):
    folder = build_numbered(tmp_path, train=6, test=5, broken=(3, 5))
    for _ in range(2):
        capsys.readouterr()
        build_numbered(tmp_path, train=6, test=5, broken=(3, 5))
        assert capsys.readouterr().err.splitlines() == [
            f"{folder} is built already; nothing to do",
            *(
                f"warning: {text} (is broken): left out when it was built; once fixed, "
                f"delete {folder} to build it again"
                for text in ("2 frames of train", "1 frame of test")
            ),
        ]


def test_other_numbers_of_shards_are_not_ignored_in_silence(tmp_path, capsys):
    build_numbered(tmp_path, How(num_shards=3), train=6)
    capsys.readouterr()
    build_numbered(tmp_path, How(num_shards=3), train=6)
    assert "--num_shards" not in capsys.readouterr().err
    build_numbered(tmp_path, How(num_shards=2), train=6)
    said = capsys.readouterr().err
    assert "warning: --num_shards 2 changes nothing, it has 3 shards of train; delete" in said


def test_strict_does_not_accept_what_was_built_without_it(tmp_path):
    nyu.write(tmp_path / "raw", {"train": 4})
    missing = tmp_path / "raw" / "dataset" / "train" / "depth_1_0000003.png"
    frame = missing.read_bytes()
    missing.unlink()

    def build(**options):
        return build_raw("nyu", tmp_path / "raw", tmp_path / "data", crop_size=16, **options)

    folder = build()
    missing.write_bytes(frame)
    message = rf"was built without 1 frame of train \(.*\) \(--strict\); delete {folder}"
    with pytest.raises(UserError, match=message):
        build(strict=True)
    assert build() == folder
    metadata = tfds.builder_from_directory(folder).info.metadata
    assert metadata["manual_download"] == Nyu.DOWNLOAD


def split_of(frames, labels=100.0, **more):
    joints = np.full((frames, 14, 3), labels, np.float32)
    return RawSplit([str(i) for i in range(frames)], range(frames), joints, **more)


def spec_of(tmp_path, frames=8, labels=300.0, centers=None, view=1):
    split = split_of(10, labels)
    plans = {name: plan_crops(NYU, name, split, centers) for name in ("train", "test")}
    reader = RawReader(Nyu(tmp_path, NYU, view), dict.fromkeys(plans, split), plans, frames)
    return reader.spec()


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"frames": 3}, ["frames train: 8 there, 3 wanted", "frames test: 8 there, 3 wanted"]),
        ({"centers": "labels"}, ["crops of split test differ"]),
        (
            {"labels": 1.0},
            [f"labels of {A} differ", f"crops of {A} differ", f"labels of {B} differ"],
        ),
        ({"view": 2}, ["distribution view: 1 there, 2 wanted"]),
    ],
)
def test_only_what_differs_is_named(tmp_path, changes, said):
    there, wanted = spec_of(tmp_path), spec_of(tmp_path, **changes)
    assert differences(there, wanted) == said
    assert differences(there, there) == []


def test_values_that_are_long_or_missing():
    assert differences({"x": {"y": "a" * 3000}}, {"x": {"y": "b" * 3000}}) == ["x y differ"]
    assert differences({"x": {}}, {"x": {"y": [1, 2]}}) == ["x y: nothing there, [1, 2] wanted"]


def test_notes_and_faults_are_told_apart(capsys):
    split = split_of(2, notes=("odd", "warning: strange"), faults=("file is missing",))
    report_labels("train", split, NYU, 2, None)
    assert capsys.readouterr().err.splitlines() == [
        "train: 2 frames",
        "train: note: odd",
        "train: warning: strange",
        "train: warning: file is missing",
    ]


def test_strict_faults_are_an_error_that_names_the_first():
    faults = tuple(f"fault {i}" for i in range(5))
    for some, named in ((faults, "fault 0; fault 1; fault 2; 2 more"), (faults[:1], "fault 0")):
        with pytest.raises(UserError, match=rf"^split 'test': {named} \(--strict\)$"):
            report_labels("test", split_of(2, faults=some), NYU, None, None, strict=True)
    report_labels("test", split_of(2, notes=faults), NYU, None, None, strict=True)


def test_unusual_labels_are_counted_in_good_grammar(capsys):
    split = split_of(1)
    assert split.joints_uvd is not None
    split.joints_uvd[0, 0, 0] = np.nan
    split.joints_uvd[0, 1:3, 0] = -1
    report_labels("train", split, NYU, 3, 5)
    assert capsys.readouterr().err.splitlines() == [
        "train: 1 frame, the first 1 to be used",
        "train: warning: 3 frames were published; is the download complete?",
        "train: note: 2 joints in 1 frame: outside the frame; kept, and they count",
    ]


def test_sources_of_crops_are_always_logged(capsys):
    report_crops("test", NYU, ["odd"], {"labels": 8})
    report_crops("train", get_track("k2hpd"), [], {"a.mat": 2000, "depth": 1})
    assert capsys.readouterr().err.splitlines() == [
        "test: note: odd",
        "test: centers: 8 (labels)",
        "train: boxes: 2,000 (a.mat), 1 (depth)",
    ]
