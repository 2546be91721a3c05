"""The reader of depth frames, used for building data sets and for predicting.

| file | `frame_format` of the track | depth |
| --- | --- | --- |
| 16-bit one-channel PNG, TIFF or PGM, 32-bit integer TIFF, integer `.npy` | any | value × `depth_unit_mm` |
| float TIFF, float `.npy` | any | the value, in mm; refused in meters, or with a unit |
| 8-bit RGB image | `nyu_packed` | (G·256 + B) × `depth_unit_mm`; red holds the synthetic rendering's label |
| 8-bit image or `.npy`, gray or the first channel | `stretch8` | gray levels, of which only the order counts |
| 8-bit image or `.npy` | any other | refused |

0, negative and non-finite values mean "no reading" everywhere. The contents of a file decide its kind, not its name.
Every checksum of a PNG is verified; TIFF, PGM and `.npy` have none: their headers must fit
their size.
"""

import contextlib
import io
import logging
import os
import re
import struct
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageFile, UnidentifiedImageError

from a2j_jax.data.array_files import parse_npy
from a2j_jax.errors import UnreadableFrame, UserError, printable
from a2j_jax.files import read_contents

try:  # the extra [fast]
    import deflate
    import pyspng
except ImportError:
    deflate = pyspng = None  # type: ignore[assignment]

# No camera measures depths below this. Frames in meters may have outliers (65.535) above it.
NEAREST_MM = 20.0
IN_METRES = (
    f"nearly all readings are below {NEAREST_MM:g} mm: are these meters (multiply by 1000), or is the unit of counts "
    "(depth_unit_mm) too small?"
)
_MOST_OUTLIERS = 0.01
# The lossless ones, by Pillow's names.
_TIFF_COMPRESSIONS = (
    "raw", "tiff_lzw", "tiff_adobe_deflate", "tiff_deflate", "packbits", "zstd", "lzma",
)  # fmt: skip
#: For messages.
EXPECTED = "a depth frame (16-bit PNG, TIFF or PGM, or .npy)"
_MOST_PIXELS = 1 << 26
_SATURATED = 65535
# Pillow then reuses the memory of a frame for the next one: NYU frames read a third faster.
if "PILLOW_BLOCKS_MAX" not in os.environ:
    Image.core.set_blocks_max(4)

# Pillow also logs the errors that it raises.
logging.getLogger("PIL.TiffImagePlugin").setLevel(logging.CRITICAL)

Values = npt.NDArray[Any]


class DepthFile(NamedTuple):
    """A depth frame as read.

    Attributes:
      depth: (H, W) uint16 or float32 mm, 0 = no reading; gray levels of an 8-bit image for `stretch8`. Read-only.
      description: the kind of file and the unit: "16-bit PNG, 0.25 mm per count".
    """

    depth: npt.NDArray[Any]
    description: str


def read_depth(
    path: str | Path,
    frame_format: str = "depth16",
    depth_unit_mm: float = 1.0,
    floats_in_mm: bool = False,
) -> DepthFile:
    """Reads one depth frame; see the table of this module.

    Args:
      path: of the file.
      frame_format: the track's.
      depth_unit_mm: mm per count of integer values; an Intel SR305 has 0.125.
      floats_in_mm: True: `depth_unit_mm` is the track's, and floats, which are mm, ignore it. False: the user gave it,
        and floats with a unit other than 1 are refused.

    Raises:
      UnreadableFrame: missing, damaged, of another kind, too large, in meters, or without any reading.
      UserError: a unit that is not a positive number.
    """
    check_depth_unit(depth_unit_mm)
    try:
        values, kind = _stored(path, frame_format)
        return depth_of(values, kind, frame_format, depth_unit_mm, floats_in_mm)
    except UnreadableFrame as error:
        raise UnreadableFrame(error.reason, path, error.detail) from error


