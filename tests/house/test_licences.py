"""What an install brings, and under which licences: docs/installing.md says so."""

import re
from importlib.metadata import Distribution, distribution
from pathlib import Path

import pytest
from packaging.requirements import Requirement

PAGE = (Path(__file__).parents[2] / "docs" / "installing.md").read_text(encoding="utf-8")
EXTRAS = sorted(set(distribution("sot-graph").metadata.get_all("Provides-Extra")))

_PERMISSIVE = re.compile(r"MIT|BSD|Apache|ISC|PSF|Python Software Foundation|CNRI-Python|Zlib|CC0")
# What is under another licence stands in docs/installing.md by its name.
OTHERS = {
    "": {"certifi", "orjson"},
    "studio": {"langgraph-api", "langgraph-runtime-inmem", "pathspec", "forbiddenfruit"},
}


def brought_by(name: str, *extras: str, found: dict[tuple[str, ...], Distribution] | None = None) -> set[str]:
    """All packages that come with one, and with these extras of it."""
    found = {} if found is None else found
    for text in distribution(name).requires or ():
        needed = Requirement(text)
        key = (re.sub(r"[-_.]+", "-", needed.name).lower(), *sorted(needed.extras))
        asked_for = needed.marker is None or any(needed.marker.evaluate({"extra": extra}) for extra in ("", *extras))
        if asked_for and key not in found:
            found[key] = distribution(needed.name)
            brought_by(needed.name, *needed.extras, found=found)
    return {each for each, *_ in found}


def licences_of(name: str) -> list[str]:
    """By its metadata, else by the first words of its licence."""
    package = distribution(name)
    told = package.metadata
    if told.get("License-Expression"):
        return re.split(r" AND ", told.get("License-Expression"))
    if classifiers := [each for each in told.get_all("Classifier", ()) if each.startswith("License ::")]:
        return classifiers
    files = (file.locate().read_text() for file in package.files or () if re.match("LICEN[CS]E", file.name))
    return [next((text[:200] for text in (told.get("License"), *files) if text), "unknown")]


def is_permissive(name: str) -> bool:
    return all(_PERMISSIVE.search(licence) for licence in licences_of(name))


@pytest.mark.parametrize("extra", ["", *EXTRAS])
def test_what_an_install_brings_is_under_a_permissive_licence_or_named_on_the_page(extra):
    brought = brought_by("sot-graph", extra) if extra else brought_by("sot-graph")
    assert {"langgraph", "openai", "instructor", "pydantic"} <= brought
    assert {name for name in brought if not is_permissive(name)} <= OTHERS[""] | OTHERS.get(extra, set())


@pytest.mark.parametrize("name", sorted(set().union(*OTHERS.values())))
def test_the_page_names_what_is_under_another_licence(name):
    assert not is_permissive(name)
    assert f"`{name}`" in PAGE
