"""Building: what comes out, what is never overwritten, what a killed build leaves."""

import errno
import re
import subprocess
import sys

import numpy as np
import pytest
import tensorflow_datasets as tfds

from a2j_jax.data import pipeline
from a2j_jax.errors import UserError
from a2j_jax.tracks import get_track, with_crop_size
from tfds_builders.build import How, build, prepare, read_spec

TRACK = with_crop_size(get_track("synthetic_hand"), 16)
pytestmark = pytest.mark.usefixtures("importable")


def build_numbered(data_dir, track=TRACK, how=None, **changes):
    from numbered_frames import NumberedFrames, SyntheticHand

    return prepare(SyntheticHand, track, NumberedFrames(track, **changes), data_dir, how)


def contents(folder):
    """Bytes of every file of records and metadata."""
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_a_build_holds_every_frame_in_order(tmp_path, capsys):
    folder = build_numbered(tmp_path, train=12, test=5)
    assert folder == tmp_path / "synthetic_hand" / "crop16" / "1.0.0"
    builder = tfds.builder_from_directory(folder)
    train, test = (builder.as_data_source(split=split) for split in ("train", "test"))
    assert (len(train), len(test)) == (12, 5)
    for i, example in enumerate(train):
        assert example["index"] == i
        assert np.all(example["canvas"] == 500 + i)
        assert example["frame_id"] == f"train/{i}".encode()
    assert "tensorflow" not in sys.modules
    out = capsys.readouterr()
    assert out.out == ""  # stdout belongs to results
    assert re.search(r"train +│ +12 │", out.err)
    assert "17 frames in" in out.err
    assert "frames/s" in out.err


def test_neither_processes_nor_shards_change_what_is_read(tmp_path):
    alone = build_numbered(tmp_path / "1", how=How(num_shards=3), train=20, broken=(0, 7, 19))
    together = build_numbered(
        tmp_path / "2", how=How(num_processes=2, num_shards=3), train=20, broken=(0, 7, 19)
    )
    assert contents(alone) == contents(together)
    assert len(list(alone.glob("*.array_record*"))) == 3
    single = build_numbered(tmp_path / "3", train=20, broken=(0, 7, 19))
    one, other = (
        tfds.builder_from_directory(folder).as_data_source(split="train")
        for folder in (alone, single)
    )
    assert [e["index"] for e in one] == [e["index"] for e in other]
    assert [e["index"] for e in one] == [i for i in range(20) if i not in (0, 7, 19)]


def test_frames_left_out_are_counted_and_named(tmp_path, capsys):
    folder = build_numbered(tmp_path, train=12, broken=(3, 4))
    said = capsys.readouterr().err
    assert "warning: 2 frames of train left out: is broken (the first: train/3)" in said
    rows = (folder / "skipped.tsv").read_text().splitlines()
    assert rows == [
        "split\tindex\tframe\treason",
        "train\t3\ttrain/3\tis broken",
        "train\t4\ttrain/4\tis broken",
    ]
    metadata = tfds.builder_from_directory(folder).info.metadata
    assert metadata["skipped"] == {"train": {"is broken": 2}}
    assert metadata["provenance"] == {"centers": {"train": {"made up": 12}}}


def test_a_shard_without_a_usable_frame_disappears(tmp_path):
    folder = build_numbered(tmp_path, how=How(num_shards=4), train=8, broken=(2, 3))
    assert len(list(folder.glob("*.array_record*"))) == 3
    assert pipeline.num_frames(tmp_path, TRACK, "train") == 6
    message = "none of the 2 frames of split 'train' could be used; the first, train/0: is broken"
    with pytest.raises(UserError, match=message):
        build_numbered(tmp_path / "none", train=2, broken=(0, 1))
    assert not (tmp_path / "none").exists()


def test_the_crops_mean_and_std_are_kept(tmp_path):
    """Frame i shows 500 + i mm around a centre at 500 + i mm: zero, and the far frame edge never."""
    folder = build_numbered(tmp_path, train=5, test=3)
    metadata = tfds.builder_from_directory(folder).info.metadata
    assert metadata["statistics"] == {"mean": 0.0, "std": 0.0}


def test_a_full_disk_and_a_closed_folder_get_one_line(tmp_path, monkeypatch):
    for number, message in ((errno.ENOSPC, "the disk is full"), (errno.EROFS, "cannot be written")):

        def fail(*_, number=number):
            raise OSError(number, "as the system says")

        monkeypatch.setattr("tfds_builders.base.write_shards", fail)
        with pytest.raises(UserError, match=f"{message}.*nothing was kept"):
            build_numbered(tmp_path)
        assert list(tmp_path.glob("synthetic_hand/crop16/*")) == []


def test_an_interrupted_build_leaves_nothing_and_says_so(tmp_path, monkeypatch, capsys):
    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("tfds_builders.base.write_shards", interrupt)
    with pytest.raises(KeyboardInterrupt):
        build_numbered(tmp_path)
    assert "nothing was kept" in capsys.readouterr().err
    assert list(tmp_path.glob("synthetic_hand/crop16/*")) == []


