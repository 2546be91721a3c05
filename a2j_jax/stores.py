"""Object stores: run directories and data sets at `gs://` and `s3://` addresses.

A program works on a local mirror of an address, below `A2J_STORE_CACHE` (default: `~/.cache/a2j_jax/stores`): `fetch`
makes it equal to the store, `push` the store equal to it, and `in_step` does both around a training run. Everything
else sees local files. Renames, locks and appends, which a store does not have, are replaced:

- a file that was appended to is stored again, as a whole;
- a checkpoint or data set is complete once its marker is there (`MARKERS`), which is stored last and deleted first;
- who trains into a run directory keeps rewriting an object in it, its lease (`Lease`).

An index beside the mirrors has, for every file, what it and its object were like when they were last equal. As long as
no object has changed since, a mirror is ahead of the store, and stays as it is; otherwise the store decides.
"""

import contextlib
import functools
import hashlib
import importlib.util
import json
import logging
import os
import queue
import secrets
import shutil
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple, TypeVar

from a2j_jax import distributed
from a2j_jax.errors import UserError, in_one_line, printable
from a2j_jax.files import STORES, is_address, local_path, read_json, replacing, write_file
from a2j_jax.log import logger, progress

#: Environment variable that names another folder for the mirrors.
CACHE = "A2J_STORE_CACHE"
#: The file that says that a folder is complete: of a checkpoint, of a TFDS data set.
MARKERS = ("manifest.json", "dataset_info.json")
LEASE = ".lease"
_REACH_SECONDS = 25.0  # a request takes no longer
_STUCK_SECONDS = 120.0  # nor one file of a transfer
_PUSH_SECONDS = 20.0  # between two pushes of a run without a new checkpoint
_LOOK_SECONDS = 1.0  # between two looks for one
_LEASE_SECONDS = 8.0  # between two renewals
_LOST_SECONDS = 30.0  # without a renewal, the owner has ended
_TRANSFERS = 8  # at once
_MUCH = 64_000_000  # bytes that are worth a progress bar
Result = TypeVar("Result")


class Version(NamedTuple):
    """An object, or a file, at one time."""

    size: int  # bytes
    tag: str  # of an object its generation or digest; of a file its time of change


class Equal(NamedTuple):
    """An object and a file that were equal at one time."""

    stored: Version
    local: Version


# --- Paths and addresses


def address_of(path: str | os.PathLike[str]) -> str | None:
    """The address of a path in a mirror; None: of a path elsewhere."""
    with contextlib.suppress(ValueError):
        _, scheme, *names = Path(path).absolute().relative_to(_cache().absolute()).parts
        if scheme in STORES and names:
            return f"{scheme}://{'/'.join(names)}"
    return None


def shown(path: str | os.PathLike[str]) -> str:
    """The address of a path in a mirror; another path as it is."""
    return address_of(path) or str(path)


def with_addresses(text: str) -> str:
    """A message in which paths in the mirror of this process are addresses."""
    for scheme in STORES:
        text = text.replace(f"{_mirror(f'{scheme}://', distributed.index())}/", f"{scheme}://")
    return text


def _as_addresses(record: logging.LogRecord) -> bool:
    record.msg, record.args = with_addresses(record.getMessage()), None
    return True


logger.addFilter(_as_addresses)


def _cache() -> Path:
    caches = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(os.environ.get(CACHE) or f"{caches}/a2j_jax/stores").expanduser()


def _mirror(address: str, process: int = 0) -> Path:
    scheme, _, names = address.partition("://")
    return _cache() / f"process-{process}" / scheme / names


def _key(address: str, name: str = "") -> str:
    """Bucket and name of an object, as fsspec takes them."""
    return f"{address.partition('://')[2]}/{name}".rstrip("/")


def _clean(name: str | os.PathLike[str], option: str) -> str:
    """An address in its one spelling."""
    text = os.fspath(name)
    scheme, _, rest = text.partition(":/")
    names = [part for part in rest.split("/") if part]
    unusual = {".", ".."} & set(names) or printable(rest, len(rest)) != rest
    if not names or unusual or "orbax-checkpoint-tmp" in rest:
        where = f"{option} {printable(text)}".strip()
        raise UserError(f"{where}: expected {scheme}://BUCKET/FOLDER")
    return f"{scheme}://{'/'.join(names)}"


