"""Builds: results, endings, two at once, and what dead ones have left."""

import errno
import fcntl
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import tensorflow_datasets as tfds

from a2j_jax.data import pipeline
from a2j_jax.errors import UserError
from a2j_jax.tracks import get_track, with_crop_size
from tests.tfds_builders.numbered_frames import TRACK, build_numbered
from tfds_builders.build import DATASETS, How, build, claimed, get_dataset, read_spec

ROOT = Path(__file__).parents[2]
PARENT = "synthetic_hand/crop16"
BUILD = """
import sys
from tests.tfds_builders.numbered_frames import build_numbered
from tfds_builders.build import How
"""


def contents(folder):
    """Bytes of every file of records and metadata, by name."""
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def splits_of(folder):
    builder = tfds.builder_from_directory(folder)
    return {split: builder.as_data_source(split=split) for split in builder.info.splits}


# --- Results


def test_a_build_holds_every_frame_in_order(tmp_path, capsys):
    folder = build_numbered(tmp_path, train=12, test=5)
    # It leaves its own folder only.
    made = [path for path in tmp_path.rglob("*") if path.is_dir()]
    assert made == [tmp_path / "synthetic_hand", tmp_path / PARENT, folder]
    splits = splits_of(folder)
    assert {split: len(source) for split, source in splits.items()} == {"train": 12, "test": 5}
    for i, example in enumerate(splits["train"]):
        assert example["index"] == i
        assert np.all(example["canvas"] == 500 + i)
        assert example["frame_id"] == f"train/{i}".encode()
    assert "tensorflow" not in sys.modules
    out = capsys.readouterr()
    assert out.out == ""  # stdout belongs to results
    assert re.search(r"train +│ +12 │", out.err)
    assert re.search("17 frames in .* frames/s", out.err)
    # Frame i shows 500 + i mm around a center at 500 + i mm.
    metadata = tfds.builder_from_directory(folder).info.metadata
    assert metadata["statistics"] == {"mean": 0.0, "std": 0.0}
    assert "manual_download" not in metadata


@pytest.mark.slow
def test_neither_processes_nor_shards_change_what_is_read(tmp_path):
    frames = {"train": 20, "broken": (0, 7, 19)}
    alone = build_numbered(tmp_path / "1", How(num_shards=3), **frames)
    together = build_numbered(tmp_path / "2", How(num_processes=2, num_shards=3), **frames)
    assert contents(alone) == contents(together)
    assert len(list(alone.glob("*.array_record*"))) == 3
    single = build_numbered(tmp_path / "3", **frames)
    kept = [i for i in range(20) if i not in frames["broken"]]
    for folder in (alone, single):
        assert [e["index"] for e in splits_of(folder)["train"]] == kept


def test_frames_left_out_are_counted_and_named(tmp_path, capsys):
    folder = build_numbered(tmp_path, train=12, broken=(3, 4))
    said = capsys.readouterr().err
    assert "warning: 2 frames of train left out: is broken (the first: train/3)" in said
    assert (folder / "skipped.tsv").read_text().splitlines() == [
        "split\tindex\tframe\treason",
        "train\t3\ttrain/3\tis broken",
        "train\t4\ttrain/4\tis broken",
    ]
    metadata = tfds.builder_from_directory(folder).info.metadata
    assert metadata["skipped"] == {"train": {"is broken": 2}}
    assert metadata["provenance"] == {"centers": {"train": {"made up": 12}}}


def test_shards_and_splits_without_a_usable_frame_are_left_out(tmp_path):
    folder = build_numbered(tmp_path, How(num_shards=4), train=8, broken=(2, 3))
    assert len(list(folder.glob("*.array_record*"))) == 3
    assert {split: len(source) for split, source in splits_of(folder).items()} == {"train": 6}
    with pytest.raises(UserError, match=r"none of the 2 frames of split 'train'.*train/0: is brok"):
        build_numbered(tmp_path / "none", train=2, broken=(0, 1))
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize("track", DATASETS)
def test_a_folder_without_a_data_set_tells_what_to_download(tmp_path, track):
    source = get_dataset(track)
    with pytest.raises(UserError) as error:
        source(tmp_path, get_track(track)).splits()
    assert str(tmp_path) in str(error.value)
    assert "\n" not in str(error.value)
    assert error.value.instructions == source.DOWNLOAD
    assert "--manual_dir" in source.DOWNLOAD


# --- Endings