def read_values(path: str | Path, frame_format: str = "depth16") -> tuple[Values, str]:
    """The numbers of a frame as they are stored, whatever their unit, and the kind of file: for a diagnosis.

    Raises:
      UnreadableFrame: missing, damaged, or of another kind.
    """
    try:
        return _stored(path, frame_format)
    except UnreadableFrame as error:
        raise UnreadableFrame(error.reason, path, error.detail) from error


def in_metres(depth: Values) -> bool:
    """Whether nearly all readings, taken as mm, are nearer than any camera measures."""
    plausible = np.count_nonzero(depth >= NEAREST_MM)
    return bool(plausible < _MOST_OUTLIERS * np.count_nonzero(depth > 0))


def check_depth_unit(depth_unit_mm: float) -> None:
    """Validates mm per count.

    Raises:
      UserError: not a positive number.
    """
    if not (np.isfinite(depth_unit_mm) and depth_unit_mm > 0):
        raise UserError(f"depth_unit_mm {depth_unit_mm:g}: expected a number above 0")


def _stored(path: str | Path, frame_format: str) -> tuple[Values, str]:
    """`read_values`, whose errors do not name the file."""
    try:
        contents = read_contents(path, EXPECTED)
    except UserError as error:
        reason = str(error).removeprefix(f"{printable(str(path))}: ")
        raise UnreadableFrame(reason) from error
    return _decode(contents, frame_format)


def _decode(contents: bytes, frame_format: str) -> tuple[Values, str]:
    """The numbers of a file, (H, W) of any type, and a description of its kind."""
    for start, decode in _DECODERS.items():
        if contents.startswith(start):
            return decode(contents, frame_format)
    for start, name in _REFUSED.items():
        if contents.startswith(start):
            raise UnreadableFrame(f"is {name}; expected {EXPECTED}")
    if not contents:
        raise UnreadableFrame("is empty; a download or copy was cut off")
    raise UnreadableFrame(f"not an image, or cut off in its first bytes; expected {EXPECTED}")


def depth_of(
    values: Values,
    kind: str,
    frame_format: str = "depth16",
    depth_unit_mm: float = 1.0,
    floats_in_mm: bool = False,
) -> DepthFile:
    """Converts stored values to depth; `kind` begins the description, the other arguments are those of `read_depth`.

    Raises:
      UnreadableFrame: as `read_depth`, without the name of the file.
    """
    if floats_in_mm and values.dtype.kind == "f":
        depth_unit_mm = 1.0
    by_order = frame_format == "stretch8"  # units do not matter there
    if values.ndim != 2 or not values.size:
        raise UnreadableFrame(
            "not one depth image (height, width)", detail=f"found shape {values.shape}"
        )
    _check_size(values.shape[1], values.shape[0])
    if values.dtype.itemsize == 1 and not by_order:
        raise UnreadableFrame(f"has 8-bit values ({kind}); expected {_expected(frame_format)}")
    depth = _in_mm(values, 1.0 if by_order else depth_unit_mm)
    highest = depth.max()
    if not highest > 0:
        negative = values.dtype.kind != "u" and depth.min() < 0
        raise UnreadableFrame(
            "no depth is above 0; expected mm from the camera, counted positive"
            if negative
            else "no reading at all (every pixel is 0)"
        )
    is_float = values.dtype.kind == "f"
    if is_float and not by_order and in_metres(depth):
        raise UnreadableFrame(IN_METRES)
    saturated = values.dtype == np.uint16 and not by_order and values.max() == _SATURATED
    if saturated and not np.any((values > 0) & (values < _SATURATED)):
        raise UnreadableFrame("every reading is 65,535: a saturated sensor saw nothing")
    unit = "used by order only" if by_order else f"{depth_unit_mm:g} mm per count"
    description = f"{kind}, {'mm' if is_float and not by_order else unit}"
    if values.dtype.kind != "u" and depth.min() < 0:
        depth = np.maximum(depth, np.float32(0))
        description += ", negative values taken as no reading"
    return DepthFile(depth, description)


