"""Choices on the command line. Imports nothing, so that `--help` stays quick."""

from enum import StrEnum

__all__ = ["RouterKind"]


class RouterKind(StrEnum):
    """The routers that the command knows."""

    LEARNED = "learned"
    MODEL = "model"
    CASCADE = "cascade"
