"""Arrays in files written elsewhere: read as their own libraries do, or refused in one line; never a crash."""

import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.io import loadmat, savemat

from a2j_jax.data import array_files
from a2j_jax.errors import UserError
from tests.data.made_files import changed, npy, refusal

RNG = np.random.default_rng(0)
VARIABLES: dict[str, Any] = {
    "joints": RNG.normal(size=(20, 4, 3)),
    "index": np.arange(5, dtype=np.int64),
    "valid": np.array([[True, False]]),
    "small": np.float32(1.5),
    "empty": np.zeros((0, 3)),
    "counts": np.arange(3, dtype=np.uint8),
}
OTHERS: dict[str, Any] = {
    "text": "hello",
    "cell": np.array([1, "a"], object),
    "record": {"x": 1},
    "complex": np.array([1j]),
}


def same(found: dict[str, Any], expected: dict[str, Any]) -> bool:
    """As far as there are any: a file may be cut off between two variables."""
    return all(
        (values is None and expected[name] is None)
        or (values.dtype == expected[name].dtype and np.array_equal(values, expected[name]))
        for name, values in found.items()
    )


# --- .npy and .npz


@pytest.mark.parametrize(
    "array",
    [*VARIABLES.values(), np.array(["a", "wé"]), np.array(b"abc"), np.ones((2, 3), ">f2", "F")],
)
def test_npy(array: Any) -> None:
    found = array_files.parse_npy(npy(array))
    assert found.dtype == np.asarray(array).dtype
    np.testing.assert_array_equal(found, array)


