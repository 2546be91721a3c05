"""The record of a start: enough to repeat it, appended to, and nothing private."""

import subprocess
from importlib import metadata
from pathlib import Path

import pytest

import a2j_jax
from a2j_jax.runs import run_dir
from a2j_jax.runs.run_dir import read_starts, record_start


def git(folder: Path, *arguments: str) -> str:
    who = ("-c", "user.name=me", "-c", "user.email=me@here")
    done = subprocess.run(
        ["git", "-C", folder, *who, *arguments], check=True, capture_output=True, text=True
    )
    return done.stdout.strip()


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A checkout that the package seems to be run from."""
    folder = tmp_path / "checkout" / "a2j_jax"
    folder.mkdir(parents=True)
    (folder / "__init__.py").write_text("answer = 41\n")
    git(folder.parent, "init", "--quiet", "--initial-branch=trunk")
    git(folder.parent, "add", ".")
    git(folder.parent, "commit", "--quiet", "--message=one")
    monkeypatch.setattr(a2j_jax, "__file__", str(folder / "__init__.py"))
    return folder


def test_every_start_is_a_line(tmp_path: Path) -> None:
    first = record_start(tmp_path, command="a2j train --config x", step=0)
    second = record_start(tmp_path, command=None, step=7, parallel="mesh", batch_per_device=4)
    assert (first, second) == (1, 2)
    one, two = read_starts(tmp_path)
    assert (one["start"], one["command"], one["step"]) == (1, "a2j train --config x", 0)
    assert (two["step"], two["parallel"], two["batch_per_device"]) == (7, "mesh", 4)
    assert one["time"].endswith("+00:00")
    assert one["versions"]["jax"] == metadata.version("jax")
    assert {"python", "a2j_jax", "grain", "orbax-checkpoint"} < set(one["versions"])
    assert sum(one["devices"].values()) >= one["processes"] == 1


def test_everything_installed_is_listed_without_addresses(tmp_path: Path) -> None:
    record_start(tmp_path, command=None, step=0)
    record_start(tmp_path, command=None, step=0)
    lines = (tmp_path / "requirements.txt").read_text().splitlines()
    assert f"numpy=={metadata.version('numpy')}" in lines
    assert lines == sorted(lines)
    assert not any("/" in line or "@" in line for line in lines)
    assert [start["requirements"] for start in read_starts(tmp_path)] == ["requirements.txt"] * 2


def test_other_packages_are_another_list(tmp_path: Path) -> None:
    record_start(tmp_path, command=None, step=0)
    (tmp_path / "requirements.txt").write_text("numpy==1.0\n")  # as if it had been so then
    record_start(tmp_path, command=None, step=0)
    record_start(tmp_path, command=None, step=0)
    assert (tmp_path / "requirements.txt").read_text() == "numpy==1.0\n"
    assert [start["requirements"] for start in read_starts(tmp_path)] == [
        "requirements.txt", "requirements-2.txt", "requirements-2.txt",
    ]  # fmt: skip


def test_the_source_is_that_of_the_package(package: Path, tmp_path: Path) -> None:
    record_start(tmp_path, command=None, step=0)
    (start,) = read_starts(tmp_path)
    commit = git(package, "rev-parse", "HEAD")
    assert start["source"] == {"commit": commit, "branch": "trunk", "dirty": False}
    assert not list(tmp_path.glob("*.diff"))


def test_what_was_changed_is_kept(package: Path, tmp_path: Path) -> None:
    (package / "__init__.py").write_text("answer = 42\n")
    (package / "notes.py").write_text("")
    record_start(tmp_path, command=None, step=0)
    source = read_starts(tmp_path)[0]["source"]
    assert source["dirty"]
    assert source["diff"] == f"source-{source['commit'][:7]}-1.diff"
    text = (tmp_path / source["diff"]).read_text()
    assert text.startswith("# untracked: a2j_jax/notes.py\n")
    git(package.parent, "checkout", "--quiet", ".")
    git(package.parent, "apply", str(tmp_path / source["diff"]))
    assert (package / "__init__.py").read_text() == "answer = 42\n"


def test_a_large_change_is_cut(
    package: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_dir, "_LARGEST_DIFF", 1000)
    (package / "__init__.py").write_text("answer = 42\n" * 1000)
    record_start(tmp_path, command=None, step=0)
    text = (tmp_path / read_starts(tmp_path)[0]["source"]["diff"]).read_text()
    assert len(text) < 1100
    assert text.splitlines()[-1].startswith("# cut here: 1,000 of ")


def test_an_installed_package_has_no_source(package: Path, tmp_path: Path) -> None:
    """Though its environment may lie in a checkout of something else."""
    git(package, "rm", "--quiet", "--cached", "__init__.py")
    record_start(tmp_path, command=None, step=0)
    assert read_starts(tmp_path)[0]["source"] is None


def test_git_may_be_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    record_start(tmp_path, command=None, step=0)
    assert read_starts(tmp_path)[0]["source"] is None