def _in_mm(values: Values, unit_mm: float) -> Values:
    """uint16 where values have that type and need no scaling, else float32; non-finite values become 0."""
    if values.dtype.kind == "f":
        if unit_mm != 1:
            raise UnreadableFrame(
                "holds decimal numbers, which are mm: leave out the depth unit, or save integers"
            )
        with np.errstate(over="ignore"):  # a float64 beyond float32 becomes inf: no reading
            depth = values.astype(np.float32)
        return np.where(np.isfinite(depth), depth, np.float32(0))
    if values.dtype.itemsize > 2 or values.dtype.kind == "i":
        return (values * float(unit_mm)).astype(np.float32)
    if unit_mm != 1:
        return values.astype(np.float32) * np.float32(unit_mm)
    return values.astype(np.uint16, copy=False)


def _expected(frame_format: str) -> str:
    return {
        "nyu_packed": "NYU's 8-bit RGB image with depth = G*256 + B, or a one-channel 16-bit one",
        "stretch8": "an 8-bit image, gray or RGB, or a one-channel 16-bit one",
    }.get(frame_format, "a one-channel 16-bit image")


# --- images


def _png(contents: bytes, frame_format: str) -> tuple[Values, str]:
    """The numbers of a PNG.

    Pillow leaves rows that the compressed data lack at 0, silently: a mark in the pixel that is decoded last would
    still be there. A frame may hold that very value, but no second one.
    """
    with _opened(contents, "PNG") as image:
        wide = image.tile[0].args.endswith(";16B")
        if wide and image.mode != "I;16":
            raise UnreadableFrame(
                f"is a 16-bit PNG of several channels; expected {_expected(frame_format)}"
            )
        # Adam7's last pass has the odd rows.
        (width, height), interlaced = image.size, image.info.get("interlace", 0)
        last = width - 1, max(height - 1 - (interlaced and height % 2), 0)
        image.verify()  # all checksums, at 1 % of the cost of decoding; `load` ignores those of the pixels
        packed = frame_format == "nyu_packed" and image.mode == "RGB"
    verified, contents = contents, _uncompressed(contents)
    if packed and contents is not verified:
        with contextlib.suppress(
            RuntimeError
        ):  # a filter that does not exist: Pillow refuses it below
            rgb = pyspng.load(contents, "RGB")  # undoes the filters several times as fast
            return _unpacked(rgb[..., 1], rgb[..., 2]), "8-bit RGB PNG with G*256 + B"
    for mark in (165, 90):
        with _opened(contents, "PNG") as image:
            bands = len(image.getbands())
            value = mark if bands == 1 else (mark,) * bands
            # PNG's own would refuse interlaced images the second time, in `load`.
            ImageFile.ImageFile.load_prepare(image)
            image.im.putpixel(last, value)
            image.load()
            if image.im.getpixel(last) == value:
                continue
            if wide:
                return np.asarray(image).astype(np.uint16, copy=False), "16-bit PNG"
            return _from_8_bit(image, "PNG", frame_format)
    raise UnreadableFrame("truncated image: rows are missing; copy or download it again")


def _uncompressed(contents: bytes) -> bytes:
    """A PNG with its rows stored without compression, which is read in half the time.

    Rows are inflated by libdeflate, several times as fast as by Pillow's zlib; whoever reads the result undoes their
    filters. Without the extra `[fast]`, for unusual kinds of PNG, and where rows are missing or damaged: `contents`
    themselves, for Pillow to read or refuse.

    Args:
      contents: of a PNG whose chunks and checksums are verified.
    """
    width, height, bits, color, *_, interlaced = struct.unpack(">IIBBBBB", contents[16:29])
    if deflate is None or bits not in (8, 16) or color not in (0, 2) or interlaced:
        return contents
    begin = 8
    while contents[begin + 4 : begin + 8] not in (b"IDAT", b""):
        begin += _chunk_bytes(contents, begin)
    end, parts = begin, []
    while contents[end + 4 : end + 8] == b"IDAT":
        parts.append(contents[end + 8 : end + _chunk_bytes(contents, end) - 4])
        end += _chunk_bytes(contents, end)
    if contents[end + 4 : end + 8] != b"IEND":  # Pillow reads more, and may refuse it
        return contents
    compressed = b"".join(parts)
    row_bytes = 1 + width * (3 if color else 1) * bits // 8  # the first names the filter
    try:
        rows = deflate.zlib_decompress(compressed, height * row_bytes)
    except deflate.DeflateError:
        return contents
    # zlib refuses distances beyond a smaller window ("x" stands for the usual one); libdeflate does not.
    if len(rows) != height * row_bytes or compressed[:1] != b"x":
        return contents
    stored = deflate.zlib_compress(rows, 0)
    head = len(stored).to_bytes(4, "big") + b"IDAT"
    # The checksum is left out: it was verified, and Pillow skips it.
    return b"".join((contents[:begin], head, stored, bytes(4), contents[end:]))


