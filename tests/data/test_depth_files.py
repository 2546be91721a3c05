"""The one reader of depth: what each kind of file means, and one clear line for each that cannot be used."""

import contextlib
import io
import os
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from a2j_jax.data import depth_files
from a2j_jax.data.depth_files import read_depth
from a2j_jax.errors import UnreadableFrame, UserError
from a2j_jax.inference.frames import read_frame
from tests.data.made_files import changed, npy

RNG = np.random.default_rng(0)
DEPTH = RNG.integers(0, 1 << 16, (12, 16)).astype(np.uint16)
DEPTH[0, :3] = 0, 65535, 256
GRAY = DEPTH.astype(np.uint8)
PACKED = np.stack([DEPTH % 251, DEPTH >> 8, DEPTH & 255], -1).astype(np.uint8)


def image(array, kind="PNG", mode="", **options):
    file, drawn = io.BytesIO(), Image.fromarray(array)
    (drawn.convert(mode) if mode else drawn).save(file, kind, **options)
    return file.getvalue()


def pgm(array, highest, comment=""):
    head = f"P5\n{comment}{array.shape[1]} {array.shape[0]}\n{highest}\n".encode()
    return head + array.astype(">u2" if highest > 255 else "u1").tobytes()


def chunk(kind, data):
    return len(data).to_bytes(4, "big") + kind + data + zlib.crc32(kind + data).to_bytes(4, "big")


def png(width, height, color=0, raw=b"", passes=0, bits=16):
    head = struct.pack(">IIBBBBB", width, height, bits, color, 0, 0, passes)
    parts = chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(raw)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + parts


def write(folder, contents, name="frame"):
    path = folder / name
    path.write_bytes(contents)
    return path


SMALL = np.minimum(DEPTH, 600)
WIDE = DEPTH.astype(np.int32) * 3  # up to 196,605: wraps in 16 bits
MM = DEPTH.astype(np.float32) + np.float32(0.25)


@pytest.mark.parametrize(
    ("contents", "frame_format", "unit", "expected", "described"),
    [
        (image(DEPTH), "depth16", 1, DEPTH, "16-bit PNG, 1 mm per count"),
        (image(DEPTH), "nyu_packed", 1, DEPTH, "16-bit PNG"),
        (image(DEPTH), "metres", 0.25, DEPTH * 0.25, "16-bit PNG, 0.25 mm per count"),
        (image(DEPTH, "TIFF"), "depth16", 1, DEPTH, "16-bit TIFF"),
        (image(DEPTH, "TIFF", compression="tiff_lzw"), "depth16", 0.5, DEPTH * 0.5, "0.5 mm"),
        (image(WIDE, "TIFF"), "depth16", 0.01, WIDE * 0.01, "32-bit TIFF, 0.01 mm per count"),
        (image(WIDE, "TIFF"), "depth16", 1, WIDE, "32-bit TIFF"),
        (image(MM, "TIFF"), "depth16", 1, MM, "float TIFF, mm"),
        (pgm(DEPTH, 65535), "depth16", 1, DEPTH, "16-bit PGM"),
        (pgm(SMALL, 4095, "# a camera\n"), "depth16", 1, SMALL, "16-bit PGM"),
        (pgm(SMALL, 600), "depth16", 0.25, SMALL * 0.25, "16-bit PGM, 0.25 mm per count"),
        (b"P2\n#c\n2 2 600 0 600\n\n1 2", "depth16", 1, [[0, 600], [1, 2]], "16-bit PGM"),
        (npy(DEPTH), "depth16", 0.125, DEPTH * 0.125, "uint16 .npy, 0.125 mm per count"),
        (npy(DEPTH), "depth16", 1, DEPTH, "uint16 .npy, 1 mm per count"),
        (npy(DEPTH.astype(">i4")), "depth16", 1, DEPTH, "int32 .npy"),
        (npy(WIDE.astype(np.int64)), "depth16", 1, WIDE, "int64 .npy"),
        (npy(np.asfortranarray(MM)), "depth16", 1, MM, "float32 .npy, mm"),
        (npy(MM.astype(np.float64)), "nyu_packed", 1, MM, "float64 .npy, mm"),
        (npy(np.array([[np.nan, np.inf, -5.0, 1e300, 700]])), "depth16", 1, [[0] * 4 + [700]], ""),
        (npy(np.array([[-1, 0, 700]], np.int16)), "depth16", 1, [[0, 0, 700]], "1 mm per count, negative"),
        (image(PACKED), "nyu_packed", 1, DEPTH, "8-bit RGB PNG with G*256 + B, 1 mm per count"),
        (image(PACKED), "stretch8", 1, PACKED[..., 0], "8-bit RGB PNG, used by order only"),
        (image(GRAY), "stretch8", 1, GRAY, "8-bit gray PNG"),
        (image(GRAY, mode="P"), "stretch8", 1, GRAY, "8-bit palette PNG"),
        (image(GRAY, mode="LA"), "stretch8", 1, GRAY, ""),
        (image(GRAY, mode="RGBA"), "stretch8", 1, GRAY, ""),
        (pgm(GRAY, 255), "stretch8", 1, GRAY, "8-bit PGM"),
        (pgm(np.minimum(GRAY, 99), 99), "stretch8", 1, np.minimum(GRAY, 99), "8-bit PGM"),
        (npy(GRAY), "stretch8", 1, GRAY, "uint8 .npy"),
        (image(DEPTH), "stretch8", 0.25, DEPTH, "16-bit PNG, used by order only"),
        (npy(MM / 65536), "stretch8", 1, MM / 65536, "float32 .npy"),
    ],
)  # fmt: skip
def test_values(tmp_path, contents, frame_format, unit, expected, described):
    path = write(tmp_path, contents)
    depth, description = read_depth(path, frame_format, unit)
    # Whole millimeters that fit stay what they are.
    whole = np.array_equal(expected, DEPTH) and "int32" not in description
    assert depth.dtype == np.uint16 if whole else depth.dtype in (np.uint16, np.float32)
    np.testing.assert_allclose(depth, expected, rtol=1e-6)
    assert described in description
    assert read_frame(path, frame_format, unit).dtype == np.float32


