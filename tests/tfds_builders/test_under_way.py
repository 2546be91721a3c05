"""Builds while they are under way: two at once, ended from outside, and what dead ones have left."""

import fcntl
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from a2j_jax.errors import UserError
from tests.tfds_builders.test_build import build_numbered
from tfds_builders.build_lock import claimed

BUILD = """
import sys
from test_build import TRACK
from numbered_frames import NumberedFrames, SyntheticHand
from tfds_builders.build import How, prepare
reader = NumberedFrames(TRACK, train=400, seconds=0.05)
try:
    prepare(SyntheticHand, TRACK, reader, sys.argv[1], How(num_processes=int(sys.argv[2])))
except KeyboardInterrupt:
    sys.exit(130)
"""


@pytest.fixture
def started(tmp_path, importable):
    """Starts a slow build as a program of its own; returns it once it writes to its folder."""
    running = []

    def start(processes):
        program = subprocess.Popen(
            [sys.executable, "-c", BUILD, str(tmp_path), str(processes)],
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        running.append(program)
        deadline = time.monotonic() + 60
        while not list(tmp_path.glob("synthetic_hand/crop16/incomplete.*")):
            assert program.poll() is None, program.stderr.read()
            assert time.monotonic() < deadline
            time.sleep(0.02)
        return program

    yield start
    for program in running:
        if program.poll() is None:
            os.killpg(program.pid, signal.SIGKILL)
            program.communicate()


@pytest.mark.parametrize("processes", [1, 2])
def test_sigterm_is_a_clean_ending(tmp_path, started, processes):
    program = started(processes)
    program.terminate()
    _, said = program.communicate(timeout=30)
    assert program.returncode == 143
    assert said.splitlines()[-1].endswith(
        "was interrupted; nothing was kept; rerun the same command"
    )
    assert "Traceback" not in said
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("seconds", [0.0, 0.5])
def test_ctrl_c_while_workers_start_is_no_traceback(tmp_path, started, seconds):
    program = started(2)
    time.sleep(seconds)
    os.killpg(program.pid, signal.SIGINT)  # as a terminal does: to the workers too
    _, said = program.communicate(timeout=30)
    assert program.returncode == 130
    assert "nothing was kept" in said
    assert "Traceback" not in said
    assert list(tmp_path.iterdir()) == []


def test_a_second_build_at_once_is_refused_and_harms_nothing(tmp_path, started):
    program = started(1)
    with pytest.raises(UserError, match=r"crop16: another build is under way there; wait"):
        build_numbered(tmp_path)
    temporary = [path.name for path in tmp_path.glob("synthetic_hand/crop16/*")]
    assert temporary
    assert all(name.startswith("incomplete.") for name in temporary)
    # Killed, it leaves that behind, but not the claim.
    os.killpg(program.pid, signal.SIGKILL)
    program.communicate()
    folder = build_numbered(tmp_path)
    assert list(folder.parent.iterdir()) == [folder]


def test_only_leftovers_of_this_data_set_are_removed(tmp_path, capsys):
    folder = tmp_path / "name" / "crop16" / "1.0.0"
    for name in ("incomplete.ABC_1.0.0", "incomplete.ABC_2.0.0", "0.9.0", "incomplete"):
        (folder.parent / name).mkdir(parents=True)
        (folder.parent / name / "file").touch()
    with claimed(folder):
        left = sorted(path.name for path in folder.parent.iterdir())
        assert left == ["0.9.0", "incomplete", "incomplete.ABC_2.0.0"]
    said = capsys.readouterr().err
    assert said.startswith("note: removed ")
    assert "incomplete.ABC_1.0.0, left of a build that did not finish" in said
    assert len(said.splitlines()) == 1


@pytest.mark.parametrize("name", ["name/crop16/incomplete.ABC_1.0.0", "name"])
def test_links_in_the_place_of_temporary_folders_are_refused(tmp_path, name):
    precious = tmp_path / "precious"
    if name != "name":
        precious.mkdir()
        (precious / "file").touch()
    link = tmp_path / "data" / name
    link.parent.mkdir(parents=True)
    link.symlink_to(precious)
    with (
        pytest.raises(UserError, match="symbolic link"),
        claimed(tmp_path / "data" / "name" / "crop16" / "1.0.0"),
    ):
        pass
    assert link.is_symlink()
    assert name == "name" or (precious / "file").exists()


def test_sigterm_ends_a_build_that_python_cannot_interrupt(tmp_path):
    script = """
import hashlib, sys, threading
from pathlib import Path
from a2j_jax.interrupts import terminable
from tfds_builders.build_lock import claimed
folder = Path(sys.argv[1]) / "data" / "name" / "crop16" / "1.0.0"
with terminable(), claimed(folder):
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
    program.terminate()
    _, said = program.communicate(timeout=60)
    assert program.returncode == 143
    assert time.monotonic() - started < 10  # 2, where nothing else runs
    assert "nothing was kept" in said
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("number", "status"), [("SIGTERM", 143), ("SIGINT", 1)])
def test_a_signal_that_meets_a_callback_ends_a_build_all_the_same(number, status):
    script = """
import gc, signal, sys, time
from a2j_jax.interrupts import terminable

def callback(phase, info):
    gc.callbacks.remove(callback)
    signal.raise_signal(getattr(signal, sys.argv[1]))  # no exception leaves a callback of the garbage collector

with terminable():
    gc.callbacks.append(callback)
    gc.collect()
    try:
        time.sleep(60)
    except KeyboardInterrupt as interrupt:
        raise SystemExit(1 if type(interrupt) is KeyboardInterrupt else 143)
"""
    program = subprocess.run(
        [sys.executable, "-c", script, number], capture_output=True, text=True, timeout=50
    )
    assert (program.returncode, program.stderr) == (status, "")


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
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(fcntl, "flock", no_locks)
    from tfds_builders import base

    write_shards = base.write_shards

    def meanwhile(*arguments):
        folder = tmp_path / "synthetic_hand" / "crop16" / "1.0.0"
        folder.mkdir()
        (folder / "winner").touch()
        return write_shards(*arguments)

    monkeypatch.setattr(base, "write_shards", meanwhile)
    with pytest.raises(UserError, match="another build has finished there; nothing was kept"):
        build_numbered(tmp_path)
    left = [path.name for path in Path(tmp_path).rglob("*") if path.is_file()]
    assert left == ["winner"]