def local_copy(
    name: str | os.PathLike[str], option: str = "", wanted: Callable[[str], bool] = lambda _: True
) -> Path:
    """The local path of a folder to read: as typed, or the mirror of an address, which is fetched.

    A run that a process of this machine is training is not fetched: its mirror is ahead.

    Args:
      name: a path or an address.
      option: where it was typed, for messages.
      wanted: whether to fetch a file, by its name relative to the address.

    Raises:
      UserError: as of `files.local_path` and `fetch`.
    """
    if not is_address(name):
        return local_path(name, option)
    address = _clean(name, option)
    folder = _mirror(address)
    with contextlib.suppress(UserError):
        if (folder / LEASE).exists() and _lives_here(read_json(folder / LEASE)):
            return folder
    fetch(address, folder, wanted)
    return folder


# --- Transfers


def fetch(address: str, folder: Path, wanted: Callable[[str], bool] = lambda _: True) -> None:
    """Makes a folder equal to what is stored below an address, of names that are `wanted`.

    A checkpoint without its marker, whose upload was cut, is left out. A folder that is ahead of the store stays as it
    is.

    Raises:
      UserError: the store cannot be reached or refuses, its package is not installed, or the folder cannot be written.
    """
    system = _system(address)
    with _locked(folder):
        index, here = _read_index(folder), _files(folder)
        there = {n: v for n, v in _complete(_listing(address)).items() if wanted(n)}
        if all(there.get(n) == one.stored for n, one in index.items() if wanted(n)):
            missing = there.keys() - here.keys()  # the folder is ahead
        else:
            equal = {n for n in there if n in index and index[n] == (there[n], here.get(n))}
            missing = there.keys() - equal
            for name in filter(wanted, here.keys() - there.keys()):
                (folder / name).unlink(missing_ok=True)
            index = {n: one for n, one in index.items() if n in equal or not wanted(n)}

        def get(name: str) -> None:
            with replacing(folder / name) as temporary:
                system.get_file(_key(address, name), str(temporary))
                if temporary.stat().st_size != there[name].size:
                    raise OSError(f"{name} was cut on its way")
            index[name] = Equal(there[name], _files(folder, name)[name])

        try:
            _each(address, "fetching", {name: there[name].size for name in missing}, get)
        finally:
            _write_index(folder, index)


def push(folder: str | os.PathLike[str]) -> None:
    """Makes what is stored equal to a folder of a mirror; does nothing for a folder elsewhere.

    Markers are stored as they were before everything else was read: what they complete is never older.

    Raises:
      UserError: the store cannot be reached, or refuses.
    """
    folder = Path(folder)
    address = address_of(folder)
    if address is None:
        return
    system = _system(address)
    with _locked(folder):
        index, here, there = _read_index(folder), _files(folder), _listing(address)
        marks = {}
        for name in filter(_is_marker, list(here)):
            try:
                marks[name] = (folder / name).read_bytes()
            except FileNotFoundError:  # its checkpoint is being deleted
                del here[name]
        changed = {
            name: local.size
            for name, local in here.items()
            if name not in there or index.get(name) != (there[name], local)
        }

        deleted: list[PurePosixPath] = []  # here, meanwhile

        def put(name: str) -> None:
            path = PurePosixPath(name)
            if name in marks and any(one.is_relative_to(path.parent) for one in deleted):
                return
            try:
                _upload(system, folder / name, _key(address, name), marks.get(name))
            except FileNotFoundError:
                if (folder / name).exists():
                    raise
                deleted.append(path)

        def remove(name: str) -> None:
            with contextlib.suppress(FileNotFoundError):
                system.rm_file(_key(address, name))

        _each(address, "storing", changed, put)
        # Not what others have put there, a report from another machine, say.
        known = index.keys() | (there.keys() - _complete(there).keys())
        gone = set() if deleted else (there.keys() & known) - here.keys()
        _each(address, "deleting", {name: 0 for name in gone if _is_marker(name)}, remove)
        _each(address, "deleting", {name: 0 for name in gone if not _is_marker(name)}, remove)
        after = _listing(address) if changed or gone else there
        equal = {n: Equal(after[n], local) for n, local in here.items() if n in after}
        kept = {n: one for n, one in index.items() if n not in changed}
        _write_index(folder, {n: kept.get(n, one) for n, one in equal.items()})


def check_writable(folder: str | os.PathLike[str]) -> None:
    """Stores and deletes an empty object, before there is work to lose; does nothing for a folder elsewhere.

    Raises:
      UserError: the store cannot be reached, or refuses.
    """
    if (address := address_of(folder)) is not None:
        system, key = _system(address), _key(address, ".writable")
        _within(address, lambda: (system.pipe_file(key, b""), system.rm_file(key)))


