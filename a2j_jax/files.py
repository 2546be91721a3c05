"""User files: paths as typed, JSON, and outputs that replace only files written by a2j_jax.

Every path option, JSON file and written file goes through this module, so that a bad path, a damaged file or a
foreign file in the way is a clear `UserError` everywhere. Every writer raises one, with the reason (no space
left, say), if its file cannot be written.
"""

import contextlib
import hashlib
import json
import math
import os
import re
import shutil
import stat
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from a2j_jax import __version__
from a2j_jax.errors import UserError, printable

#: Written into every output whose format has room for it; `is_ours` looks for it.
MARK = "made by a2j_jax"
_MARK_WITHIN = 4096  # bytes at the beginning or the end of a file that may hold the mark
_LARGEST = 1 << 30  # bytes of a file that is read in one piece
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:/")
#: Schemes of object stores that run directories and data sets may be in (`stores`) -> fsspec's package, our extra.
STORES = {"gs": ("gcsfs", "gcs"), "s3": ("s3fs", "s3")}


def is_address(name: str | os.PathLike[str]) -> bool:
    """Whether this is the address of something in an object store, `gs://...` or `s3://...`."""
    scheme, colon, _ = os.fspath(name).partition(":/")  # one slash is left of the two in a `Path`
    return scheme in STORES and bool(colon)


def local_path(name: str | os.PathLike[str], option: str = "") -> Path:
    """Converts a path as typed to a path of the local file system; expands `~`.

    Args:
      name: of a file or folder, existing or not.
      option: where it was typed (`--data_dir`), for the message.

    Raises:
      UserError: empty, an address (`gs://...`), characters that no file name can hold, or the home of an unknown user.
    """
    text = os.fspath(name)
    where = f"{option} {printable(text)}" if option else printable(text)
    if not text:
        raise UserError(f"{option or 'path'}: is empty; expected the name of a file or folder")
    if "\0" in text:
        raise UserError(f"{where}: holds a NUL character; expected the name of a file or folder")
    try:
        os.fsencode(text)
    except UnicodeEncodeError as error:
        raise UserError(f"{where}: no file system has such a name ({error.reason})") from error
    if _SCHEME.match(text):
        scheme = text.partition(":")[0]
        raise UserError(
            f"{where}: {scheme}:// addresses are not supported here; name a local folder (mount or copy the bucket)"
        )
    if not text.startswith("~"):
        return Path(text)
    try:
        return Path(text).expanduser()
    except RuntimeError as error:
        raise UserError(f"{where}: home folder not found ({error}); write the full path") from error


def check_folder_name(folder: Path, refused: str = "") -> None:
    """Rejects a folder whose name TensorStore, TFDS or array_record cannot write: they take UTF-8 paths only.

    Args:
      folder: as that library gets it.
      refused: other characters that it misreads.

    Raises:
      UserError: bytes that are not UTF-8, or one of those characters.
    """
    found = {c for c in os.fspath(folder) if c in refused or 0xD800 <= ord(c) <= 0xDFFF}
    if found:
        shown = " ".join(printable(c) for c in sorted(found))
        raise UserError(
            f"{printable(str(folder))}: no files can be stored below a folder with {shown} in its name; "
            "use another folder"
        )


def regular_file(path: str | os.PathLike[str], expected: str) -> Path:
    """Checks that a path is a readable regular file: reading a device or a pipe might block or never end.

    Raises:
      UserError: missing, something else, or not readable by this user; says what was `expected` ("a depth frame").
    """
    path = Path(path)
    shown = printable(str(path))
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        raise UserError(f"{shown}: no such file; expected {expected}") from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UserError(f"{shown}: not readable ({reason}); expected {expected}") from error
    if stat.S_ISDIR(mode):
        raise UserError(f"{shown}: is a folder; expected {expected}")
    if not stat.S_ISREG(mode):
        raise UserError(
            f"{shown}: is a device, pipe or socket; expected {expected} in a regular file"
        )
    if not os.access(path, os.R_OK):
        raise UserError(f"{shown}: no permission to read; expected {expected}")
    return path


def read_contents(path: str | os.PathLike[str], expected: str) -> bytes:
    """Reads a regular file of at most 1 GiB.

    Raises:
      UserError: as `regular_file`, or larger.
    """
    path = regular_file(path, expected)
    shown = printable(str(path))
    try:
        if path.stat().st_size > _LARGEST:
            raise UserError(f"{shown}: larger than 1 GiB; expected {expected}")
        return path.read_bytes()
    except OSError as error:
        raise UserError(f"{shown}: not readable ({error.strerror}); expected {expected}") from error


