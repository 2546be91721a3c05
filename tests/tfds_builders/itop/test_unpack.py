"""Unpacking: once, whole or not at all, wherever there is room."""

import errno
import gzip
import os
import tempfile

import pytest

from a2j_jax.errors import UserError
from tests.distributions import itop as raw
from tfds_builders import itop
from tfds_builders.itop import ItopDistribution, unpacked

CONTENT = os.urandom(1 << 20) * 3


@pytest.fixture
def packed(tmp_path, monkeypatch):
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    path = tmp_path / "data" / "ITOP_side_test_labels.h5.gz"
    path.parent.mkdir()
    path.write_bytes(gzip.compress(CONTENT, 1))
    return path


def everything_below(folder):
    return sorted(path.name for path in folder.rglob("*") if path.is_file())


def test_a_copy_is_made_once(packed, capfd):
    copy = unpacked(packed)
    assert copy == packed.with_name("ITOP_side_test_labels.unpacked.h5")
    assert copy.read_bytes() == CONTENT
    assert "unpacking to" in capfd.readouterr().err
    before = copy.stat().st_mtime_ns
    assert unpacked(packed) == copy
    assert copy.stat().st_mtime_ns == before
    assert not capfd.readouterr().err
    assert everything_below(packed.parent) == [packed.name, copy.name]


def test_a_newer_download_is_unpacked_again(packed):
    copy = unpacked(packed)
    packed.write_bytes(gzip.compress(b"another", 1))
    later = copy.stat().st_mtime_ns + 10**9  # as if downloaded a second later
    os.utime(packed, ns=(later, later))
    assert unpacked(packed).read_bytes() == b"another"
    # Its clock being ahead of ours, it is not unpacked for ever.
    assert copy.stat().st_mtime_ns >= later


def test_a_read_only_folder_sends_the_copy_elsewhere(packed, tmp_path, monkeypatch):
    monkeypatch.setattr(itop.os, "access", lambda path, mode: False)
    copy = unpacked(packed)
    assert copy.is_relative_to(tmp_path / "temporary")
    assert copy.read_bytes() == CONTENT
    assert copy.parent.stat().st_mode & 0o077 == 0
    before = copy.stat().st_mtime_ns
    assert unpacked(packed).stat().st_mtime_ns == before
    twin = tmp_path / "twin" / packed.name
    twin.parent.mkdir()
    twin.write_bytes(gzip.compress(b"another", 1))
    assert unpacked(twin) != copy


def test_a_temporary_folder_of_somebody_else_is_not_used(packed, tmp_path, monkeypatch):
    monkeypatch.setattr(itop.os, "access", lambda path, mode: False)
    folder = unpacked(packed).parent
    folder.chmod(0o770)
    with pytest.raises(UserError, match="others may write there"):
        unpacked(packed)
    folder.chmod(0o700)
    folder.rename(tmp_path / "theirs")
    folder.symlink_to(tmp_path / "theirs")
    with pytest.raises(UserError, match="is a link"):
        unpacked(packed)
    monkeypatch.setattr(tempfile, "tempdir", None)
    monkeypatch.setattr(tempfile, "_candidate_tempdir_list", lambda: [str(tmp_path / "missing")])
    with pytest.raises(UserError, match="temporary folder: cannot be used"):
        unpacked(packed)


@pytest.mark.parametrize(
    "content",
    # A time in the header would go into the test's name, and differ between the processes that run tests.
    [gzip.compress(CONTENT, 1)[:-1000], b"<html>", gzip.compress(b"x" * 99, mtime=0)[:20]],
)
def test_broken_downloads_leave_nothing(packed, content):
    packed.write_bytes(content)
    with pytest.raises(UserError, match=rf"{packed.name}: truncated, or not a gzip file"):
        unpacked(packed)
    assert everything_below(packed.parent) == [packed.name]


@pytest.mark.parametrize(
    ("mishap", "raised"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), UserError),
        (KeyboardInterrupt(), KeyboardInterrupt),
    ],
)
def test_an_interruption_leaves_nothing(packed, monkeypatch, mishap, raised):
    write = itop._write

    def stopped(source, part):
        write(source, part)
        raise mishap

    monkeypatch.setattr(itop, "_write", stopped)
    with pytest.raises(raised, match="No space left" if raised is UserError else None):
        unpacked(packed)
    assert everything_below(packed.parent) == [packed.name]


def test_a_packed_distribution_is_read_like_a_plain_one(tmp_path):
    plain = raw.write(tmp_path / "plain", {"test": 2}, seed=3)
    raw.write(tmp_path / "packed", {"test": 2}, seed=3, packed=True)
    one, other = (ItopDistribution(tmp_path / name) for name in ("plain", "packed"))
    split, same = one.splits()["test"], other.splits()["test"]
    assert (split.joints_uvd == plain["test"]).all()
    assert (split.joints_uvd == same.joints_uvd).all()
    assert split.notes == same.notes
    for source, again in zip(split.sources, same.sources, strict=True):
        assert (one.read_depth(source) == other.read_depth(again)).all()
