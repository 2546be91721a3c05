"""The cache of compiled programs: on by default, in a folder of this CPU, bounded, and never in the way."""

import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest

from a2j_jax.cli.main import cpu_kind, shrink, use_compilation_cache

PROGRAM = """
import sys
from a2j_jax.cli.main import use_compilation_cache
use_compilation_cache()
assert "jax" not in sys.modules
import jax, jax.numpy as jnp
jax.jit(lambda x: x @ x + 1)(jnp.ones((8, 8)))
"""


def compile_something(**environment: str) -> str:
    """Runs a program that compiles; returns what it complains of."""
    inherited = {name: v for name, v in os.environ.items() if not name.startswith("JAX_COMPIL")}
    # An installed libtpu complains where there is no TPU.
    settings = {"JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0", "JAX_PLATFORMS": "cpu"}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        env=inherited | settings | environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return done.stderr


def entries(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


@pytest.mark.slow
def test_programs_are_kept_in_the_users_cache(tmp_path, monkeypatch):
    """In a folder of this kind of CPU; a damaged entry is compiled again without a word."""
    assert compile_something(XDG_CACHE_HOME=str(tmp_path)) == ""
    kept = entries(tmp_path / "a2j_jax" / "xla" / cpu_kind())
    assert kept
    for path in kept:
        path.write_bytes(path.read_bytes()[:20])
    assert compile_something(XDG_CACHE_HOME=str(tmp_path)) == ""
    assert entries(tmp_path) == kept
    here = cpu_kind()
    monkeypatch.setattr(platform, "machine", lambda: "riscv64")
    assert cpu_kind() != here


@pytest.mark.slow
def test_jaxs_own_settings_win(tmp_path):
    compile_something(XDG_CACHE_HOME=str(tmp_path), JAX_ENABLE_COMPILATION_CACHE="false")
    assert entries(tmp_path) == []
    named = tmp_path / "named"
    compile_something(XDG_CACHE_HOME=str(tmp_path), JAX_COMPILATION_CACHE_DIR=str(named))
    assert entries(named) == entries(tmp_path) != []


def test_a_folder_that_cannot_be_made_costs_only_the_cache(tmp_path):
    (tmp_path / "a2j_jax").write_text("a file")
    assert compile_something(XDG_CACHE_HOME=str(tmp_path)) == ""
    assert (tmp_path / "a2j_jax").read_text() == "a file"


def test_what_was_used_longest_ago_goes_first(tmp_path):
    for age, name in enumerate(["new", "middle", "old"]):
        (tmp_path / name).write_bytes(b"x" * 100)
        os.utime(tmp_path / name, (1000 - age, 1000 - age))
    shrink(tmp_path, 300)
    assert len(entries(tmp_path)) == 3
    shrink(tmp_path, 250)
    assert sorted(path.name for path in entries(tmp_path)) == ["middle", "new"]


def test_a_cache_is_private_whatever_the_umask(tmp_path, monkeypatch, capsys):
    """A cache runs as code: folders are this user's alone, and one that others may write to is not used."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("JAX_COMPILATION_CACHE_DIR", raising=False)
    before = os.umask(0)
    try:
        use_compilation_cache()
    finally:
        os.umask(before)
    folder = Path(os.environ["JAX_COMPILATION_CACHE_DIR"])
    for made in (folder, *folder.parents[:3]):
        assert made.stat().st_mode & 0o777 == 0o700, made
    for opened in (folder, folder.parent.parent):
        monkeypatch.delenv("JAX_COMPILATION_CACHE_DIR")
        opened.chmod(0o777)
        use_compilation_cache()
        assert "JAX_COMPILATION_CACHE_DIR" not in os.environ
        assert "no compilation cache" in capsys.readouterr().err
        opened.chmod(0o700)
        use_compilation_cache()


def test_without_a_home_there_is_no_cache(monkeypatch):
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.delenv("JAX_COMPILATION_CACHE_DIR", raising=False)
    monkeypatch.setattr(
        Path, "expanduser", lambda _: (_ for _ in ()).throw(RuntimeError("no home"))
    )
    use_compilation_cache()
    assert "JAX_COMPILATION_CACHE_DIR" not in os.environ