def read_json(
    path: str | os.PathLike[str], expected: str = "a JSON file", *, nonfinite: bool = False
) -> Any:
    """Reads a JSON file; arguments and errors as of `read_contents` and `parse_json`."""
    return parse_json(read_contents(path, expected), printable(str(path)), nonfinite=nonfinite)


def parse_json(contents: bytes | str, where: str, *, nonfinite: bool = False) -> Any:
    """Parses strict JSON in UTF-8, with or without a byte order mark.

    Args:
      contents: the text.
      where: the file it is from, for messages.
      nonfinite: accept `NaN`, `Infinity` and `-Infinity`.

    Raises:
      UserError: not UTF-8, not JSON, `NaN` or an infinity (`1e999` always is one), integers beyond 64 bits, a repeated
        key in an object, half a surrogate pair, or nesting too deep to read.
    """
    try:
        text = contents.decode("utf-8-sig") if isinstance(contents, bytes) else contents
        value = json.loads(
            text.removeprefix("\ufeff"),
            parse_int=_integer,
            parse_float=_number,
            parse_constant=float if nonfinite else _constant,
            object_pairs_hook=_object,
        )
        if "\\ud" in text.lower():  # half a character is not text; bytes of a file name may be
            json.dumps(value, ensure_ascii=False).encode("utf-8", "surrogateescape")
        return value
    except RecursionError:
        raise UserError(f"{where}: not readable as JSON (nested too deeply)") from None
    except ValueError as error:  # JSONDecodeError and UnicodeDecodeError among them
        raise UserError(f"{where}: not readable as JSON ({printable(str(error), 200)})") from error


def _integer(text: str) -> int:
    if len(text) <= 20 and -(2**63) <= (value := int(text)) < 2**64:
        return value
    raise ValueError(f"integer {printable(text, 24)} does not fit 64 bits")


def _number(text: str) -> float:
    value = float(text)
    if math.isinf(value):
        raise ValueError(f"number {text[:24]} is too large")
    return value


def _constant(text: str) -> float:
    raise ValueError(f"{text} is not a number in JSON; expected null for an unknown value")


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise ValueError(f"key {twice!r} is there twice")
    return found


def path_inside(folder: Path, relative: str, allow_outside: bool = False) -> Path:
    """Resolves a path that a user's file names, and checks that it stays inside `folder`, links and `..` followed.

    Args:
      folder: the path is relative to.
      relative: as written in a table or a `track.json`.
      allow_outside: accept absolute paths and paths that lead elsewhere.

    Raises:
      UserError: it leads out of the folder.
    """
    path = folder / local_path(relative)
    # `Path.resolve` would raise on circular links, which opening the path reports.
    if allow_outside or Path(os.path.realpath(path)).is_relative_to(os.path.realpath(folder)):
        return path
    raise UserError(
        f"{printable(relative)}: leads out of {printable(str(folder))}; expected a path below it, or --allow_outside"
    )


def is_ours(path: Path) -> bool:
    """Whether a file carries our mark (`MARK`) near its beginning or its end."""
    try:
        with path.open("rb") as file:
            start = file.read(_MARK_WITHIN)
            file.seek(max(file.seek(0, os.SEEK_END) - _MARK_WITHIN, 0))
            return MARK.encode() in start + file.read()
    except OSError:
        return False


def check_output(
    path: str | os.PathLike[str],
    overwrite: bool = False,
    option: str = "--out",
    *,
    inputs: Iterable[str | os.PathLike[str]] = (),
    beside: Path | None = None,
) -> Path:
    """Checks that a file may be written, before any work is done for it; returns its path.

    A file that carries our mark is replaced; any other is kept unless `overwrite`. An input is never replaced.

    Args:
      path: of the file.
      overwrite: replace the file, whoever wrote it.
      option: names the file on the command line, for the message.
      inputs: files that the command reads.
      beside: a marked file written together with this one, whose format has no room for a mark (CSV, plain numbers);
        if `beside` is ours, so is this file.

    Raises:
      UserError: it exists and is not ours, is an input or no regular file, or its folder cannot be written.
    """
    path = local_path(path, option)
    shown = f"{option} {printable(str(path))}"
    with _writing(shown):
        if any(same_file(path, name) for name in inputs):
            raise UserError(f"{shown}: is one of the files to be read; name another file")
        if path.is_dir():
            raise UserError(f"{shown}: is a folder; name a file in it")
        if path.exists() and not path.is_file():
            raise UserError(f"{shown}: is a device or pipe; name a regular file")
        ours = overwrite or is_ours(path) or (beside is not None and is_ours(beside))
        if path.exists() and not ours:
            raise UserError(
                f"{shown}: exists and was not written by a2j_jax; name another file, or add --overwrite"
            )
        folder = next((parent for parent in path.parents if os.path.lexists(parent)), Path())
        if not folder.is_dir():
            raise UserError(f"{shown}: {printable(str(folder))} is not a folder")
        tempfile.TemporaryFile(dir=folder).close()
    return path


