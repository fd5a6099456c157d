"""Reading errors of whoever's class: what caused them, and the HTTP status that they carry."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

__all__ = ["causes_of", "field_of", "status_code"]


def causes_of(error: BaseException) -> Iterator[BaseException]:
    """The error and what caused it, outermost first."""
    seen: set[int] = set()
    current: BaseException | None = error
    while current is not None and id(current) not in seen:
        seen.add(id(current))
        yield current
        current = current.__cause__ or current.__context__


def field_of(holder: object, name: str) -> Any:
    """An attribute of an error of whoever's class; `None` if it has none, or can't say."""
    try:
        return getattr(holder, name, None)
    except Exception:  # noqa: BLE001  (one error is enough)
        return None


def status_code(error: BaseException) -> int | None:
    """The HTTP status that a provider's error carries, whoever's error class it is."""
    for link in causes_of(error):
        for holder in (link, field_of(link, "response")):
            code = field_of(holder, "status_code")
            if isinstance(code, int):
                return code
    return None