def test_the_same_again_is_reused_and_another_is_refused(tmp_path, capsys):
    folder = build_numbered(tmp_path, train=4)
    before = {path: path.stat().st_mtime_ns for path in folder.iterdir()}
    assert build_numbered(tmp_path, train=4) == folder
    assert "built already" in capsys.readouterr().err
    message = r"holds another data set \(frames train: 4 there, 5 wanted\); delete that folder"
    with pytest.raises(UserError, match=message):
        build_numbered(tmp_path, train=5)
    assert {path: path.stat().st_mtime_ns for path in folder.iterdir()} == before


def test_a_build_leaves_its_own_folder_only(tmp_path):
    folder = build_numbered(tmp_path, train=4)
    assert [path for path in tmp_path.rglob("*") if path.is_dir()] == [
        tmp_path / "synthetic_hand",
        folder.parent,
        folder,
    ]


def test_what_was_downloaded_is_in_the_metadata(tmp_path):
    from numbered_frames import NumberedFrames, SyntheticHand

    reader = NumberedFrames(TRACK, train=2)
    folder = prepare(SyntheticHand, TRACK, reader, tmp_path, manual_download="this\nand that")
    assert tfds.builder_from_directory(folder).info.metadata["manual_download"] == "this\nand that"


def test_another_crop_size_goes_beside_it(tmp_path):
    build_numbered(tmp_path, train=4)
    other = with_crop_size(TRACK, 32)
    assert build_numbered(tmp_path, other, train=4).parent.name == "crop32"
    for track in (TRACK, other):
        builder = pipeline.find_dataset(tmp_path, track)
        assert builder.info.features["canvas"].shape == (track.canvas_size,) * 2


def test_splits_without_frames_are_left_out(tmp_path):
    folder = build_numbered(tmp_path, train=0, test=2)
    assert list(tfds.builder_from_directory(folder).info.splits) == ["test"]


def test_a_foreign_folder_is_not_touched(tmp_path):
    folder = tmp_path / "synthetic_hand" / "crop16" / "1.0.0"
    folder.mkdir(parents=True)
    (folder / "thesis.tex").write_text("precious")
    assert read_spec(folder) is None
    with pytest.raises(UserError, match="not built by this program"):
        build_numbered(tmp_path)
    assert [path.name for path in folder.iterdir()] == ["thesis.tex"]


KILLED = """
import sys
from test_build import TRACK
from numbered_frames import NumberedFrames, SyntheticHand
from tfds_builders.build import prepare
prepare(SyntheticHand, TRACK, NumberedFrames(TRACK, train=4, test=9, killed_at=6), sys.argv[1])
"""


def test_a_killed_build_never_looks_complete(tmp_path, capsys):
    ended = subprocess.run(
        [sys.executable, "-c", KILLED, str(tmp_path)], capture_output=True, check=False
    )
    assert ended.returncode == -9, ended.stderr
    leftovers = list(tmp_path.glob("synthetic_hand/crop16/*"))
    assert leftovers  # it had begun to write
    assert not (tmp_path / "synthetic_hand" / "crop16" / "1.0.0").exists()
    with pytest.raises(UserError, match="no data set"):
        pipeline.num_frames(tmp_path, TRACK, "train")
    build_numbered(tmp_path, train=4, test=9)
    assert "did not finish" in capsys.readouterr().err
    assert not any(leftover.exists() for leftover in leftovers)
    assert pipeline.num_frames(tmp_path, TRACK, "test") == 9


def test_a_killed_worker_is_reported_and_leaves_nothing(tmp_path):
    from numbered_frames import NumberedFrames, SyntheticHand

    reader = NumberedFrames(TRACK, train=9, killed_at=6)
    with pytest.raises(UserError, match=r"worker process was killed.*fewer --num_processes"):
        prepare(SyntheticHand, TRACK, reader, tmp_path, How(num_processes=2))
    assert list(tmp_path.glob("synthetic_hand/crop16/*")) == []


def test_bad_labels_stop_the_build_with_their_own_message(tmp_path):
    from numbered_frames import NumberedFrames, SyntheticHand

    reader = NumberedFrames(TRACK, train=3, mislabelled=True)
    with pytest.raises(UserError, match=r"frame 'train/0': labels of shape \(36, 3\)"):
        prepare(SyntheticHand, TRACK, reader, tmp_path)
    assert list(tmp_path.glob("synthetic_hand/crop16/*")) == []


def test_mistakes_get_one_clear_line(tmp_path):
    with pytest.raises(UserError, match="did you mean 'synthetic_hand'"):
        build("synthetic_hands", tmp_path)
    with pytest.raises(UserError, match="'nyu' is not rendered here"):
        build("nyu", tmp_path)
    with pytest.raises(UserError, match="multiple of 16"):
        build("synthetic_hand", tmp_path, crop_size=100)
    with pytest.raises(UserError, match="at least one above"):
        build("synthetic_hand", tmp_path, train=0, validation=0, test=0)
    with pytest.raises(UserError, match="num_processes 0"):
        build("synthetic_hand", tmp_path, num_processes=0)
    with pytest.raises(UserError, match="num_shards 0"):
        build("synthetic_hand", tmp_path, num_shards=0)
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="is a file"):
        build("synthetic_hand", tmp_path / "file", train=1, validation=0, test=0)