def test_unsigned_32_bit_counts_beyond_2_31(tmp_path):
    counts = np.array([[1, 1 << 31, (1 << 32) - 1]], np.uint32)
    signed = image(counts.view(np.int32), "TIFF")
    entry = struct.pack("<HHI", 339, 3, 1)  # the kind of samples
    assert signed.count(entry + b"\2\0") == 1
    unsigned = signed.replace(entry + b"\2\0", entry + b"\1\0")
    np.testing.assert_allclose(read_depth(write(tmp_path, unsigned)).depth, counts)
    np.testing.assert_array_equal(read_depth(write(tmp_path, signed)).depth, [[1, 0, 0]])


@pytest.mark.parametrize("interlaced", [False, True])
def test_missing_rows_of_a_png_are_noticed(tmp_path, interlaced):
    """Pillow fills them with 0, which is what the last rows of a real frame may hold."""
    depth = np.where(np.arange(12)[:, None] < 9, DEPTH | 1, 165 * (np.arange(12)[:, None] == 11))
    rows = depth.astype(">u2")
    adam7 = "0088408804482044022410220112"
    passes = [map(int, adam7[at : at + 4]) for at in range(0, 28, 4)]
    parts = [rows[y::v, x::u] for x, y, u, v in passes] if interlaced else [rows]
    raw = b"".join(b"\0" + row.tobytes() for part in parts for row in part)
    contents = png(16, 12, raw=raw, passes=interlaced)
    np.testing.assert_array_equal(read_depth(write(tmp_path, contents)).depth, depth)
    with pytest.raises(UnreadableFrame, match="rows are missing"):
        read_depth(write(tmp_path, png(16, 12, raw=raw[: -33 * 2], passes=interlaced)))


def header(text):
    return b"\x93NUMPY\x01\0" + len(text).to_bytes(2, "little") + text.encode()


def tiff_16_bit_rgb():
    """2 x 2 px, which Pillow reads as 8-bit RGB."""
    tags = {256: 2, 257: 2, 258: 134, 259: 1, 262: 2, 273: 140, 277: 3, 278: 2, 279: 24, 339: 1}
    entries = [struct.pack("<HHII", tag, 3, 3 if tag == 258 else 1, v) for tag, v in tags.items()]
    return b"II*\0\x08\0\0\0\x0a\0" + b"".join(entries) + bytes(4) + b"\x10\0" * 3 + bytes(24)


