"""`SotPrompts`: checked when it is made."""

import dataclasses
from typing import Any

import pytest

from sot_graph import SotOptions, create_sot_graph
from sot_graph.errors import SotConfigError
from sot_graph.prompts.templates import SotPrompts
from sot_graph.testing import ScriptedChatModel


@pytest.mark.parametrize("name", ["skeleton", "skeleton_list", "direct"])
def test_a_prompt_without_the_question_is_refused(name: str):
    with pytest.raises(SotConfigError, match=rf"SotPrompts\.{name} lacks \{{question\}}"):
        SotPrompts(**{name: "Answer!"})


def test_an_expansion_prompt_without_the_title_is_refused():
    with pytest.raises(SotConfigError, match=r"SotPrompts\.expansion lacks \{title\}"):
        SotPrompts(expansion="Write point {index}.")


def test_a_standalone_expansion_prompt_needs_the_question_and_a_shared_one_does_not():
    with pytest.raises(SotConfigError, match=r"SotPrompts\.expansion lacks \{question\}"):
        SotPrompts(expansion="{title}", expansion_layout="standalone")
    assert SotPrompts(expansion="{title}").expansion == "{title}"
    assert SotPrompts(expansion="{title} {question}", expansion_layout="standalone")


@pytest.mark.parametrize(
    ("name", "template"),
    [
        ("skeleton", "{question} {titel}"),
        ("skeleton", "{question} {}"),
        ("skeleton", "{question} {0}"),
        ("skeleton", "{question.__class__}"),
        ("skeleton", "{question[0]}"),
        ("system", "You know {question}."),
        ("system", 'Reply with {"a": 1}.'),
        ("skeleton_prefill", "{index}."),
        ("expansion_prefill", "{question}"),
        ("expansion_system", "{title}"),
        ("direct", "{question} {title}"),
        ("direct_system", "{question}"),
    ],
)
def test_an_unknown_placeholder_is_refused_with_those_there_are(name: str, template: str):
    with pytest.raises(SotConfigError, match=rf"SotPrompts\.{name} has the unknown placeholder .*it may hold: "):
        SotPrompts(**{name: template})


@pytest.mark.parametrize("template", ["{question", "question}", "{question} {", "}{question}"])
def test_a_malformed_template_is_refused_with_how_to_write_a_brace(template: str):
    with pytest.raises(SotConfigError, match=r"SotPrompts\.direct is malformed .*\{\{ or \}\}"):
        SotPrompts(direct=template)


@pytest.mark.parametrize("template", ["{question!r}", "{question:>10}", "{question:{title}}"])
def test_a_placeholder_with_a_format_is_refused(template: str):
    with pytest.raises(SotConfigError, match=r"SotPrompts\.direct: placeholders take no format"):
        SotPrompts(direct=template)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("direct", None),
        ("direct", b"{question}"),
        ("system", 5),
        ("expansion_layout", "together"),
        ("skeleton_format", "json"),
        ("max_title_words", 0),
        ("max_points", 0),
        ("max_points", True),
        ("max_points", "6"),
        ("expansion_openings", "When"),
        ("skeleton_examples", ["Why?"]),
        ("skeleton_settings", None),
        ("expansion_settings", [300]),
        ("frame_settings", {300: "max_tokens"}),
    ],
)
def test_a_value_that_cannot_be_is_refused_by_name(name: str, value: Any):
    with pytest.raises(SotConfigError, match=rf"SotPrompts\.{name}"):
        SotPrompts(**{name: value})


def test_documents_are_not_left_out_by_an_empty_template():
    with pytest.raises(SotConfigError, match=r"SotPrompts\.documents lacks \{documents\}"):
        SotPrompts(documents="")


def test_prompts_are_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        SotPrompts().system = "Other."  # type: ignore[misc]


def test_the_small_profile_passes_its_own_checks_and_can_be_varied():
    small = SotPrompts.small()
    assert (small.skeleton_format, small.expansion_layout) == ("list", "standalone")
    assert dataclasses.replace(small, direct="Q: {question}").skeleton_examples == small.skeleton_examples


def test_the_small_profiles_settings_are_nobodys_to_change():
    with pytest.raises(TypeError):
        SotPrompts.small().skeleton_settings["stop"] = []  # type: ignore[index]


def test_lengths_that_the_prompts_have_no_place_for_are_a_warning(caplog):
    model = ScriptedChatModel(lambda _: "x")
    options = SotOptions(title_length="one word", point_length="a page")
    create_sot_graph(model, prompts=SotPrompts.small(), options=options)
    assert [record.getMessage().partition(":")[0] for record in caplog.records] == [
        "options.title_length='one word' changes nothing",
        "options.point_length='a page' changes nothing",
    ]
    caplog.clear()
    create_sot_graph(model, options=options)
    create_sot_graph(model, prompts=SotPrompts.small())
    create_sot_graph(model, prompts=SotPrompts.small(), options=SotOptions(depth=3))
    assert caplog.records == []


def test_what_the_levels_below_are_made_with_is_warned_of_once(caplog):
    model = ScriptedChatModel(lambda _: "x")
    create_sot_graph(model, prompts=SotPrompts.small(), options=SotOptions(point_length="a page", depth=3))
    (warning,) = [record.getMessage() for record in caplog.records]
    assert warning.startswith("options.point_length='a page' changes nothing")