def _chunk_bytes(contents: bytes, begin: int) -> int:
    """Size of the PNG chunk that begins there: length, kind, data and checksum."""
    return 12 + int.from_bytes(contents[begin : begin + 4], "big")


def _check_size(width: int, height: int) -> None:
    if not (width and height and width * height <= _MOST_PIXELS):
        raise UnreadableFrame(
            "damaged image, or not a depth frame: absurd size", detail=f"{width} x {height} px"
        )


def _tiff(contents: bytes, frame_format: str) -> tuple[Values, str]:
    with _opened(contents, "TIFF") as image:
        if image.n_frames > 1:
            raise UnreadableFrame("holds several images; expected one frame per file")
        return tiff_page(image, frame_format)


def tiff_page(image: Any, frame_format: str) -> tuple[Values, str]:
    """The numbers of the page of a TIFF that its Pillow image is at, and a description; call within `pillow_damage`.

    Raises:
      UnreadableFrame: compressed with loss, or of several channels.
    """
    _check_size(*image.size)
    with _stderr_muted():
        image.load()
        bits, signed = max(image.tag_v2.get(258, (1,))), image.tag_v2.get(339, (1,))[0] == 2
    if image.info.get("compression") not in _TIFF_COMPRESSIONS:
        raise UnreadableFrame("is a TIFF compressed with loss; expected LZW, deflate or none")
    if image.mode in ("I", "F", "I;16", "I;16B", "I;16L", "I;16N"):
        values = np.asarray(image)
        if image.mode == "I" and bits == 32 and not signed:
            values = values.view(np.uint32)  # Pillow has signed ones only
        kind = "float TIFF" if image.mode == "F" else f"{bits}-bit TIFF"
        return values.astype(values.dtype.newbyteorder("="), copy=False), kind
    if bits > 8:
        raise UnreadableFrame(
            f"is a {bits}-bit TIFF of several channels; expected {_expected(frame_format)}"
        )
    return _from_8_bit(image, "TIFF", frame_format)


def _from_8_bit(image: Image.Image, kind: str, frame_format: str) -> tuple[Values, str]:
    name = {"L": "gray", "LA": "gray", "P": "palette"}.get(image.mode, image.mode)
    name = f"8-bit {name} {kind}"
    if frame_format == "nyu_packed" and image.mode == "RGB":
        # Two channels on their own: six times as fast as all three interleaved.
        green, blue = (np.asarray(image.getchannel(channel)) for channel in "GB")
        return _unpacked(green, blue), f"{name} with G*256 + B"
    if frame_format == "stretch8" and image.mode in ("L", "LA", "RGB", "RGBA", "P"):
        gray = image.convert("RGB") if image.mode == "P" else image
        return np.asarray(gray.getchannel(0)), name
    hint = "; NYU's packed frames need track 'nyu'" if image.mode == "RGB" else ""
    raise UnreadableFrame(f"is an {name}; expected {_expected(frame_format)}{hint}")


def _unpacked(green: Values, blue: Values) -> Values:
    """(H, W) uint8 high and low bytes -> (H, W) uint16."""
    depth = green.astype(np.uint16)
    depth <<= 8
    depth |= blue
    return depth