TWO_PAGES = image(DEPTH, "TIFF", save_all=True, append_images=[Image.fromarray(DEPTH)])
_IHDR = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", 16, 12, 16, 0, 0, 0, 0))
UNUSABLE: list[tuple[bytes, str, str]] = [
    (b"", "depth16", "empty"),
    (b"not a picture", "depth16", "not an image"),
    (b"%!PS-Adobe-3.0 EPSF-3.0\n", "depth16", "not an image"),
    (image(DEPTH)[:20], "depth16", "truncated"),
    (image(DEPTH)[:300], "depth16", "truncated"),
    (image(DEPTH)[:-12], "depth16", "truncated"),
    (_IHDR + chunk(b"IEND", b""), "depth16", "image"),
    (png(16, 12, raw=bytes(33 * 5)), "depth16", "image"),
    (image(DEPTH)[:-20] + b"more" + image(DEPTH)[-16:], "depth16", r"checksum in b'IDAT'"),
    (png(60000, 60000), "depth16", "size"),
    (png(0, 12), "depth16", "image"),
    (png(16, 12, color=2, raw=bytes(97 * 12)), "depth16", "several channels"),
    (image(DEPTH, "TIFF")[:100], "depth16", "image"),
    (TWO_PAGES, "depth16", "several images"),
    (image(PACKED, "TIFF", compression="jpeg"), "nyu_packed", "loss"),
    (tiff_16_bit_rgb(), "nyu_packed", "16-bit TIFF of several channels"),
    (image(GRAY, "JPEG"), "stretch8", "JPEG"),
    (image(GRAY, "BMP"), "stretch8", "BMP"),
    (image(np.where(DEPTH > 256, np.uint16(65535), np.uint16(0))), "depth16", "saturated"),
    (pgm(DEPTH, 65535)[:-2], "depth16", "samples"),
    (pgm(DEPTH, 65535) + b"P5", "depth16", "samples"),
    (pgm(DEPTH, 600), "depth16", "samples"),  # some are above the highest
    (b"P5\n60000 60000\n65535\n", "depth16", "size"),
    (b"P5\n2 2\n65536\n", "depth16", "header"),
    (b"P5\n2 two\n", "depth16", "header"),
    (b"P2\n2 2 600\n0 600 7 x", "depth16", "samples"),
    (b"P2\n2 2 600\n0 600 7", "depth16", "samples"),
    *((image(GRAY), f, "8-bit gray PNG.*16-bit") for f in ("depth16", "nyu_packed")),
    *((pgm(GRAY, 255), f, "8-bit PGM.*16-bit") for f in ("depth16", "nyu_packed")),
    (npy(GRAY), "depth16", "8-bit.*16-bit"),
    (image(PACKED), "depth16", "8-bit RGB PNG.*16-bit.*track 'nyu'"),
    (image(GRAY, mode="RGBA"), "nyu_packed", "RGBA.*RGB"),
    (npy(np.zeros((2, 3, 4))), "depth16", r"\(2, 3, 4\)"),
    (npy(np.zeros((0, 3))), "depth16", r"\(0, 3\)"),
    (npy(np.array([[{}]], object)), "depth16", "numbers"),
    (npy(np.array([["a"]])), "depth16", "numbers"),
    (npy(np.zeros((2, 2), [("a", "f4")])), "depth16", "numbers"),
    (npy(np.ones((2, 2), complex)), "depth16", "numbers"),
    (npy(np.ones((2, 2), bool)), "depth16", "booleans"),
    (npy(DEPTH)[:200], "depth16", "truncated"),
    (npy(DEPTH) + b"more", "depth16", "damaged"),
    (header("{'descr': '<u2', 'fortran_order': False, 'shape': (99999999, 99999)}"), "depth16", "tru"),
    (header("{'descr': '<u2', 'fortran_order': False, 'shape': (-1, -1)}"), "depth16", "damaged"),
    (header("{'descr': '<u2', 'fortran_order': False, 'shape': (0, 1" + "0" * 30 + ")}"), "depth16", "damaged"),
    (header("(" * 9000), "depth16", "damaged"),
    *((npy(DEPTH)[:length], "depth16", r"\.npy") for length in (6, 7, 8, 10, 60)),
    (header("'\\d' + 1"), "depth16", "damaged"),
    (header("{[]: 1}"), "depth16", "damaged"),
    (b"PK\3\4", "depth16", "archive"),
    (image(DEPTH * 0), "depth16", "no reading at all"),
    (npy(np.full((4, 4), np.nan)), "depth16", "no reading at all"),
    (npy(np.full((4, 4), -700.0)), "depth16", "above 0"),
    (npy(np.full((4, 4), -700)), "depth16", "above 0"),
    (npy(np.full((4, 4), 0.6)), "depth16", "meters"),
    (npy(np.where(np.arange(400) < 3, 65.535, 0.6)[None]), "depth16", "meters"),
    (npy(np.array([[np.nan, 0.6, -1, np.inf]], np.float16)), "metres", "meters"),
    (image(np.full((4, 4), 0.6, np.float32), "TIFF"), "depth16", "meters"),
]  # fmt: skip


@pytest.mark.parametrize(("contents", "frame_format", "words"), UNUSABLE)
def test_what_cannot_be_used(tmp_path, contents, frame_format, words):
    path = write(tmp_path, contents, "frame_77.png")
    with pytest.raises(UnreadableFrame, match=words) as error:
        read_depth(path, frame_format)
    assert str(error.value).startswith(f"{path}: ")
    assert "\n" not in str(error.value)
    assert "frame_77" not in error.value.reason  # counted together with others of its kind


