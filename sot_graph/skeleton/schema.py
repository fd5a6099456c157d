"""The reply that a structured skeleton has to be, validated by Pydantic for instructor."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from pydantic import BaseModel, ConfigDict, field_validator, model_validator

from sot_graph.skeleton.parser import clean_titles, title_of

__all__ = ["SkeletonSchema", "skeleton_schema"]


class SkeletonSchema(BaseModel):
    """The compact reply: every token of a skeleton is latency."""

    model_config = ConfigDict(extra="forbid", title="Skeleton")

    points: list[str]

    @model_validator(mode="before")
    @classmethod
    def _accept_bare_lists(cls, value: Any) -> Any:
        return {"points": value} if isinstance(value, list) else value

    @field_validator("points", mode="before")
    @classmethod
    def _titles_only(cls, value: Any) -> Any:
        if not isinstance(value, list):
            return value
        return [title for item in value if (title := title_of(item)) is not None]


@lru_cache(maxsize=64)
def skeleton_schema(
    min_points: int, *, max_words: int | None = None, drop_similar: bool = False
) -> type[SkeletonSchema]:
    """The reply's schema, whose validation counts the points that are usable."""

    def enough_points(_cls: type[BaseModel], value: list[str]) -> list[str]:
        usable = clean_titles(value, max_words=max_words, drop_similar=drop_similar)
        if len(usable) < min_points:
            message = f"Write at least {min_points} different points; {len(usable)} are usable."
            raise ValueError(message)
        return value

    namespace: dict[str, Any] = {
        "__module__": __name__,
        "__doc__": None,
        "enough_points": field_validator("points")(classmethod(enough_points)),
    }
    return type("Skeleton", (SkeletonSchema,), namespace)
