"""`.gz` -> a plain file, once: HDF5 needs random access, a gzip stream has none."""

import gzip
import hashlib
import os
import tempfile
import zlib
from pathlib import Path
from typing import BinaryIO

from a2j_jax.errors import UserError
from a2j_jax.files import is_private
from a2j_jax.progress import progress, say

_BLOCK = 1 << 22  # bytes
_LARGEST = 32 << 30  # unpacked: five times the largest of ITOP's files


def unpacked(packed: Path) -> Path:
    """The unpacked copy of a gzip file, made at the first call and reused while it is the newer one.

    `X.h5.gz` becomes `X.unpacked.h5` beside it; where that folder is read-only, a file of the user's
    own folder below the temporary one. The copy gets its name when it is complete, not before.

    Raises:
      UserError: truncated or no gzip file, absurdly large, or no room for the copy.
    """
    beside = packed.with_name(packed.name[: -len(".h5.gz")] + ".unpacked.h5")
    copies = [beside]
    if not os.access(beside.parent, os.W_OK):
        copies.append(_temporary_folder() / f"{_fingerprint(packed)}.{beside.name}")
    for copy in copies:
        if copy.is_file() and copy.stat().st_mtime_ns >= packed.stat().st_mtime_ns:
            return copy
    copy = copies[-1]
    for leftover in sorted(copy.parent.glob(f".{copy.name}.*.part")):
        say(f"note: {leftover} may be left of a run that did not finish; it can be deleted then")
    say(f"{packed.name}: unpacking to {copy}, once (it can be deleted after the build)")
    _unpack(packed, copy)
    return copy


def _unpack(packed: Path, copy: Path) -> None:
    part: Path | None = None
    try:
        descriptor, name = tempfile.mkstemp(".part", f".{copy.name}.", copy.parent)
        part = Path(name)
        with os.fdopen(descriptor, "wb") as out:
            _write(packed, out)
        part.chmod(packed.stat().st_mode & 0o666)
        # Never older than its source, even where clocks disagree.
        changed = max(part.stat().st_mtime_ns, packed.stat().st_mtime_ns)
        os.utime(part, ns=(changed, changed))
        part.replace(copy)
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise UserError(
            f"{packed}: truncated, or not a gzip file ({error}); download it again"
        ) from error
    except OSError as error:
        raise UserError(
            f"{packed}: cannot be unpacked to {copy} ({error.strerror or error}); ITOP's files need "
            "several GB each: make room, or unpack it elsewhere with gunzip and name that folder"
        ) from error
    finally:
        if part is not None:
            part.unlink(missing_ok=True)


def _write(packed: Path, out: BinaryIO) -> None:
    megabytes = max(packed.stat().st_size >> 20, 1)
    with (
        packed.open("rb") as raw,
        gzip.GzipFile(fileobj=raw) as stream,
        progress(f"unpacking {packed.name}", megabytes, "MiB") as advance,
    ):
        shown = 0
        while block := stream.read(_BLOCK):
            out.write(block)
            if out.tell() > _LARGEST:
                raise UserError(f"{packed}: larger than 32 GiB unpacked; is it ITOP's file?")
            read = min(raw.tell() >> 20, megabytes)
            if read > shown:
                advance(read - shown)
                shown = read


def _temporary_folder() -> Path:
    """A folder of this user alone: others may write into the temporary folder itself.

    Raises:
      UserError: something of that name is there that somebody else controls.
    """
    try:
        folder = (
            Path(tempfile.gettempdir()) / f"a2j_jax-{os.getuid() if hasattr(os, 'getuid') else 0}"
        )
        folder.mkdir(mode=0o700, exist_ok=True)
        private = is_private(folder) and not folder.is_symlink()
    except OSError as error:
        where = error.filename or "temporary folder"
        raise UserError(f"{where}: cannot be used for unpacking ({error.strerror})") from error
    if not private:
        raise UserError(
            f"{folder}: is a link, or somebody else's, or others may write there; remove it, or set TMPDIR to a "
            "folder of yours"
        )
    return folder


def _fingerprint(packed: Path) -> str:
    """Tells files of one name in several folders apart."""
    return hashlib.sha256(os.fsencode(packed.resolve())).hexdigest()[:16]