@pytest.mark.parametrize(
    ("mishap", "processes", "message"),
    [
        (OSError(errno.ENOSPC, "as the system says"), 1, "disk is full.*nothing was kept"),
        (OSError(errno.EROFS, "as the system says"), 1, "cannot be written.*nothing was kept"),
        (KeyboardInterrupt(), 1, None),
        ("killed", 2, r"worker process was killed.*fewer --num_processes"),
        ("mislabeled", 1, r"frame 'train/6': labels of shape \(36, 3\)"),
    ],
)
def test_a_mishap_leaves_nothing_and_is_reported(tmp_path, capsys, mishap, processes, message):
    with pytest.raises(UserError if message else KeyboardInterrupt, match=message):
        build_numbered(tmp_path, How(num_processes=processes), train=9, mishaps={6: mishap})
    assert message or "nothing was kept" in capsys.readouterr().err
    assert list(tmp_path.glob(f"{PARENT}/*")) == []


def test_the_same_again_is_reused_and_another_is_refused(tmp_path, capsys):
    folder = build_numbered(tmp_path, train=4)
    before = {path: path.stat().st_mtime_ns for path in folder.iterdir()}
    assert build_numbered(tmp_path, train=4) == folder
    assert "built already" in capsys.readouterr().err
    with pytest.raises(UserError, match=r"frames train: 4 there, 5 wanted.*--data_dir") as refused:
        build_numbered(tmp_path, train=5)
    assert str(folder) in str(refused.value)
    other = build_numbered(tmp_path, track=with_crop_size(TRACK, 32), train=4)
    assert other == folder.parents[1] / "crop32" / folder.name
    assert {path: path.stat().st_mtime_ns for path in folder.iterdir()} == before


def test_a_foreign_folder_is_not_touched(tmp_path):
    folder = tmp_path / PARENT / "1.0.0"
    folder.mkdir(parents=True)
    (folder / "thesis.tex").write_text("precious")
    assert read_spec(folder) is None
    with pytest.raises(UserError, match="not built by this program"):
        build_numbered(tmp_path)
    assert [path.name for path in folder.iterdir()] == ["thesis.tex"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"track": "synthetic_hands"}, "did you mean 'synthetic_hand'"),
        ({"track": "nyu"}, "'nyu' is not rendered here"),
        ({"crop_size": 100}, "multiple of 16"),
        ({"train": 0, "validation": 0, "test": 0}, "frames of train"),
        ({"train": -1}, "frames of train"),
        ({"seed": -1}, "seed -1"),
        ({"num_processes": 0}, "num_processes 0"),
        ({"num_shards": 0}, "num_shards 0"),
        ({"data_dir": __file__}, "is a file"),
    ],
)
def test_mistakes_get_one_clear_line(tmp_path, options, message):
    with pytest.raises(UserError, match=message):
        build(**{"track": "synthetic_hand", "data_dir": tmp_path, **options})
    assert list(tmp_path.iterdir()) == []


# --- Builds under way


@pytest.fixture
def started(tmp_path):
    """Starts a slow build as a subprocess; returns it once it has created its temporary folder."""
    running = []
    script = BUILD + (
        "how = How(num_processes=int(sys.argv[2]))\n"
        "try:\n"
        "    build_numbered(sys.argv[1], how, train=400, seconds=0.05)\n"
        "except KeyboardInterrupt:\n"
        "    sys.exit(130)\n"
    )

    def start(processes):
        program = subprocess.Popen(
            [sys.executable, "-c", script, str(tmp_path), str(processes)],
            stderr=subprocess.PIPE,
            text=True,
            cwd=ROOT,
            start_new_session=True,
        )
        running.append(program)
        deadline = time.monotonic() + 60
        while not list(tmp_path.glob(f"{PARENT}/incomplete.*")):
            assert program.poll() is None, program.stderr.read()
            assert time.monotonic() < deadline
            time.sleep(0.02)
        return program

    yield start
    for program in running:
        if program.poll() is None:
            os.killpg(program.pid, signal.SIGKILL)
            program.communicate()


@pytest.mark.parametrize(
    ("number", "processes", "seconds", "status"),
    [
        (signal.SIGTERM, 1, 0.0, 143),
        (signal.SIGTERM, 2, 0.0, 143),
        (signal.SIGINT, 2, 0.0, 130),  # while workers start
        (signal.SIGINT, 2, 0.5, 130),
    ],
)
@pytest.mark.slow
def test_a_signal_is_a_clean_ending(tmp_path, started, number, processes, seconds, status):
    program = started(processes)
    time.sleep(seconds)
    if number == signal.SIGTERM:
        program.terminate()
    else:
        os.killpg(program.pid, number)  # as a terminal does: to the workers too
    _, said = program.communicate(timeout=30)
    assert program.returncode == status
    assert "nothing was kept" in said.splitlines()[-1]
    assert "Traceback" not in said
    assert list(tmp_path.iterdir()) == []


