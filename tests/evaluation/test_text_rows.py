"""Rows of numbers: whatever separates them, and by line where something is wrong."""

from pathlib import Path

import numpy as np
import pytest

from a2j_jax.errors import UserError
from a2j_jax.evaluation.joint_formats import read_rows

VALUES = [[1.5, -2.0, 300.0], [4.0, 5e-3, 6e2]]


@pytest.mark.parametrize(
    "text",
    [
        "1.5 -2 300\n4 0.005 600",
        "1.5 -2 300 \n4 0.005 600 \n",
        "1.5,-2,300\r\n4,0.005,600\r\n",
        "1.5, -2, 300,\n4, 0.005, 600,\n",
        "1.5\t-2\t300\t\n4\t5e-3\t6.0E+02\t\n",
        "\n  1.5   -2 300\n\n \t\n4 0.005 600\n\n",
        "\ufeff1.5 -2 300\n4 0.005 600\n",
        "# u v d\n1.5;-2;300\n  # between\n4;0.005;600;\n",
        "; a header\n1.5 -2 300\n4 0.005 600\n% the end\n",
        "1.5 -2 3_00\n4 0.005 600\n",  # slower, as Python reads it
    ],
)
def test_separators_blank_lines_and_exponents(tmp_path: Path, text: str) -> None:
    (tmp_path / "rows.txt").write_bytes(text.encode())
    rows = read_rows(tmp_path / "rows.txt")
    np.testing.assert_array_equal(rows.values, VALUES)
    assert rows.names is None


def test_names_in_front(tmp_path: Path) -> None:
    (tmp_path / "rows.txt").write_text("a/b.png 1.5 -2 300 \n\nc.png,4,0.005,600\n", "utf-8")
    rows = read_rows(tmp_path / "rows.txt")
    np.testing.assert_array_equal(rows.values, VALUES)
    assert rows.names == ("a/b.png", "c.png")
    np.testing.assert_array_equal(rows.lines, [1, 3])


def test_what_numpy_writes(tmp_path: Path) -> None:
    path = tmp_path / "rows.txt"
    np.savetxt(path, VALUES, delimiter="; ", header="u; v; d", footer="px px mm", encoding="utf-8")
    rows = read_rows(path)
    np.testing.assert_array_equal(rows.values, VALUES)
    np.testing.assert_array_equal(rows.lines, [2, 3])
    path.write_text("# nothing\n")
    with pytest.raises(UserError, match="empty"):
        read_rows(path)


def test_not_a_number_is_a_number(tmp_path: Path) -> None:
    (tmp_path / "rows.txt").write_text("1 nan inf\n-inf 2 NaN\n")
    expected = [[1, np.nan, np.inf], [-np.inf, 2, np.nan]]
    np.testing.assert_array_equal(read_rows(tmp_path / "rows.txt").values, expected)


def test_many_rows(tmp_path: Path) -> None:
    values = np.random.default_rng(0).normal(0, 100, (50, 6))
    np.savetxt(tmp_path / "rows.txt", values, fmt="%.17g")
    rows = read_rows(tmp_path / "rows.txt")
    np.testing.assert_array_equal(rows.values, values)
    np.testing.assert_array_equal(rows.lines, np.arange(1, 51))
    with (tmp_path / "rows.txt").open("a") as file:
        file.write("1 2 3 4 5\n")
    with pytest.raises(UserError, match="row 51: expected 6 numbers"):
        read_rows(tmp_path / "rows.txt")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "empty"),
        (" \n\n", "empty"),
        ("1 2 3\n\n4 5\n", "row 3: expected 3 numbers as in the first row, found 2"),
        ("1 2 3\n4 5\n6 7 8 9\n", "row 2: expected 3"),  # the total would be right
        ("1 2 3\n4 x5 6\n", "row 2: not a number: 'x5'"),
        ("1 2 3\n4 5 6 # seven\n", "row 2: not a number: '#'"),
        ("a 1 2\n3 4\n", "row 2: expected 2"),
        ("a 1 2\nb\n", "row 2: expected 2 numbers as in the first row, found 0"),
    ],
)
def test_bad_rows(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "rows.txt").write_text(text)
    with pytest.raises(UserError, match=message) as caught:
        read_rows(tmp_path / "rows.txt")
    assert "rows.txt" in str(caught.value)


def test_what_is_not_text(tmp_path: Path) -> None:
    (tmp_path / "utf16.txt").write_bytes("1 2 3\n".encode("utf-16"))
    with pytest.raises(UserError, match=r"utf16\.txt.*not readable as text"):
        read_rows(tmp_path / "utf16.txt")
    with pytest.raises(UserError, match="not readable"):
        read_rows(tmp_path)
