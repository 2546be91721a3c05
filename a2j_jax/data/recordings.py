"""Files of many depth frames, read one at a time.

| file | frames |
| --- | --- |
| `.npy` of shape (N, H, W) | N |
| TIFF of several images | its pages |
| Matroska (.mkv), AVI or MP4 | the first video of one channel of 9 to 16 bits by a lossless codec, as FFV1 |

Values become depth by the rules of `depth_files`. Videos need PyAV, the extra `[video]`; those without such a channel
are refused, since depth is lost in them. The contents of a file decide its kind, not its name.
"""

import contextlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from a2j_jax.data.depth_files import (
    EXPECTED,
    DepthFile,
    Values,
    depth_of,
    pillow_damage,
    read_depth,
    read_values,
    tiff_page,
)
from a2j_jax.errors import UnreadableFrame, UserError, printable
from a2j_jax.files import regular_file

_NPY = b"\x93NUMPY"
_TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_MATROSKA = b"\x1aE\xdf\xa3"
_TO_RECORD = "record FFV1 with the pixels gray16le in .mkv, 16-bit PNG files, or a .npy stack (frames, height, width)"
_TRUNCATED = "truncated; copy or record it again"
_CHANNELS = 4  # most of a color picture
_SHORT_S = 0.5  # a video that ends so much before its header says is truncated

# What is stored of one frame and the kind of file, as `depth_files.read_values`, or what is wrong with it.
Stored = tuple[Values, str] | UnreadableFrame


@dataclass(frozen=True)
class Recording:
    """A file of depth frames in the order of time.

    Attributes:
      path: of the file.
      count: of frames, by the header; of some videos an estimate.
      stored: reads the frames from the first one on, for a track's `frame_format`.
      rate_hz: frames a second; None: unknown.
    """

    path: Path
    count: int
    stored: Callable[[str], Iterator[Stored]]
    rate_hz: float | None = None


Source = str | Path | Recording


def open_recording(path: str | Path) -> Recording | None:
    """The recording in a file; None for a file of one frame, and for everything that `read_depth` refuses.

    Raises:
      UnreadableFrame: a damaged video, or one that holds no depth.
      UserError: PyAV is not installed.
    """
    try:
        with regular_file(path, EXPECTED).open("rb") as file:
            start = file.read(12)
    except (UserError, OSError):
        return None
    if start.startswith(_NPY):
        return _stack(Path(path))
    if start.startswith(_TIFF):
        return _pages(Path(path))
    is_avi = start.startswith(b"RIFF") and start.endswith(b"AVI ")
    if start.startswith(_MATROSKA) or is_avi or start[4:8] == b"ftyp":
        return _video(Path(path))
    return None


def open_recordings(paths: Iterable[Source], keep_damaged: bool = False) -> list[Source]:
    """Replaces the files of many frames among these by their recordings.

    Args:
      paths: of files; recordings stay.
      keep_damaged: keep the path of a video that cannot be used: `depth_frames` has the reason.

    Raises:
      UserError: as `open_recording`.
    """
    sources: list[Source] = []
    for path in paths:
        source = path
        try:
            if not isinstance(path, Recording):
                source = open_recording(path) or path
        except UnreadableFrame:
            if not keep_damaged:
                raise
        sources.append(source)
    return sources


def count_frames(sources: Sequence[Source]) -> int:
    """The number of frames of `open_recordings`; a file that is no recording has one."""
    return sum(source.count if isinstance(source, Recording) else 1 for source in sources)


def depth_frames(
    source: Source,
    frame_format: str = "depth16",
    depth_unit_mm: float = 1.0,
    floats_in_mm: bool = False,
) -> Iterator[tuple[str, DepthFile | UserError]]:
    """The frames of a file, one or many, with their names: the path, and the number in a recording (`clip.mkv#12`).

    Where a frame cannot be used, the error takes its place. The other arguments are those of `read_depth`.
    """
    if not isinstance(source, Recording):
        try:
            recording = open_recording(source)
            if recording is None:
                depth = read_depth(source, frame_format, depth_unit_mm, floats_in_mm)
                yield str(source), depth
                return
        except UserError as error:
            yield str(source), error
            return
        source = recording
    for number, stored in enumerate(source.stored(frame_format)):
        name = f"{source.path}#{number}"
        try:
            if isinstance(stored, UnreadableFrame):
                raise stored
            yield name, depth_of(*stored, frame_format, depth_unit_mm, floats_in_mm)
        except UnreadableFrame as error:
            yield name, UnreadableFrame(error.reason, name, error.detail)


