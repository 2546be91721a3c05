"""Texts and JSON values as the types that dataclass fields are declared with."""

import ast
import contextlib
import types
import typing
import warnings
from typing import Any, Literal


def parse(text: str, hint: Any) -> Any:
    """A value from the command line: what Python reads it as, or the text itself, or its parts between commas.

    Raises:
      TypeError: neither is of that type.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of text that looks like Python: "1or"
            raw: Any = ast.literal_eval(text)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):  # as it documents
        raw = {"true": True, "false": False, "none": None}.get(text.lower(), text)
    for value in (raw, text):  # the text itself: a folder may be called 2017
        with contextlib.suppress(TypeError):
            return coerce(value, hint)
    return coerce(text.split(","), hint)


def coerce(raw: Any, hint: Any) -> Any:
    """Check a value against a type hint; JSON lists become tuples, ints become floats.

    Raises:
      TypeError: it is of another type.
    """
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        for option in arguments:
            try:
                return coerce(raw, option)
            except TypeError:
                continue
        raise TypeError
    if origin is Literal:
        for option in arguments:
            if type(raw) is type(option) and raw == option:  # True is no 1
                return option
        raise TypeError
    if origin is tuple:
        if isinstance(raw, (tuple, list)) and arguments[1:] == (...,):
            return tuple(coerce(value, arguments[0]) for value in raw)
        if isinstance(raw, (tuple, list)) and len(raw) == len(arguments):
            return tuple(coerce(r, a) for r, a in zip(raw, arguments, strict=True))
        raise TypeError
    if hint is float and isinstance(raw, int) and not isinstance(raw, bool):
        with contextlib.suppress(OverflowError):
            return float(raw)
        raise TypeError
    if hint is type(None) and raw is None:
        return None
    if isinstance(hint, type) and type(raw) is hint:
        return raw
    raise TypeError


def described(hint: Any) -> str:
    """A type in words: "int", "float or none", "one of jit, mesh"."""
    if typing.get_origin(hint) is Literal:
        return f"value; one of {', '.join(map(str, typing.get_args(hint)))}"
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        return " or ".join(described(option) for option in typing.get_args(hint))
    if hint is type(None):
        return "none"
    return hint.__name__ if type(hint) is type else str(hint).replace("typing.", "")
