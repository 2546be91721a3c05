"""Shards: a split written piece by piece, by this process or by several, always the same bytes.

TFDS's own writer keeps a split in memory, or on disk with TensorFlow's file functions; a million
frames need neither. A shard is a range of frames: where it begins and ends depends on nothing but
their number, so its bytes do not depend on who writes it.
"""

import contextlib
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future, ProcessPoolExecutor, wait
from itertools import pairwise
from multiprocessing.connection import Connection
from typing import Any, NamedTuple

from array_record.python.array_record_module import ArrayRecordWriter
from tensorflow_datasets.core.example_serializer import ExampleSerializer

from a2j_jax.data.batch import Example
from a2j_jax.log import Advance
from a2j_jax.tracks import TrackSpec
from tfds_builders.examples import Moments, Skipped, crop_moments, features

Outcome = Example | Skipped
# Reads some frames, in order, wherever it is called: worker processes get a pickled copy.
Job = Callable[[], Iterator[Outcome]]

_FRAMES_PER_SHARD = 4096
_COUNTED_TOGETHER = 16
# One record per chunk: random access. zstd:1 writes twice as fast as the default and takes 10 % more.
_WRITER_OPTIONS = "group_size:1,zstd:1"


class Shard(NamedTuple):
    """What became of one shard.

    Attributes:
      path: of the file.
      examples: how many it holds.
      num_bytes: of its examples, before compression.
      skipped: frames that are not in it.
      moments: of its crops.
    """

    path: str
    examples: int
    num_bytes: int
    skipped: tuple[Skipped, ...]
    moments: Moments


class Workers(NamedTuple):
    """Processes that write shards.

    Attributes:
      pool: of them.
      done: the number of frames they are through with, of all splits so far.
      lifeline: nothing is ever sent; once it is closed, be it that this process has died, they end.
    """

    pool: Executor
    done: Any
    lifeline: Connection

    def stop(self) -> None:
        """Ends them, whatever they are at."""
        self.lifeline.close()
        self.pool.shutdown(cancel_futures=True)


def shard_ranges(frames: int, num_shards: int | None) -> list[range]:
    """The frames of every shard: `num_shards` (about 4,096 frames each by default) even parts."""
    count = min(num_shards or -(-frames // _FRAMES_PER_SHARD), frames)
    edges = [round(frames * shard / count) for shard in range(count + 1)]
    return [range(*edge) for edge in pairwise(edges)]


def write_shards(
    jobs: list[Job], paths: list[str], track: TrackSpec, workers: Workers | None, advance: Advance
) -> list[Shard]:
    """Runs every job and writes what it yields.

    Args:
      jobs: one per shard.
      paths: the file of each.
      track: of the examples.
      workers: from `worker_pool`; None: this process does it all.
      advance: called with the number of frames dealt with, now and then.

    Raises:
      BrokenProcessPool: a worker was killed.
    """
    if workers is None:
        return [
            _write_shard(job, path, track, advance) for job, path in zip(jobs, paths, strict=True)
        ]
    before = workers.done.value
    try:
        with _signals_held():
            futures = [
                workers.pool.submit(_write_shard_in_worker, job, path, track)
                for job, path in zip(jobs, paths, strict=True)
            ]
        _follow(futures, workers, before, advance)
    except BaseException:
        workers.stop()  # the caller removes what they wrote: they must not write more
        raise
    return [future.result() for future in futures]


@contextlib.contextmanager
def worker_pool(num_processes: int) -> Iterator[Workers | None]:
    """Starts worker processes for one build; None for a single process: it works by itself."""
    if num_processes <= 1:
        yield None
        return
    # "spawn": a forked copy of a process that has started JAX's threads may deadlock.
    context = multiprocessing.get_context("spawn")
    done = context.Value("q", 0)
    watched, lifeline = context.Pipe(duplex=False)
    pool = ProcessPoolExecutor(num_processes, context, initializer=_start, initargs=(done, watched))
    workers = Workers(pool, done, lifeline)
    try:
        yield workers
        pool.shutdown()
    finally:
        workers.stop()
        watched.close()


@contextlib.contextmanager
def _signals_held() -> Iterator[None]:
    """Within, Ctrl-C and SIGTERM wait: half-started processes could not be stopped.

    Processes that are started within never see Ctrl-C, which a terminal sends to them too: it is their
    parent's, which ends them.
    """
    if threading.current_thread() is not threading.main_thread():  # signals are not for this one
        yield
        return
    came: list[int] = []
    handlers = {
        number: signal.signal(number, lambda number, _: came.append(number))
        for number in (signal.SIGINT, signal.SIGTERM)
    }
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})  # is inherited
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
        for number, handler in handlers.items():
            signal.signal(number, handler or signal.SIG_DFL)
        if came:
            signal.raise_signal(came[0])


def _follow(futures: list[Future[Shard]], workers: Workers, seen: int, advance: Advance) -> None:
    """Until all shards are written, or one fails, pass on how far the workers are.

    Args:
      futures: one per shard.
      workers: that write them.
      seen: frames that they were through with before.
      advance: called with the number of frames since.
    """
    pending = set(futures)
    while pending:
        finished, pending = wait(pending, timeout=0.2)
        for future in finished:
            future.result()
        now = workers.done.value
        if now > seen:
            advance(now - seen)
            seen = now


def _write_shard(job: Job, path: str, track: TrackSpec, advance: Advance) -> Shard:
    serialize = _serializer(track)
    skipped: list[Skipped] = []
    examples, num_bytes, moments, uncounted = 0, 0, Moments(), 0
    writer = ArrayRecordWriter(path, _WRITER_OPTIONS)
    try:
        for outcome in job():
            if isinstance(outcome, Skipped):
                skipped.append(outcome)
            else:
                record = serialize(outcome)
                writer.write(record)
                examples, num_bytes = examples + 1, num_bytes + len(record)
                moments += crop_moments(outcome, track)
            uncounted += 1
            if uncounted == _COUNTED_TOGETHER:
                advance(uncounted)
                uncounted = 0
    finally:
        writer.close()
    advance(uncounted)
    return Shard(path, examples, num_bytes, tuple(skipped), moments)


def _serializer(track: TrackSpec) -> Callable[[Example], bytes]:
    """As TFDS serialises, but with its map in order: otherwise bytes differ between processes."""
    encode = features(track)
    serializer = ExampleSerializer(encode.get_serialized_info())

    def serialize(example: Example) -> bytes:
        proto = serializer.get_tf_example(encode.encode_example(example))
        record: bytes = proto.SerializeToString(deterministic=True)
        return record

    return serialize


# In a worker process: the counter it shares with its parent.
_done: Any = None


def _write_shard_in_worker(job: Job, path: str, track: TrackSpec) -> Shard:
    return _write_shard(job, path, track, _count)


def _count(frames: int, note: str = "") -> None:
    with _done.get_lock():
        _done.value += frames


def _start(done: Any, lifeline: Connection) -> None:
    """Worker start-up: share the counter, and leave when the parent says so or is gone."""
    global _done
    _done = done

    def watch() -> None:
        lifeline.poll(None)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