def stored_frame(
    sources: Sequence[Source], number: int, frame_format: str = "depth16"
) -> tuple[str, Values, str]:
    """One frame as stored: its name, values and kind of file, as of `depth_files.read_values`.

    Args:
      sources: of `open_recordings`.
      number: of the frame among all of theirs, from 0.
      frame_format: of a track.

    Raises:
      UserError: a frame that cannot be read, or fewer frames.
    """
    count = 0
    for source in sources:
        if not isinstance(source, Recording):
            if count == number:
                return str(source), *read_values(source, frame_format)
            count += 1
            continue
        for index, stored in enumerate(source.stored(frame_format)):
            if count == number:
                name = f"{source.path}#{index}"
                if isinstance(stored, UnreadableFrame):
                    raise UnreadableFrame(stored.reason, name, stored.detail)
                return name, *stored
            count += 1
    raise UserError(f"frame {number}: expected 0 to {count - 1}, of {count} frames")


# --- arrays and pages


def _stack(path: Path) -> Recording | None:
    """The frames of a `.npy` file of three axes; None: it has others."""
    with path.open("rb") as file:
        try:
            version = np.lib.format.read_magic(file)
            in_1_0 = version == (1, 0)
            header = (
                np.lib.format.read_array_header_1_0
                if in_1_0
                else np.lib.format.read_array_header_2_0
            )
            shape, by_columns, dtype = header(file)
        except Exception:  # `read_depth` says what is damaged
            return None
        begin = file.tell()
    if len(shape) != 3 or min(shape) < 1 or dtype.kind not in "iuf":
        return None
    if shape[2] <= _CHANNELS < shape[1]:
        raise UnreadableFrame(
            "has the shape of a color picture; expected depth (frames, height, width)", path
        )
    if by_columns:
        how = "np.save(path, np.ascontiguousarray(frames))"
        raise UnreadableFrame("holds frames in Fortran's order of axes; save " + how, path)
    size = shape[1] * shape[2]
    there = min((path.stat().st_size - begin) // (size * dtype.itemsize), shape[0])

    def stored(frame_format: str) -> Iterator[Stored]:
        with path.open("rb") as file:
            file.seek(begin)
            for _ in range(there):
                values = np.fromfile(file, dtype, size).reshape(shape[1:])
                yield values.astype(dtype.newbyteorder("="), copy=False), f"{dtype.name} .npy"
        if there < shape[0]:
            yield UnreadableFrame(_TRUNCATED, detail=f"{there} of {shape[0]} frames")

    return Recording(path, shape[0], stored)


def _pages(path: Path) -> Recording | None:
    """The pages of a TIFF; None: it has one, or the first one is damaged."""
    count, is_whole = 0, False
    try:
        with pillow_damage(), Image.open(path, formats=("TIFF",)) as image:
            while True:
                image.seek(count)
                count += 1
    except UnreadableFrame as error:
        is_whole = isinstance(error.__cause__, EOFError)  # no more pages
    if count < 2:
        return None

    def stored(frame_format: str) -> Iterator[Stored]:
        with Image.open(path, formats=("TIFF",)) as image:
            for page in range(count):
                try:
                    with pillow_damage():
                        image.seek(page)
                        found = tiff_page(image, frame_format)
                except UnreadableFrame as error:
                    yield error
                else:
                    yield found
        if not is_whole:
            yield UnreadableFrame(_TRUNCATED, detail=f"after {count} frames")

    return Recording(path, count, stored)


# --- video


def video_library() -> Any:
    """PyAV.

    Raises:
      UserError: it is not installed.
    """
    try:
        import av
        import av.logging
    except ImportError as error:
        raise UserError(f"video needs PyAV: pip install 'a2j-jax[video]' ({error})") from error
    return av


def _video(path: Path) -> Recording:
    """The frames of a video of depth."""
    video_library()
    with _opened_video(path) as (container, stream):
        rate = float(stream.average_rate) if stream.average_rate else None
        count = stream.frames
        if not count and rate and container.duration:
            count = round(container.duration / 1e6 * rate)
        if not count:  # its recorder was stopped before it wrote this
            count = sum(packet.size > 0 for packet in container.demux(stream))
    return Recording(path, count, lambda frame_format: _decoded(path), rate)


@contextlib.contextmanager
def _opened_video(path: Path) -> Iterator[tuple[Any, Any]]:
    """A container of PyAV's and its stream of depth.

    Raises:
      UnreadableFrame: damaged, or without depth.
    """
    av = video_library()
    try:
        container = av.open(str(path))
    except (av.error.FFmpegError, UnicodeError) as error:
        reason = "damaged or unsupported video; copy or record it again"
        raise UnreadableFrame(reason, path, printable(str(error), 80)) from error
    with container:
        streams = [one for one in container.streams.video if one.codec_context is not None]
        depth = next((one for one in streams if _bits_of_depth(one.codec_context) > 8), None)
        if depth is None:
            raise UnreadableFrame(f"{_refused(streams)}; {_TO_RECORD}", path)
        yield container, depth


def _bits_of_depth(codec: Any) -> int:
    """Bits of each pixel of a gray and lossless video, at most 16; 0 of any other one."""
    bits = [one.bits for one in codec.format.components] if codec.format else []
    lossless = codec.codec.lossless and not codec.codec.lossy
    return bits[0] if lossless and len(bits) == 1 and bits[0] <= 16 else 0


def _refused(streams: Sequence[Any]) -> str:
    """Why there is no depth in these streams of video."""
    if not streams:
        return "holds no video"
    codec = streams[0].codec_context
    kind = f"{codec.name}, {codec.pix_fmt}"
    if codec.format and max(one.bits for one in codec.format.components) <= 8:
        return f"is an 8-bit video ({kind}), in which depth in mm is lost"
    return f"is a video of several channels, or compressed with loss ({kind})"


def _decoded(path: Path) -> Iterator[Stored]:
    """The frames of a video. One that is damaged breaks those after it, up to the next one that stands alone."""
    av = video_library()
    with _opened_video(path) as (container, stream):
        codec = stream.codec_context
        codec.thread_count = 1  # what FFmpeg says in other threads is not captured
        kind = f"{_bits_of_depth(codec)}-bit {codec.name.upper()} video"
        frame_s = 1.0 / float(stream.average_rate or 1)
        packets, read, until, damaged, is_complete = 0, 0, 0.0, False, True
        try:
            for packet in container.demux(stream):
                packets += 1
                if not packet.size:  # a frame that AVI dropped, and the end
                    continue
                at = packet.dts if packet.pts is None else packet.pts
                until = float((at or 0) * stream.time_base) + frame_s
                frames, is_whole = _decode(av, packet)
                for frame in frames or [None]:
                    read += 1
                    stands_alone = frame is not None and frame.key_frame
                    damaged = not is_whole or (damaged and not stands_alone)
                    if frame is None or damaged:
                        yield UnreadableFrame("damaged frame of a video")
                    else:
                        yield frame.to_ndarray().astype(np.uint16, copy=False), kind
        except av.error.FFmpegError:
            is_complete = False
        # The header's duration, us, is that of the longest stream.
        is_short = until < (container.duration or 0) / 1e6 - _SHORT_S
        if is_short or packets <= stream.frames or not is_complete:  # the last packet is the end
            yield UnreadableFrame(_TRUNCATED, detail=f"after {read} frames")


def _decode(av: Any, packet: Any) -> tuple[Sequence[Any], bool]:
    """Frames, and whether FFmpeg found no fault: some it raises, some it logs and hides with an earlier frame."""
    level = av.logging.get_level()
    av.logging.set_level(av.logging.ERROR)
    try:
        with av.logging.Capture() as complaints:
            return packet.decode(), not complaints
    except av.error.FFmpegError:
        return [], False
    finally:
        av.logging.set_level(level)
