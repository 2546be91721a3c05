"""`a2j`: pick a command and run it, with a cache of compiled programs; an error the user can fix is one line."""

import argparse
import contextlib
import errno
import gc
import hashlib
import io
import os
import platform
import signal
import sys
import tempfile
import threading
import warnings
from collections.abc import Callable, Iterator, Sequence
from importlib import import_module
from multiprocessing import util as multiprocessing_util
from pathlib import Path
from typing import NoReturn

from a2j_jax import __version__, distributed, interrupts
from a2j_jax.cli.arguments import (
    Parser,
    command_line,
    join_negative_numbers,
    split_overrides,
    with_pages,
)
from a2j_jax.errors import Stopped, UserError, printable
from a2j_jax.files import is_private, private_umask
from a2j_jax.interrupts import (
    INTERRUPTED,
    TERMINATED,
    Terminated,
    after_signal,
    lasting_interrupts,
    raise_terminated,
)
from a2j_jax.stores import with_addresses

BROKEN_PIPE = 128 + signal.SIGPIPE  # as a shell reports that the reader of our output is gone
_SIGTERM, _INTERRUPTED = "SIGTERM: ended", "interrupted"
_LONGEST = 1000  # characters of a message
_LARGEST_CACHE = 4 * 2**30  # bytes, for each kind of CPU
_CACHE_FOLDER = "JAX_COMPILATION_CACHE_DIR"
_UNWRITABLE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EROFS, errno.EBADF)

# Command -> its module, where it is a `Command` in capitals, and one line of help. Modules load when it is called.
COMMANDS = {
    "build": ("data_commands", "render or convert a data set into examples on disk"),
    "show": ("data_commands", "draw a contact sheet of a data set's crops with their joints"),
    "figure": ("paper_commands", "draw the paper's figures 1, 3, 6 and 7 from a checkpoint"),
    "plan": (
        "speed_commands",
        "estimate memory and speed of training on TPUs that you do not have",
    ),
    "train": ("train_commands", "train an experiment from its config"),
    "config": ("train_commands", "print every value of a config with its meaning"),
    "eval": ("eval_command", "score a checkpoint, or a file of predictions"),
    "reproduce": (
        "paper_commands",
        "run one of the paper's tables and write it with the paper's numbers",
    ),
    "bench": (
        "speed_commands",
        "time reading, cropping and the network, for every backbone and paradigm",
    ),
    "predict": ("predict_command", "find the joints in depth frames"),
    "doctor": (
        "camera_commands",
        "check a camera's depth frame, its unit and intrinsics, in a picture",
    ),
    "live": (
        "camera_commands",
        "follow a hand through the frames of a depth camera, or of a folder",
    ),
    "export": ("weight_commands", "write a network as one file that runs without this package"),
    "convert": ("weight_commands", "turn official or PyTorch weights into a checkpoint"),
}
_EXAMPLES = """\
examples:
  a2j train --config quickstart
  a2j eval --workdir runs/quickstart
  a2j predict runs/quickstart frame.png --center 320,240,700 --out overlay.png

Where to begin: docs/quickstart.md; frames of your own: docs/own_frames.md; research: docs/extending.md.
`a2j COMMAND --help` has examples of each command.
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command; returns its exit status: 0, 2 for a user's mistake, or 128 + the signal that ended it."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    try:
        _dispatch(arguments)
        return 0
    except UserError as error:
        return _complain(str(error), error.instructions)
    except Stopped as stop:
        distributed.claim_last_word()
        if distributed.is_primary():
            _print_error(printable(str(stop)))
        distributed.leave()  # all of them stopped after the same step
        return stop.status
    except KeyboardInterrupt as interrupt:
        # A C library may have raised its own KeyboardInterrupt instead of ours.
        if isinstance(interrupt, Terminated) or Terminated.came.is_set():
            _print_error(_SIGTERM)
            return TERMINATED
        _print_error(_INTERRUPTED)
        return INTERRUPTED
    except BrokenPipeError:
        return BROKEN_PIPE
    except OSError as error:
        if error.filename is not None:  # no permission, a file in the place of a folder
            return _complain(f"{error.filename}: {error.strerror}")
        if error.errno == errno.ENOENT:  # from `tempfile`, or the working directory was deleted
            return _complain(f"a folder is gone or cannot be used: {error.strerror}")
        if error.errno in _UNWRITABLE:
            return _complain(f"stdout, or a file, cannot be written ({error.strerror})")
        raise


def console(argv: Sequence[str] | None = None) -> NoReturn:
    """The entry point of the `a2j` program: `main`, then the end of the process.

    After Ctrl-C everything is closed by then, and the process ends at once: a compilation or a reading thread still at
    work would crash the interpreter's shutdown. A failed process of several ends at once, too: JAX would make it wait
    for the others, which wait for it.
    """
    _open_standard_streams()
    interrupts.last_lines = {
        signal.SIGTERM: f"a2j: {_SIGTERM}",
        signal.SIGINT: f"a2j: {_INTERRUPTED}",
    }
    if signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
        signal.signal(signal.SIGTERM, raise_terminated)
    try:
        with lasting_interrupts():
            status = main(argv)
    except SystemExit as end:  # from argparse, after --help or --version
        status = end.code if isinstance(end.code, int) else 0
    except Exception as error:
        if not distributed.is_multiprocess():
            raise
        status = distributed.report_failure(error)
    status = _flush_standard_streams(status)
    alone = not distributed.is_multiprocess()
    distributed.leave(failed=status != 0, wait=status in (0, 2))
    ends_at_once = status in (INTERRUPTED, TERMINATED) if alone else status != 0
    if not (ends_at_once or distributed.in_a_call()):
        gc.freeze()  # or the interpreter looks for garbage among all modules, several times
        sys.exit(status)
    # Release semaphores as `atexit` would: their tracker would complain about leftovers.
    multiprocessing_util._run_finalizers(0)  # type: ignore[attr-defined]
    os._exit(status)


def _open_standard_streams() -> None:
    """Replace standard streams that were closed at the start (`>&-`), before files get their numbers.

    Writing to such a stdout fails, as the result would be lost; such a stderr discards everything. Characters that the
    terminal's encoding lacks are escaped in both.
    """
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is None:
            opened = os.open(os.devnull, os.O_RDWR if name == "stderr" else os.O_RDONLY)
            if opened != number:
                os.dup2(opened, number)
                os.close(opened)
            mode = "r" if name == "stdin" else "w"
            setattr(sys, name, open(number, mode, encoding="utf-8", closefd=False))  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _flush_standard_streams(status: int) -> int:
    """Flush stdout and stderr; returns the exit status, which is not 0 if a result could not be written."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except ValueError:  # closed
            pass
        except OSError as error:
            if stream is sys.stdout and not status:
                status = BROKEN_PIPE if error.errno == errno.EPIPE else 2
                if status == 2:
                    _complain(f"stdout cannot be written ({error.strerror}); the result is lost")
            # Leave nothing for Python to flush at its end: it would complain again.
            with contextlib.suppress(OSError, ValueError):
                nowhere = os.open(os.devnull, os.O_WRONLY)
                os.dup2(nowhere, stream.fileno())
                os.close(nowhere)
                stream.flush()
    return status