def _upload(system: Any, file: Path, key: str, contents: bytes | None) -> None:
    """Stores a file, or the contents that it had, and checks how much has arrived."""
    if contents is None and not ("checkpoints" in file.parts or ".array_record" in file.name):
        contents = file.read_bytes()  # at once: a log may be appended to while it is sent
    if contents is None:
        size = file.stat().st_size
        system.put_file(str(file), key)
    else:
        size = len(contents)
        system.pipe_file(key, contents)
    if system.info(key)["size"] == size:
        return
    # A server of Google's kind may lose the carriage return that ends a file sent in one request.
    with system.open(key, "wb", autocommit=False) as upload:
        upload.write(file.read_bytes() if contents is None else contents)
    upload.commit()
    if (arrived := system.info(key)["size"]) != size:
        raise OSError(f"{arrived} of {size} bytes of {file.name} have arrived")


def _is_marker(name: str) -> bool:
    return PurePosixPath(name).name in MARKERS


def _turn(name: str) -> int:
    """When a file is transferred: checkpoints and examples, then what logs them, then what says that they are whole."""
    return 2 if _is_marker(name) else 1 if "/" not in name else 0


def _complete(found: Mapping[str, Version]) -> dict[str, Version]:
    """Without the files of checkpoints that have no marker."""

    def whole(name: str) -> bool:
        parts = name.split("/")
        if "checkpoints" not in parts[:-2]:
            return True
        folder = parts[: parts.index("checkpoints") + 2]
        return not folder[-1].isdecimal() or "/".join([*folder, MARKERS[0]]) in found

    return {name: version for name, version in found.items() if whole(name)}


def _listing(address: str) -> dict[str, Version]:
    """All objects below an address but its lease, by their names relative to it."""
    system, below = _system(address), f"{_key(address)}/"

    def find() -> dict[str, Any]:
        with contextlib.suppress(FileNotFoundError):
            return dict(system.find(below, detail=True))
        return {}

    versions = {}
    for key, about in _within(address, find).items():
        name = key.removeprefix(below)
        if key.startswith(below) and name not in ("", LEASE) and not _is_hidden(name):
            tags = (about.get(tag) for tag in ("generation", "ETag", "etag", "md5Hash"))
            versions[name] = Version(int(about["size"]), str(next(filter(None, tags), "")))
    return versions


def _is_hidden(name: str) -> bool:
    """Whether a file is being written, or is none of ours to transfer."""
    parts = name.split("/")
    being_written = ("orbax-checkpoint-tmp", "incomplete.")
    return any(part.startswith(".") or any(w in part for w in being_written) for part in parts)


def _files(folder: Path, *names: str) -> dict[str, Version]:
    """The files below a folder, or those of its files that are named, by their names relative to it."""
    walked = (Path(at, name) for at, _, found in os.walk(folder) for name in found)
    files = {}
    for path in map(folder.joinpath, names) if names else walked:
        name = path.relative_to(folder).as_posix()
        with contextlib.suppress(FileNotFoundError):
            about = path.stat()
            if not _is_hidden(name):
                files[name] = Version(about.st_size, str(about.st_mtime_ns))
    return files


def _each(address: str, verb: str, sizes: Mapping[str, int], do: Callable[[str], None]) -> None:
    """Does something for every name (-> its bytes), several at once, one `_turn` after the other."""
    total = sum(sizes.values())
    with contextlib.ExitStack() as stack:
        advance: Callable[[float], None] = lambda _: None  # noqa: E731
        if total > _MUCH and threading.current_thread() is threading.main_thread():
            title = f"{verb} {address}"
            advance = stack.enter_context(progress(title, round(total / 1e6), "MB"))
        for turn in range(3):
            names: queue.SimpleQueue[str] = queue.SimpleQueue()
            for name in sorted(name for name in sizes if _turn(name) == turn):
                names.put(name)
            count = names.qsize()
            done: queue.SimpleQueue[str | Exception] = queue.SimpleQueue()
            for _ in range(min(count, _TRANSFERS)):
                _start(_transfers, names, do, done)
            for _ in range(count):
                found = _next(address, done, _STUCK_SECONDS)
                advance(sizes[found] / 1e6)


def _transfers(
    names: "queue.SimpleQueue[str]",
    do: Callable[[str], None],
    done: "queue.SimpleQueue[str | Exception]",
) -> None:
    with contextlib.suppress(queue.Empty):
        while True:
            name = names.get_nowait()
            try:
                do(name)
                done.put(name)
            except Exception as error:
                done.put(error)
                return


def _within(address: str, request: Callable[[], Result]) -> Result:
    """The result of a request; a `UserError` where it fails or takes too long."""
    done: queue.SimpleQueue[Any] = queue.SimpleQueue()

    def work() -> None:
        try:
            done.put((request(),))
        except Exception as error:
            done.put(error)

    _start(work)
    (result,) = _next(address, done, _REACH_SECONDS)
    return result