@pytest.mark.parametrize(
    ("contents", "unit", "words"),
    [
        (npy(MM), 0.125, "decimal numbers"),
        (image(MM, "TIFF"), 0.125, "decimal numbers"),
        *((image(DEPTH), unit, "depth_unit_mm") for unit in (0.0, -1.0, np.nan, np.inf)),
    ],
)
def test_units_that_cannot_be(tmp_path, contents, unit, words):
    with pytest.raises(UserError, match=words):
        read_depth(write(tmp_path, contents), depth_unit_mm=unit)


def test_only_regular_files_are_opened(tmp_path):
    (tmp_path / "folder.png").mkdir()
    os.mkfifo(tmp_path / "pipe.png")
    cases = {"folder.png": "folder", "pipe.png": "pipe", "absent.png": "no such file"}
    for name, words in cases.items():
        with pytest.raises(UnreadableFrame, match=words) as error:
            read_depth(tmp_path / name)
        assert words in error.value.reason
        assert name not in error.value.reason


@pytest.mark.parametrize("contents", [image(DEPTH), image(PACKED), image(GRAY)])
def test_no_changed_bit_of_a_png_goes_unnoticed(tmp_path, contents):
    frame_format = {2: "nyu_packed", 0: "stretch8"}[contents[25]]
    expected = read_depth(write(tmp_path, contents), frame_format).depth
    for bit in np.random.default_rng(1).choice(8 * len(contents), 300, replace=False):
        flipped = bytearray(contents)
        flipped[bit // 8] ^= 1 << bit % 8
        path = write(tmp_path, bytes(flipped))
        with contextlib.suppress(UnreadableFrame):
            np.testing.assert_array_equal(read_depth(path, frame_format).depth, expected)


def outcome(path, frame_format):
    """What reading it gives: values and description, or the message."""
    try:
        depth, description = read_depth(path, frame_format)
    except UnreadableFrame as error:
        return str(error)
    return depth.dtype, depth.tolist(), description


def packed_png(rows):
    """An 8-bit RGB PNG of random numbers; the filter of each row is its number modulo 5, or 7, which does not exist."""
    filters = [row if row == 7 else row % 5 for row in rows]
    raw = b"".join(bytes([one]) + RNG.bytes(48) for one in filters)
    return png(16, 12, 2, raw, bits=8)


SMOOTH = np.add.outer(np.arange(64) * 300, np.arange(48) * 7).astype(np.uint16)  # several filters


@pytest.mark.parametrize(
    ("contents", "frame_format", "is_fast"),
    [
        (image(DEPTH), "depth16", True),
        (image(SMOOTH), "depth16", True),
        (
            image(RNG.integers(0, 1 << 16, (200, 200)).astype(np.uint16)),
            "depth16",
            True,
        ),  # in two chunks
        (image(PACKED), "nyu_packed", True),
        (image(GRAY), "stretch8", True),
        (image(PACKED, mode="RGBA"), "stretch8", False),
        (image(GRAY, mode="P"), "stretch8", False),
        (png(16, 12, 0, bytes(11 * 33)), "depth16", False),
        (png(16, 12, 0, b"\1" * 12 * 33 + b"more"), "depth16", False),
        (png(16, 12, 0, b"\7" * 12 * 33), "depth16", True),  # there is no such filter
        (png(16, 12, 0, DEPTH.tobytes(), passes=1), "depth16", False),
        (png(16, 12, 2, b"\1" * 12 * 97), "depth16", True),
        (packed_png(rows=range(12)), "nyu_packed", True),
        (packed_png(rows=[7] * 12), "nyu_packed", True),
        (
            image(PACKED).replace(b"\0\0\0\0IEND", chunk(b"tEXt", b"a\0b") + b"\0\0\0\0IEND"),
            "nyu_packed",
            False,
        ),
    ],
)
def test_the_faster_reader_of_pngs_changes_nothing(
    tmp_path, monkeypatch, contents, frame_format, is_fast
):
    pytest.importorskip("deflate")
    pytest.importorskip("pyspng")
    assert (depth_files._uncompressed(contents) != contents) == is_fast
    rng = np.random.default_rng(3)
    paths = [write(tmp_path, contents)]
    paths += [write(tmp_path, changed(contents, rng), f"{number}") for number in range(50)]
    fast = [outcome(path, frame_format) for path in paths]
    monkeypatch.setattr(depth_files, "deflate", None)
    assert fast == [outcome(path, frame_format) for path in paths]


@pytest.mark.parametrize(
    "contents",
    [image(DEPTH, "TIFF", compression="tiff_lzw"), image(DEPTH, "TIFF"), pgm(SMALL, 600), npy(MM)],
)
def test_changed_files_of_other_kinds_are_read_or_refused(tmp_path, contents, capfd):
    rng = np.random.default_rng(2)
    for _ in range(200):
        path = write(tmp_path, changed(contents, rng))
        with contextlib.suppress(UnreadableFrame):
            assert read_depth(path).depth.max() > 0
    assert capfd.readouterr().err == ""  # libtiff prints by itself