@contextlib.contextmanager
def ends_within(seconds: float = 1.0, unless: Callable[[], bool] = lambda: False) -> Iterator[None]:
    """A context in which SIGTERM ends the program after this long, even while it compiles or computes.

    Unless `unless()` is true by then: there is work to save first. Without effect outside of `console` and in other
    threads.
    """
    in_main_thread = threading.current_thread() is threading.main_thread()
    if not in_main_thread or signal.getsignal(signal.SIGTERM) is not raise_terminated:
        yield
        return
    # Where there are several processes, JAX has replaced the handler below Python, which does not know.
    signal.signal(signal.SIGTERM, raise_terminated)

    def end(number: int) -> None:
        if not unless():
            interrupts.end_at_once(number)

    with after_signal(seconds, end):
        yield


def _complain(message: str, instructions: str = "") -> int:
    """Prints an error in one line, then its instructions; returns the exit status."""
    distributed.claim_last_word()
    who = f"{distributed.name()}: " if distributed.is_multiprocess() else ""
    text = printable(" ".join(with_addresses(message).split()))
    if len(text) > _LONGEST:  # keep its beginning (what, where) and its end (the fix)
        text = f"{text[: _LONGEST - 300]} … {text[-297:]}"
    _print_error(f"error: {who}{text}")
    if instructions:
        with contextlib.suppress(OSError):
            print("\n".join(map(printable, instructions.split("\n"))), file=sys.stderr)
    return 2


def _print_error(text: str) -> None:
    with contextlib.suppress(OSError):  # nobody reads it; the status remains
        print(f"a2j: {with_pages(text)}", file=sys.stderr)


