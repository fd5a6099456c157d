"""Arguments that can't be right, found when they are given and not when they are used."""

from __future__ import annotations

import inspect
from typing import Any

from sot_graph.errors import SotConfigError

__all__ = ["check_call", "check_kind", "check_returns_at_once"]


def check_kind(name: str, value: object, kind: type) -> None:
    """Check an argument that may be left out.

    Args:
        name: The argument's.
        value: What was given for it.
        kind: What it must be.

    Raises:
        SotConfigError: It is something else.
    """
    if value is not None and not isinstance(value, kind):
        message = f"{name} is {_what(value)}; pass {kind.__name__}(...)."
        raise SotConfigError(message)


def check_call(name: str, function: object, parameters: dict[str, Any], *, hint: str = "") -> None:
    """Check that an argument can be called as it will be.

    Args:
        name: The argument's.
        function: What was given for it.
        parameters: What it will get, by the names that are shown.
        hint: What else it may be.

    Raises:
        SotConfigError: It can't.
    """
    shown = ", ".join(parameters)
    if inspect.isclass(function):
        message = f"{name} is {_what(function)}; pass an instance of it: {name}={function.__name__}(...)."
        raise SotConfigError(message)
    if not callable(function):
        message = f"{name} is {_what(function)}; it must be a callable of ({shown}){hint}."
        raise SotConfigError(message)
    try:
        inspect.signature(function).bind(*parameters.values())
    except TypeError as error:
        message = f"{name} can't be called as {name}({shown}): {error}."
        raise SotConfigError(message) from error
    except ValueError:  # a callable that hides its signature, such as some built-ins
        return


def check_returns_at_once(name: str, function: object, does: str) -> None:
    """Check that an argument that is called gives its result, and nothing that has to be awaited or read.

    Args:
        name: The argument's.
        function: What was given for it.
        does: What it must do.

    Raises:
        SotConfigError: It is asynchronous, or a generator.
    """
    called = function if inspect.isroutine(function) else getattr(function, "__call__", function)  # noqa: B004
    if inspect.iscoroutinefunction(called) or inspect.isgeneratorfunction(called) or inspect.isasyncgenfunction(called):
        message = f"{name} is asynchronous, or a generator; it must be a plain function that {does}."
        raise SotConfigError(message)


def _what(value: object) -> str:
    return f"the class {value.__name__}" if inspect.isclass(value) else type(value).__name__
