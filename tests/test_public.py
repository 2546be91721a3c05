"""What docs/api.md calls public is there, and `dir(a2j_jax)` is what it lists."""

import re
from importlib import import_module
from pathlib import Path

import a2j_jax

PAGE = (Path(__file__).parent.parent / "docs" / "api.md").read_text(encoding="utf-8")


def test_every_public_name_is_there() -> None:
    names = re.findall(r"`(a2j_jax\.[\w.]+)`", PAGE)
    assert len(names) > 25
    for name in names:
        module, _, attribute = name.rpartition(".")
        found = getattr(import_module(module), attribute)
        assert found.__doc__ if callable(found) else found


def test_the_package_lists_its_names() -> None:
    listed = set(re.findall(r"`a2j_jax\.(\w+)`", PAGE))
    assert listed | {"__version__"} == set(dir(a2j_jax)) == set(a2j_jax.__all__)
