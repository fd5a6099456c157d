"""Choices on the command line. Imports nothing, so that `--help` stays quick."""

from enum import StrEnum

__all__ = ["DependentKind", "DispatchKind", "FrameKind", "RouterKind", "SkeletonFormatKind"]


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


class DispatchKind(StrEnum):
    """When points are begun."""

    SEND = "send"
    PIPELINED = "pipelined"


class DependentKind(StrEnum):
    """What becomes of points that build on each other."""

    DIRECT = "direct"
    GRAPH = "graph"


class SkeletonFormatKind(StrEnum):
    """How a skeleton is asked for."""

    STRUCTURED = "structured"
    LIST = "list"