def _start(target: Callable[..., None], *arguments: Any) -> None:
    """Starts a thread that nobody waits for, as those of a pool would be at the end of the program."""
    threading.Thread(target=target, args=arguments, daemon=True).start()


def _next(address: str, done: "queue.SimpleQueue[Any]", seconds: float) -> Any:
    """What a thread has put there; its exception, or that it takes too long, as a `UserError`."""
    try:
        found = done.get(timeout=seconds)
    except queue.Empty:
        raise UserError(f"{address}: no answer within {seconds:.0f} s") from None
    if not isinstance(found, Exception):
        return found
    if isinstance(found, UserError):
        raise found
    if isinstance(found, FileNotFoundError):
        raise UserError(f"{address}: no such bucket, or no permission to see it") from found
    # Of fsspec, aiohttp, botocore, Google's libraries, the file system of the mirror.
    raise UserError(f"{address}: cannot be reached or used: {in_one_line(found)}") from found


@functools.cache
def _file_system(scheme: str) -> Any:
    import fsspec

    logging.getLogger("gcsfs").setLevel(logging.CRITICAL)  # it logs the traceback of each try
    options: dict[str, Any] = {"use_listings_cache": False, "skip_instance_cache": True}
    if scheme == "s3":
        tries = {"connect_timeout": 10, "read_timeout": 60, "retries": {"max_attempts": 3}}
        options["config_kwargs"] = tries
    else:  # gcsfs would ask for the kind of each bucket by gRPC, which no other server speaks, for a minute
        os.environ.setdefault("GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT", "false")
        if "STORAGE_EMULATOR_HOST" in os.environ:
            options["token"] = "anon"
    return fsspec.filesystem(scheme, **options)


def _system(address: str) -> Any:
    """The fsspec file system of an address."""
    scheme = address.partition("://")[0]
    package, extra = STORES[scheme]
    if importlib.util.find_spec(package) is None:
        raise UserError(
            f"{address}: {scheme}:// addresses need {package}: pip install 'a2j-jax[{extra}]'"
        )
    return _within(address, lambda: _file_system(scheme))


# --- The index


def _beside(folder: Path, suffix: str) -> Path:
    digest = hashlib.sha256(os.fsencode(folder.absolute())).hexdigest()[:20]
    return _cache() / "index" / f"{digest}{suffix}"


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """A context in which no other process of this machine fetches or pushes a folder."""
    from filelock import FileLock  # takes a while

    lock = _beside(folder, ".lock")
    try:
        lock.parent.mkdir(parents=True, exist_ok=True)
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(
            f"{error.filename}: cannot be written ({error.strerror}); {CACHE} names another folder for copies of what "
            "is stored"
        ) from error
    with FileLock(lock):
        yield


def _read_index(folder: Path) -> dict[str, Equal]:
    path = _beside(folder, ".json")
    with contextlib.suppress(UserError, TypeError, ValueError, AttributeError):
        if path.exists():
            found = read_json(path).items()
            return {name: Equal(Version(*a), Version(*b)) for name, (a, b) in found}
    return {}


def _write_index(folder: Path, index: Mapping[str, Equal]) -> None:
    write_file(_beside(folder, ".json"), json.dumps(dict(index)))


# --- Runs


@contextlib.contextmanager
def in_step(name: str | os.PathLike[str], option: str = "") -> Iterator[Path]:
    """The local path of a run directory: as typed, or a mirror, which the store is kept in step with.

    Process 0 has the lease, and pushes every checkpoint once it is complete, logs every 20 s, and all of it at the end.
    Each process of a job has its own mirror.

    Raises:
      UserError: as of `local_copy`; another process trains there; or the last push fails, and the mirror is kept.
    """
    if not is_address(name):
        yield local_path(name, option)
        return
    address = _clean(name, option)
    distributed.require_same("the run directory", address, address)
    folder = _mirror(address, distributed.index())
    with Lease(address, folder) if distributed.is_primary() else contextlib.nullcontext():
        fetch(address, folder)
        distributed.wait_for_all("the run directory is fetched")
        if distributed.is_primary():
            with _pushed(folder):
                yield folder
        else:
            yield folder
            shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def _pushed(folder: Path) -> Iterator[None]:
    ended = threading.Event()
    pushing = threading.Thread(target=_keep_pushing, args=(folder, ended), daemon=True)
    pushing.start()
    try:
        yield
    finally:
        ended.set()
        pushing.join(_STUCK_SECONDS)
        try:
            push(folder)
        except UserError as error:
            kept = f"its copy below {_cache()} is kept: the same command on this machine stores it"
            logger.warning(f"{error}; {kept}")
            raise UserError(f"{error}; {kept}") from error