def _dispatch(arguments: list[str]) -> None:
    if arguments and arguments[0] in COMMANDS:
        name = arguments[0]
        command = getattr(import_module(f"a2j_jax.cli.{COMMANDS[name][0]}"), name.upper())
        try:
            os.getcwd()
        except OSError:
            raise UserError(
                "the working directory was deleted; change to an existing one"
            ) from None
        if "--config.help" in arguments:
            import_module("a2j_jax.cli.train_commands").print_keys()
            return
        import_module("a2j_jax.log").log_to_terminal()  # rich takes a while to import
        parser = Parser(
            prog=f"a2j {name}",
            description=command.description,
            epilog=command.examples,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )
        command.add_arguments(parser)
        # argparse does not know config keys: `--config.optim.batch_size=32` bypasses it.
        rest, overrides = split_overrides(arguments[1:])
        # Options may stand between a run and its frames; argparse cannot do that with subcommands.
        parse = parser.parse_intermixed_args if command.intermixed else parser.parse_args
        parsed = parse(join_negative_numbers(rest))
        if overrides and not hasattr(parsed, "config"):
            raise UserError(f"a2j {name} takes no --config.{overrides[0][0]}")
        parsed.given = {n for n, value in vars(parsed).items() if value != parser.get_default(n)}
        parsed.overrides = overrides
        parsed.command_line = command_line(arguments)
        use_compilation_cache()
        command.run(parsed)
        return
    _top_parser().parse_args(arguments)  # prints help, or raises
    raise UserError(f"{arguments[0]!r} before COMMAND: expected a2j COMMAND ...; see a2j --help")


def _top_parser() -> argparse.ArgumentParser:
    listed = "\n".join(f"  {name:9} {text}" for name, (_, text) in COMMANDS.items())
    parser = Parser(
        prog="a2j",
        description="A2J: 3D hand and body pose from one depth image, in JAX.\n\n"
        f"commands:\n{listed}",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"a2j_jax {__version__}")
    parser.add_argument("command", choices=list(COMMANDS), metavar="COMMAND")
    return parser


def use_compilation_cache() -> None:
    """Sets JAX's cache of compiled programs to `~/.cache/a2j_jax/xla/`: later starts of a command skip compilation.

    JAX's own settings win. `JAX_COMPILATION_CACHE_DIR` names another folder; `JAX_ENABLE_COMPILATION_CACHE=false`
    turns the cache off. Programs that compile in less than `JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS` (1 s) are
    not kept. Cached programs are executed: keep the folder where nobody else may write.

    Call it before anything is compiled; it does not import JAX. Without a home, or where the folder cannot be written,
    nothing is cached. A folder that belongs to another user, or that others may write to, is not used, with one log
    line. New folders are private to this user, whatever the umask.
    """
    # A cache that cannot be read or written only costs time: not worth a line per program.
    warnings.filterwarnings(
        "ignore", message="Error (reading|writing) persistent compilation cache entry"
    )
    if _CACHE_FOLDER in os.environ:
        return
    try:
        caches = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser()
        # Code for one CPU may crash another one, and machines of many kinds share home directories.
        folder = caches / "a2j_jax" / "xla" / cpu_kind()
        with private_umask():  # `mode` of mkdir does not apply to the parents that it creates
            folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
        shared = [path for path in (folder, *folder.parents[:2]) if not is_private(path)]
    except (OSError, RuntimeError):  # no home, no permission
        return
    if shared:
        from a2j_jax.log import logger

        logger.info(
            f"no compilation cache: {printable(str(shared[0]))} belongs to somebody else, or others may write to it "
            "(chmod go-w makes it private)"
        )
        return
    shrink(folder, _LARGEST_CACHE)
    os.environ[_CACHE_FOLDER] = str(
        folder
    )  # read when JAX is imported, here and in child processes
    if "jax" in sys.modules:
        sys.modules["jax"].config.update("jax_compilation_cache_dir", str(folder))


def shrink(folder: Path, largest: int) -> None:
    """Deletes the least recently used files until the rest is no larger than `largest` bytes.

    JAX's own limit (`jax_compilation_cache_max_size`, jax 0.10) writes nothing to a folder that holds an entry without
    a time stamp: one written without the limit, or by a process killed in between.
    """
    files = []
    for path in folder.rglob("*"):
        with contextlib.suppress(OSError):  # another process may be deleting, too
            if path.is_file():
                about = path.stat()
                files.append((max(about.st_atime, about.st_mtime), about.st_size, path))
    total = sum(size for _, size, _ in files)
    for _, size, path in sorted(files):
        if total <= largest:
            return
        total -= size
        with contextlib.suppress(OSError):
            path.unlink()


def cpu_kind() -> str:
    """A hash of the model and the instruction set of this machine's CPU."""
    about = [platform.machine(), platform.processor()]
    with contextlib.suppress(OSError):
        first_core = Path("/proc/cpuinfo").read_text().partition("\n\n")[0]
        wanted = ("model name", "flags", "features", "cpu part")  # of x86, of Arm
        about += [line for line in first_core.splitlines() if line.lower().startswith(wanted)]
    return hashlib.sha256("\n".join(about).encode()).hexdigest()[:12]