def same_file(one: Path, other: str | os.PathLike[str]) -> bool:
    """Whether both paths exist and lead to the same file."""
    try:
        return os.path.samefile(one, other)
    except OSError:
        return False


@contextlib.contextmanager
def _writing(shown: str) -> Iterator[None]:
    """Reports an `OSError` as a file that cannot be written."""
    try:
        yield
    except OSError as error:
        raise UserError(f"{shown}: cannot be written ({error.strerror or error})") from error


@contextlib.contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yields a temporary path beside `path`, which replaces it when the block ends without an error.

    The file is replaced completely or not at all. A symbolic link is replaced, not followed. The folder is created.
    """
    path = Path(path)
    with _writing(printable(str(path))):
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, name = tempfile.mkstemp(path.suffix, f".{path.stem[:40]}-", path.parent)
        os.close(descriptor)
        try:
            yield Path(name)
            umask = os.umask(0)
            os.umask(umask)
            os.chmod(name, 0o666 & ~umask)
            os.replace(name, path)
        finally:
            with contextlib.suppress(OSError):
                os.unlink(name)


@contextlib.contextmanager
def replacing_together(folder: str | os.PathLike[str], last: str) -> Iterator[Path]:
    """Yields a temporary folder whose files replace those of `folder` when the block ends without an error.

    All files are written by then, so the change takes only a few renames. Other files of `folder` are kept. The folder
    is created.

    Args:
      folder: of the files.
      last: name of the file that refers to the others; it is replaced last.
    """
    folder = Path(folder)
    with _writing(printable(str(folder))):
        folder.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp("", ".unfinished-", folder))
        try:
            yield temporary
            for new in sorted(temporary.iterdir(), key=lambda file: (file.name == last, file.name)):
                new.replace(folder / new.name)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)


def write_file(path: str | os.PathLike[str], contents: str | bytes) -> Path:
    """Writes a file by `replacing`, text as UTF-8; returns its path."""
    data = contents.encode("utf-8", "backslashreplace") if isinstance(contents, str) else contents
    with replacing(path) as temporary:
        temporary.write_bytes(data)
    return Path(path)


def write_json(path: str | os.PathLike[str], contents: Mapping[str, Any]) -> Path:
    """Writes a JSON file with our mark; returns its path."""
    contents = {**contents, "written_by": f"a2j_jax {__version__} ({MARK})"}
    return write_file(path, json.dumps(contents, indent=2, allow_nan=False) + "\n")


def write_markdown(path: str | os.PathLike[str], text: str) -> Path:
    """Writes a Markdown file with our mark; returns its path."""
    return write_file(path, f"{text}\n<!-- {MARK} -->\n")


@contextlib.contextmanager
def private_umask() -> Iterator[None]:
    """Within, new files and folders are accessible to this user only, as the caches must be that later runs trust."""
    before = os.umask(0o077)
    try:
        yield
    finally:
        os.umask(before)


def is_private(folder: Path) -> bool:
    """Whether a folder belongs to this user, is not writable by others, and its parent belongs to this user or root.

    Raises:
      OSError: it is missing or inaccessible.
    """
    if not hasattr(os, "getuid"):
        return True
    found, parent = folder.stat(), folder.resolve().parent.stat()
    return (
        found.st_uid == os.getuid()
        and not found.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
        and parent.st_uid in (os.getuid(), 0)
    )


def json_digest(contents: Mapping[str, Any]) -> str:
    """SHA-256 of what JSON has for this, hexadecimal; the order of keys does not matter."""
    return hashlib.sha256(json.dumps(contents, sort_keys=True).encode()).hexdigest()


def file_digest(path: str | os.PathLike[str]) -> str:
    """SHA-256 of a file's contents, hexadecimal."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