@contextlib.contextmanager
def _opened(contents: bytes, kind: str) -> Iterator[Any]:
    """An image of one of Pillow's formats, of a plausible size, within `pillow_damage`."""
    with pillow_damage(), Image.open(io.BytesIO(contents), formats=(kind,)) as image:
        _check_size(*image.size)
        yield image


@contextlib.contextmanager
def pillow_damage() -> Iterator[None]:
    """Within, warnings are ignored, and any exception means that an image is damaged.

    Raises:
      UnreadableFrame: in its place.
    """
    try:
        with warnings.catch_warnings(action="ignore"):
            yield
    except UnreadableFrame:
        raise
    except Exception as error:  # Pillow raises exceptions of any kind on a damaged file
        damage = "truncated" if "truncated" in str(error).lower() else "damaged or unsupported"
        detail = "" if isinstance(error, UnidentifiedImageError) else printable(str(error), 80)
        reason = f"{damage} image; copy or download it again"
        raise UnreadableFrame(reason, detail=detail) from error


@contextlib.contextmanager
def _stderr_muted() -> Iterator[None]:
    """Within, nothing reaches the terminal: libtiff prints the errors that are raised anyway."""
    try:
        terminal = os.dup(2)
    except OSError:  # it is closed
        yield
        return
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(terminal, 2)
        os.close(nowhere)
        os.close(terminal)


# Numbers of the header: separated by whitespace and comments, the last one ended by one character.
_PGM_HEADER = re.compile(rb"P[25]" + rb"(?:\s|#[^\r\n]*[\r\n])+(\d{1,9})" * 3 + rb"\s")


def _pgm(contents: bytes, frame_format: str) -> tuple[Values, str]:
    """A PGM's samples unscaled: Pillow would scale them so that the header's maximum becomes 65,535."""
    header = _PGM_HEADER.match(contents[:4096])
    if header is None:
        raise UnreadableFrame("damaged PGM header")
    width, height, highest = map(int, header.groups())
    _check_size(width, height)
    if not 0 < highest < 65536:
        raise UnreadableFrame("damaged PGM header", detail=f"maxval {highest}")
    bits, count, data = (16 if highest > 255 else 8), width * height, contents[header.end() :]
    try:
        if contents[:2] == b"P5":
            size = count * bits // 8
            values = np.frombuffer(data[:size], ">u2" if bits == 16 else "u1")
            whole = not data[size:].strip()
        else:
            with warnings.catch_warnings(action="error"):  # text that is no number
                values, whole = np.fromstring(data, np.int64, sep=" "), True
        whole = whole and len(values) == count and 0 <= values.min() <= values.max() <= highest
    except (ValueError, DeprecationWarning):
        whole = False
    if not whole:
        raise UnreadableFrame("damaged PGM: its samples do not fit its header; copy it again")
    return values.reshape(height, width).astype(f"u{bits // 8}"), f"{bits}-bit PGM"


def _npy(contents: bytes, frame_format: str) -> tuple[Values, str]:
    try:
        values = parse_npy(contents)
    except ValueError as error:
        raise UnreadableFrame(f"{error}; save the depth with np.save(path, depth_mm)") from error
    if values.dtype.kind not in "iuf":
        raise UnreadableFrame("an array of booleans or text; expected numbers, depth in mm")
    return values.astype(values.dtype.newbyteorder("="), copy=False), f"{values.dtype.name} .npy"


_DECODERS: dict[bytes, Callable[[bytes, str], tuple[Values, str]]] = {
    b"\x89PNG\r\n\x1a\n": _png,
    b"\x93NUMPY": _npy,
    b"II*\0": _tiff,
    b"MM\0*": _tiff,
    b"II+\0": _tiff,  # with 64-bit offsets
    b"MM\0+": _tiff,
    b"P5": _pgm,
    b"P2": _pgm,
}
_REFUSED = {
    b"PK": "an archive (.npz) of several arrays",
    b"\xff\xd8": "a JPEG image, whose values are approximate",
    b"BM": "a BMP image",
    b"\x89HDF": "an HDF5 file",
    b"\x1aE\xdf\xa3": "a Matroska video, which a2j predict reads",
}