def test_npz(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    np.savez_compressed(path, **VARIABLES, names=np.array(["a", "b"]))
    found = array_files.read_npz(path)
    assert found["names"].tolist() == ["a", "b"]
    assert same(
        found, {**{k: np.asarray(v) for k, v in VARIABLES.items()}, "names": found["names"]}
    )


def npz(path: Path, *members: tuple[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, contents in members:
            archive.writestr(name, contents)
    return path


ARRAY = np.arange(4.0)


def edited(contents: bytes, offset: int, value: bytes) -> bytes:
    """With other bytes at an offset into the directory of an archive."""
    at = contents.index(b"PK\1\2") + offset
    return contents[:at] + value + contents[at + len(value) :]


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_npz_that_cannot_be_read(tmp_path: Path) -> None:
    array, path = npy(ARRAY), tmp_path / "a.npz"
    huge = array.replace(b"(4,), }".ljust(20), b"(99999999999,), }".ljust(20))
    assert huge != array

    def archive(*members: tuple[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
        return npz(path, *members, method=method).read_bytes()

    stored = archive(("a.npy", array), method=zipfile.ZIP_STORED)
    text = npy(np.array(["a"]))
    for words, contents in (
        ("twice", archive(*[("a.npy", array)] * 2)),
        ("twice", archive(("a.npy", array), ("a", array))),
        ("not text", archive(("a.npy", text[:-4] + b"\xff\xff\xff\x7f"))),
        ("truncated", archive(("a.npy", huge))),
        ("not a .npy", archive(("a.npy", b"hello"))),
        ("truncated", edited(stored, 24, b"\xff\xff\xff\x7f")),
        ("encrypt", edited(stored, 8, b"\1\0")),
        # The comment of the first takes in the entry of the second.
        ("missing", edited(archive(("a.npy", array), ("b.npy", array)), 32, b"\x33\0")),
        ("single .npy", array),
    ):
        path.write_bytes(contents)
        assert words in refusal(array_files.read_npz, path)


# --- MATLAB


@pytest.mark.parametrize("compressed", [False, True])
def test_mat_is_read_as_scipy_reads_it(tmp_path: Path, compressed: bool) -> None:
    path = tmp_path / "a.mat"
    savemat(path, {**VARIABLES, **OTHERS}, do_compression=compressed)
    found, expected = array_files.mat_arrays(path), loadmat(path)
    assert found.keys() == VARIABLES.keys() | OTHERS.keys()
    assert same({name: found[name] for name in VARIABLES}, expected)
    assert all(found[name] is None for name in OTHERS)
    assert array_files.mat_arrays(path, ("index",))["joints"] is None
    np.testing.assert_array_equal(array_files.read_mat(path, "absent", "index"), [range(5)])
    message = refusal(array_files.read_mat, path, "x", "y")
    assert "no variable 'x' or 'y' (but joints, index" in message
    assert "real numbers" in refusal(array_files.read_mat, path, "cell")


def test_the_published_mat_files_are_read_as_scipy_reads_them(official: Path) -> None:
    paths = sorted(official.rglob("*.mat"))
    assert len(paths) > 10
    for path in paths:
        found = array_files.mat_arrays(path)
        expected = loadmat(path)
        assert found.keys() == {name for name in expected if name[:2] != "__"}
        assert all(values.flags.f_contiguous for values in found.values())
        assert same(found, expected)


def element(*parts: bytes, kind: int = 14) -> bytes:
    data = b"".join(parts)
    return np.array([kind, len(data)], "<u4").tobytes() + data


def part(kind: int, data: bytes) -> bytes:
    return element(data, kind=kind) + bytes(-len(data) % 8)


def variable(shape: tuple[int, ...], stored: int, data: bytes, of_class: int = 6) -> bytes:
    return element(
        part(6, np.array([of_class, 0], "<u4").tobytes()),
        part(5, np.array(shape, "<i4").tobytes()),
        part(1, b"x"),
        part(stored, data),
    )


HEADER = b"MATLAB 5.0 MAT-file".ljust(124) + b"\0\1IM"


@pytest.mark.parametrize(
    ("contents", "words"),
    [
        (b"", "header"),
        (b"hello", "header"),
        (bytes(500), "header"),
        (HEADER.replace(b"5.0", b"7.3"), "7.3.*-v7"),
        (HEADER[:124] + b"\0\2IM", "7.3.*-v7"),
        (HEADER + variable((2, 2), 9, bytes(32)), ""),
        (HEADER + variable((2, 2), 9, bytes(32))[:-8], "truncated"),
        (HEADER + variable((2, 2), 9, bytes(32)) * 2, "twice"),
        (HEADER + variable((2, 3), 9, bytes(32)), "shape"),
        (HEADER + variable((1 << 30, 1 << 30), 9, bytes(32)), "shape"),
        (HEADER + variable((-2, -2), 9, bytes(32)), "shape"),
        (HEADER + variable((2, 2), 13, bytes(32)), "shape"),  # 64-bit integers are no doubles
        (HEADER + variable((2, 2), 9, bytes(32), of_class=8), "shape"),
        (HEADER + element(b"12345678", kind=9), "not a variable"),
        (HEADER + element(zlib.compress(element(bytes(8))), kind=15), "damaged"),
        (HEADER + element(zlib.compress(variable((2, 2), 9, bytes(32)))[:-4], kind=15), "damaged"),
        (HEADER + element(zlib.compress(variable((2, 2), 9, bytes(32)) + b"12345678"), kind=15), "fit"),
        (HEADER + element(b"no zlib at all", kind=15), "not readable"),
    ],
)  # fmt: skip
def test_mat_files_that_cannot_be_read(tmp_path: Path, contents: bytes, words: str) -> None:
    path = tmp_path / "a.mat"
    path.write_bytes(contents)
    if not words:
        np.testing.assert_array_equal(array_files.read_mat(path, "x"), np.zeros((2, 2)))
        return
    with pytest.raises(UserError, match=f"a.mat: .*{words}"):
        array_files.read_mat(path, "x")


def test_older_matlab_and_missing_files(tmp_path: Path) -> None:
    savemat(tmp_path / "a.mat", {"x": np.eye(2)}, format="4")
    assert "version 4" in refusal(array_files.read_mat, tmp_path / "a.mat", "x")
    assert "no such file" in refusal(array_files.read_mat, tmp_path / "b.mat", "x")


@pytest.mark.parametrize("kind", ["stored.mat", "packed.mat", "packed.npz"])
def test_changed_files_are_refused_or_read(tmp_path: Path, kind: str) -> None:
    """With a checksum, never with other values; SciPy's reader crashed on some of such `.mat` files."""
    path = tmp_path / kind
    if kind == "packed.npz":
        np.savez_compressed(path, **VARIABLES)
        read: Any = array_files.read_npz
    else:
        savemat(path, {**VARIABLES, **OTHERS}, do_compression=kind == "packed.mat")
        read = array_files.mat_arrays
    whole, rng = path.read_bytes(), np.random.default_rng(1)
    expected, refused = read(path), 0
    for _ in range(400):
        path.write_bytes(changed(whole, rng))
        try:
            found = read(path)
        except UserError:
            refused += 1
            continue
        assert kind == "stored.mat" or same(found, expected)
    assert refused > 40


# --- Text: a row of numbers per line

ROWS = [[1.5, -2.0, 300.0], [4.0, 5e-3, 6e2]]


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ("1.5 -2 300\n4 0.005 600", [1, 2]),
        ("1.5 -2 300 \n4 0.005 600 \n", [1, 2]),
        ("1.5,-2,300\r\n4,0.005,600\r\n", [1, 2]),
        ("1.5, -2, 300,\n4, 0.005, 600,\n", [1, 2]),
        ("1.5\t-2\t300\t\n4\t5e-3\t6.0E+02\t\n", [1, 2]),
        ("\n  1.5   -2 300\n\n \t\n4 0.005 600\n\n", [2, 5]),
        ("\ufeff1.5 -2 300\n4 0.005 600\n", [1, 2]),
        ("# u v d\n1.5;-2;300\n  # between\n4;0.005;600;\n", [2, 4]),
        ("; a header\n1.5 -2 300\n4 0.005 600\n% the end\n", [2, 3]),
        ("1.5 -2 3_00\n4 0.005 600\n", [1, 2]),  # as Python reads it
        ("a/b.png 1.5 -2 300 \n\na/b.png,4,0.005,600\n", [1, 3]),
    ],
)
def test_separators_blank_lines_and_exponents(tmp_path: Path, text: str, lines: list[int]) -> None:
    (tmp_path / "rows.txt").write_bytes(text.encode())
    rows = array_files.read_rows(tmp_path / "rows.txt")
    np.testing.assert_array_equal(rows.values, ROWS)
    np.testing.assert_array_equal(rows.lines, lines)
    assert rows.names == (("a/b.png",) * 2 if "a/b" in text else None)


def test_text_that_numpy_writes(tmp_path: Path) -> None:
    path = tmp_path / "rows.txt"
    values = [*ROWS, [1, np.nan, np.inf], [-np.inf, 2, np.nan]]
    np.savetxt(path, values, delimiter="; ", header="u; v; d", footer="px px mm", encoding="utf-8")
    np.testing.assert_array_equal(array_files.read_rows(path).values, values)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "empty"),
        (" \n\n", "empty"),
        ("# nothing\n", "empty"),
        ("1 2 3\n\n4 5\n", "row 3: expected 3 numbers as in the first row, found 2"),
        ("1 2 3\n4 5\n6 7 8 9\n", "row 2: expected 3"),  # the total would be right
        ("1 2 3\n4 x5 6\n", "row 2: not a number: 'x5'"),
        ("1 2 3\n4 5 6 # seven\n", "row 2: not a number: '#'"),
        ("a 1 2\n3 4\n", "row 2: expected 2"),
        ("a 1 2\nb\n", "row 2: expected 2 numbers as in the first row, found 0"),
        ("1 2 3\n".encode("utf-16"), "not readable as text"),
    ],
)
def test_bad_rows_of_text(tmp_path: Path, text: str | bytes, message: str) -> None:
    (tmp_path / "rows.txt").write_bytes(text.encode() if isinstance(text, str) else text)
    with pytest.raises(UserError, match=rf"rows\.txt.*{message}"):
        array_files.read_rows(tmp_path / "rows.txt")