def test_a_second_build_at_once_is_refused_and_a_killed_one_never_looks_complete(
    tmp_path, started, capsys
):
    program = started(1)
    with pytest.raises(UserError, match="crop16: another build is running there; wait"):
        build_numbered(tmp_path)
    temporary = list(tmp_path.glob(f"{PARENT}/*"))
    assert temporary
    assert all(path.name.startswith("incomplete.") for path in temporary)
    # Killed, it leaves that behind, but not the claim.
    os.killpg(program.pid, signal.SIGKILL)
    program.communicate()
    with pytest.raises(UserError, match="no data set"):
        pipeline.num_frames(tmp_path, TRACK, "train")
    folder = build_numbered(tmp_path)
    assert "did not finish" in capsys.readouterr().err
    assert list(folder.parent.iterdir()) == [folder]


def test_only_leftovers_of_this_data_set_are_removed(tmp_path, capsys):
    folder = tmp_path / "name" / "crop16" / "1.0.0"
    for name in ("incomplete.ABC_1.0.0", "incomplete.ABC_2.0.0", "0.9.0", "incomplete"):
        (folder.parent / name).mkdir(parents=True)
        (folder.parent / name / "file").touch()
    with claimed(folder):
        left = sorted(path.name for path in folder.parent.iterdir())
        assert left == ["0.9.0", "incomplete", "incomplete.ABC_2.0.0"]
    (said,) = capsys.readouterr().err.splitlines()
    assert said.startswith("note: removed ")
    assert "incomplete.ABC_1.0.0, left of a build that did not finish" in said


@pytest.mark.parametrize(
    ("name", "target"), [("name/crop16/incomplete.ABC_1.0.0", "precious"), ("name", "nowhere")]
)
def test_links_in_the_place_of_temporary_folders_are_refused(tmp_path, name, target):
    (tmp_path / "precious").mkdir()
    (tmp_path / "precious" / "file").touch()
    link = tmp_path / "data" / name
    link.parent.mkdir(parents=True)
    link.symlink_to(tmp_path / target)
    folder = tmp_path / "data" / "name" / "crop16" / "1.0.0"
    with pytest.raises(UserError, match="symbolic link"), claimed(folder):
        pass
    assert link.is_symlink()
    assert (tmp_path / "precious" / "file").exists()


def test_leftovers_of_another_user_are_refused(tmp_path, monkeypatch):
    leftover = tmp_path / "incomplete.ABC_1.0.0"
    leftover.mkdir()
    monkeypatch.setattr(os, "getuid", lambda: leftover.stat().st_uid + 1)
    with pytest.raises(UserError, match="another user"), claimed(tmp_path / "1.0.0"):
        pass
    assert leftover.is_dir()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=str)
@pytest.mark.slow
def test_a_signal_ends_a_build_that_python_cannot_interrupt(tmp_path, number):
    script = """
import hashlib, signal, sys, threading
from pathlib import Path
from a2j_jax import interrupts
from tfds_builders.build import claimed
folder = Path(sys.argv[1]) / "data" / "name" / "crop16" / "1.0.0"
interrupts.last_lines = {signal.SIGTERM: "ended", signal.SIGINT: "ended"}  # as the command line does
with interrupts.terminable(), claimed(folder):
    (folder.parent / "incomplete.X_1.0.0").mkdir()
    threading.Timer(0.5, print, ["ready"], {"flush": True}).start()  # not before the line below has begun
    hashlib.pbkdf2_hmac("sha256", b"", b"", 10**9)  # as a compilation: no signal reaches Python in it
"""
    program = subprocess.Popen(
        [sys.executable, "-c", script, str(tmp_path)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert program.stdout.readline() == "ready\n"
    started = time.monotonic()
    program.send_signal(number)
    _, said = program.communicate(timeout=60)
    assert program.returncode == 128 + number
    assert time.monotonic() - started < 10  # 2, where nothing else runs
    assert "nothing was kept" in said
    assert said.endswith("\nended\n")
    assert list(tmp_path.iterdir()) == []


def test_folders_go_again_if_they_were_made_here_and_are_empty(tmp_path):
    folder = tmp_path / "data" / "name" / "crop16" / "1.0.0"
    with claimed(folder):
        assert folder.parent.is_dir()
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "data").mkdir()
    with claimed(folder):
        pass
    assert list(tmp_path.rglob("*")) == [tmp_path / "data"]
    with claimed(folder):
        folder.mkdir()
    assert folder.is_dir()


def test_where_there_are_no_locks_the_slower_build_gives_way(tmp_path, monkeypatch):
    def no_locks(*_):
        raise OSError(errno.EOPNOTSUPP, "Operation not supported")

    monkeypatch.setattr(fcntl, "flock", no_locks)
    winner = tmp_path / PARENT / "1.0.0" / "winner"
    with pytest.raises(UserError, match="another build has finished there; nothing was kept"):
        build_numbered(tmp_path, mishaps={6: winner})
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == [winner]
