"""Choices on the command line. Imports nothing, so that `--help` stays quick."""

from enum import StrEnum

__all__ = ["FrameKind", "RouterKind"]


class RouterKind(StrEnum):
    """The routers that the command knows."""

    LEARNED = "learned"
    MODEL = "model"
    CASCADE = "cascade"


class FrameKind(StrEnum):
    """What may stand around the points."""

    NONE = "none"
    INTRO = "intro"
    INTRO_AND_CONCLUSION = "intro+conclusion"