def _keep_pushing(folder: Path, ended: threading.Event) -> None:
    failing, stored, last = False, -_PUSH_SECONDS, ""
    while not ended.wait(_LOOK_SECONDS):
        saved = _newest_save(folder)
        if saved == last and time.monotonic() - stored < _PUSH_SECONDS:
            continue
        stored, last = time.monotonic(), saved
        try:
            push(folder)
            failing = False
        except (UserError, OSError) as error:
            if not failing:
                logger.warning(
                    f"{in_one_line(error)}; training continues; the next attempt is in {_PUSH_SECONDS:.0f} s"
                )
            failing = True


def _newest_save(folder: Path) -> str:
    """Changes with every checkpoint that is complete."""
    found = sorted(folder.glob(f"checkpoints/*/{MARKERS[0]}"))
    return " ".join(path.parent.name for path in found)


class Lease:
    """A context in which this process alone trains into an address, and rewrites an object there while it does.

    A lease that a killed process has left is taken over: at once where it was one of this machine, else when the object
    has not changed for half a minute.
    """

    def __init__(self, address: str, folder: Path):
        """The lease on an address, which has its mirror in a folder."""
        self._address, self._copy = address, folder / LEASE
        self._key, self._store = _key(address, LEASE), _system(address)
        self._token, self._ended = secrets.token_hex(8), threading.Event()

    def __enter__(self) -> "Lease":
        self._wait_for_owner()
        self._write()
        now = self._read() or {}
        if now.get("token") != self._token:
            raise self._refusal(now)
        write_file(self._copy, json.dumps(now))
        _start(self._keep)
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._copy.unlink(missing_ok=True)
        with contextlib.suppress(UserError):
            if (self._read() or {}).get("token") == self._token:
                _within(self._address, lambda: self._store.rm_file(self._key))

    def _wait_for_owner(self) -> None:
        first = self._read()
        if first is None:
            return
        if first.get("host") == _host():
            if _lives_here(first):
                raise self._refusal(first)
            return
        logger.info(f"{self._address}: does {_named(first)} still train there? (half a minute)")
        end = time.monotonic() + _LOST_SECONDS
        while time.monotonic() < end:
            time.sleep(1)
            now = self._read()
            if now is None:
                return
            if now != first:
                raise self._refusal(now)

    def _refusal(self, owner: Mapping[str, Any]) -> UserError:
        return UserError(
            f"{self._address}: another process is training there ({_named(owner)}); wait until it has ended, or name "
            "another folder"
        )

    def _write(self) -> None:
        about = {"token": self._token, "host": _host(), "pid": os.getpid(), "time": time.time()}
        contents = json.dumps(about).encode()
        _within(self._address, lambda: self._store.pipe_file(self._key, contents))

    def _read(self) -> dict[str, Any] | None:
        def read() -> dict[str, Any] | None:
            try:
                found = json.loads(self._store.cat_file(self._key))
            except FileNotFoundError:
                return None
            except ValueError:
                return {}
            return found if isinstance(found, dict) else {}

        return _within(self._address, read)

    def _keep(self) -> None:
        while not self._ended.wait(_LEASE_SECONDS):
            with contextlib.suppress(UserError):  # out of reach for a while
                now = self._read()
                if self._ended.is_set():
                    return
                if now is not None and now.get("token") != self._token:
                    distributed.end_now(
                        f"{self._address}: {_named(now)} trains there now: nothing was heard of this process for "
                        f"{_LOST_SECONDS:.0f} s",
                        2,
                    )
                self._write()


def _named(owner: Mapping[str, Any]) -> str:
    return f"process {owner.get('pid', '?')} on {owner.get('host', '?')}"


def _host() -> str:
    """The name of a machine since it was started: elsewhere, and before, its process numbers mean others."""
    with contextlib.suppress(OSError):
        boot = Path("/proc/sys/kernel/random/boot_id").read_text()
        return f"{socket.gethostname()} ({boot[:8]})"
    return socket.gethostname()


def _lives_here(owner: Any) -> bool:
    """Whether the owner of a lease is a process of this machine that lives."""
    if not isinstance(owner, dict) or owner.get("host") != _host():
        return False
    try:
        os.kill(int(owner["pid"]), 0)
    except (ProcessLookupError, KeyError, TypeError, ValueError, OverflowError):
        return False
    except OSError:  # of another user
        return True
    return True
