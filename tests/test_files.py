"""Paths as typed, JSON as found, outputs that replace nothing foreign."""

import json
import os
import stat
from pathlib import Path
from typing import Any

import pytest

from a2j_jax import files
from a2j_jax.errors import UserError


@pytest.mark.parametrize(
    ("typed", "expected"),
    [("~/runs", "HOME/runs"), ("~", "HOME"), ("a/~b", "a/~b"), ("./x", "x"), ("C:/x", "C:/x")],
)
def test_a_path_as_typed(
    typed: str, expected: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert files.local_path(typed) == Path(expected.replace("HOME", str(tmp_path)))


@pytest.mark.parametrize(
    ("typed", "words"),
    [
        ("", "--out: is empty"),
        ("a\0b", "NUL"),
        ("gs://bucket/data", "gs://.*not supported"),
        ("s3:/bucket", "not supported"),
        ("hdfs+x://b", "not supported"),
        ("~nobody_of_that_name/x", "home folder"),
        ("gs://a\x1b[31m", r"\\x1b"),
    ],
)
def test_what_is_no_path_of_this_machine(typed: str, words: str) -> None:
    with pytest.raises(UserError, match=words) as caught:
        files.local_path(typed, "--out")
    assert str(caught.value).startswith("--out")
    assert str(caught.value).isprintable()


def test_only_readable_regular_files_are_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "loop").symlink_to("loop")
    for name, words in (
        ("absent", "no such file; expected a frame"),
        (".", "is a folder"),
        ("pipe", "device, pipe or socket"),
        ("loop", "not readable"),
        ("x" * 300, "not readable"),
    ):
        with pytest.raises(UserError, match=words):
            files.regular_file(tmp_path / name, "a frame")
    with pytest.raises(UserError, match="device"):
        files.regular_file("/dev/zero", "a frame")
    (tmp_path / "file").write_bytes(b"")
    assert files.regular_file(str(tmp_path / "file"), "a frame") == tmp_path / "file"


@pytest.mark.parametrize(
    ("text", "value"),
    [
        (b'\xef\xbb\xbf{"a": [1, 2.5, null, true]}', {"a": [1, 2.5, None, True]}),
        (b"18446744073709551615", 2**64 - 1),
        (b"-9223372036854775808", -(2**63)),
        ('"\u00e9"'.encode(), "\u00e9"),
        ("[1]", [1]),
        (b"[1e-400]", [0.0]),
        (b'"\\udce9.png \\ud83d\\ude00"', "\udce9.png \U0001f600"),  # a path that is not UTF-8
    ],
)
def test_json_that_is_read(text: bytes, value: Any) -> None:
    assert files.parse_json(text, "here") == value


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (b"", "not readable as JSON"),
        (b"{", "not readable as JSON"),
        (b'{"a": NaN}', "NaN"),
        (b"-Infinity", "-Infinity"),
        (b"1e999", "too large"),
        (b"18446744073709551616", "64 bits"),
        (b"-" + b"9" * 5000, "64 bits"),
        (b'{"a": 1, "a": 2}', "'a' is there twice"),
        (b'{"frame": ["\\ud800.png"]}', "surrogates not allowed"),
        (b"[" * 100_000, "nested too deeply"),
        (b'{"a":' * 100_000, "nested too deeply"),
        (b"\xff\xfe{\x00}\x00", "not readable as JSON"),
        (b'{"a\x1b[31m": 1, "a\x1b[31m": 2}', "not readable as JSON"),
    ],
)
def test_json_that_is_refused(text: bytes, words: str, tmp_path: Path) -> None:
    (tmp_path / "x.json").write_bytes(text)
    with pytest.raises(UserError, match=words) as caught:
        files.read_json(tmp_path / "x.json")
    message = str(caught.value)
    assert message.startswith(str(tmp_path / "x.json"))
    assert len(message) < 500
    assert message.isprintable()


def test_paths_of_a_table_stay_in_its_folder(tmp_path: Path) -> None:
    folder = tmp_path / "frames"
    (folder / "sub").mkdir(parents=True)
    (folder / "link").symlink_to(tmp_path)
    assert files.path_inside(folder, "sub/../a.png") == folder / "sub/../a.png"
    for outside in ("../a.png", "/etc/passwd", "link/a.png", "sub/../../a.png", "~/a.png"):
        with pytest.raises(UserError, match="leads out"):
            files.path_inside(folder, outside)
        files.path_inside(folder, outside, allow_outside=True)


def test_a_file_of_somebody_else_is_kept(tmp_path: Path) -> None:
    for name, content in (("head", b"%s\n"), ("tail", b"x" * 9000 + b"%s")):
        (tmp_path / name).write_bytes(content % files.MARK.encode())
        assert files.check_output(tmp_path / name) == tmp_path / name
    foreign = tmp_path / "foreign"
    foreign.write_bytes(b"precious")
    link = tmp_path / "link"
    link.symlink_to(foreign)
    for path in (foreign, link):
        with pytest.raises(UserError, match=r"--write .*not written by a2j_jax.*--overwrite"):
            files.check_output(path, option="--write")
        files.check_output(path, overwrite=True)
    os.mkfifo(tmp_path / "pipe")
    for path, words in (
        (tmp_path, "is a folder"),
        (tmp_path / "pipe", "device or pipe"),
        (foreign / "below", "is not a folder"),
    ):
        with pytest.raises(UserError, match=words):
            files.check_output(path, overwrite=True)
    assert files.check_output(tmp_path / "new" / "file") == tmp_path / "new" / "file"
    assert not (tmp_path / "new").exists()


def test_a_file_is_replaced_whole_or_not_at_all(tmp_path: Path) -> None:
    path = files.write_file(tmp_path / "new" / "x.json", json.dumps([1]))
    assert path.read_bytes() == b"[1]"
    umask = os.umask(0o027)
    try:
        files.write_file(path, "\udcff")
    finally:
        os.umask(umask)
    assert path.read_bytes() == rb"\udcff"
    assert stat.S_IMODE(path.stat().st_mode) == 0o640

    target = tmp_path / "target"
    target.write_bytes(b"kept")
    (tmp_path / "link").symlink_to(target)
    files.write_file(tmp_path / "link", "mine")
    assert target.read_bytes() == b"kept"

    def interrupted() -> None:
        with files.replacing(path) as temporary:
            temporary.write_bytes(b"half")
            raise ValueError("half way")

    with pytest.raises(ValueError, match="half way"):
        interrupted()
    with pytest.raises(UserError, match="cannot be written"):
        files.write_file(target / "below", "x")
    assert path.read_bytes() == rb"\udcff"
    assert sorted(p.name for p in tmp_path.rglob("*")) == ["link", "new", "target", "x.json"]


def test_files_are_replaced_together_or_not_at_all(tmp_path):
    def replace(other):
        with files.replacing_together(tmp_path, last="a") as new:
            for name in ("a", other):
                (new / name).write_text("new")
            assert (tmp_path / "a").read_text() == "old"

    (tmp_path / "a").write_text("old")
    (tmp_path / "b").mkdir()
    for wrong in (
        "no/such",
        "b",
    ):  # while files are written; and before the last of them is replaced
        with pytest.raises(UserError, match="cannot be written"):
            replace(wrong)
        assert (tmp_path / "a").read_text() == "old"
    replace("c")
    assert (tmp_path / "a").read_text() == (tmp_path / "c").read_text() == "new"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b", "c"]


def test_the_digest_of_a_file(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"abc")
    assert files.file_digest(tmp_path / "x").startswith("ba7816bf8f01cfea414140de5dae2223")


def test_what_is_private(tmp_path: Path) -> None:
    umask = os.umask(0)
    try:
        with files.private_umask():
            (tmp_path / "x" / "y").mkdir(parents=True)
        assert os.umask(0) == 0
    finally:
        os.umask(umask)
    assert [stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("x", "x/y")] == [0o700] * 2
    for mode, private in {0o700: True, 0o755: True, 0o720: False, 0o702: False}.items():
        (tmp_path / "x" / "y").chmod(mode)
        assert files.is_private(tmp_path / "x" / "y") == private
    if os.getuid() == 0:  # who may give things away
        (tmp_path / "x" / "y").chmod(0o700)
        for name in ("x", "x/y"):
            os.chown(tmp_path / name, 12345, 12345)
            assert not files.is_private(tmp_path / "x" / "y")
            os.chown(tmp_path / name, 0, 0)


@pytest.mark.parametrize(
    ("name", "refused", "shown"),
    [
        ("a\udcff", "", r"\\udcff"),
        ("[1]", "*?[", r"\["),
        ("a\\b", "\\", r"\\"),
        ("é [1] $x <&>", "", None),
    ],
)
def test_folders_that_a_library_cannot_write(name: str, refused: str, shown: str | None) -> None:
    if shown is None:
        files.check_folder_name(Path(name), refused)
        return
    with pytest.raises(UserError, match=f"with {shown} in its name; use another") as caught:
        files.check_folder_name(Path(name), refused)
    assert str(caught.value).isprintable()
