"""What README.md and docs/ say is so: snippets run, commands parse, tables agree with the code, links lead on."""

import ast
import re
import shlex
import tomllib
from dataclasses import dataclass, fields
from functools import cache
from pathlib import Path
from typing import get_args, get_type_hints

import pytest
import typer
import yaml

import sot_graph
from sot_graph import SotContext, SotInput, SotOptions, SotOutput, SotPrompts, batch, events, testing
from sot_graph.testing import Physics, ScriptedChatModel, SimulatedEndpoint, answer_skeleton_of_thought

ROOT = Path(__file__).parents[1]
PAGES = sorted([ROOT / "README.md", ROOT / "CHANGELOG.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").rglob("*.md")])
PAGE_NAMES = [path.relative_to(ROOT).as_posix() for path in PAGES]

_FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
_HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)
_EDGE = re.compile(r"(\w+)(?:\(\[\w+\]\))? (-->|-\.->)(?:\|[^|]*\|)? (\w+)")
_LOCAL_SERVER = "http://localhost:11434/v1"


@dataclass(frozen=True)
class Block:
    """A fenced block, and the text block right behind it: what it prints."""

    language: str
    code: str
    printed: str | None
    line: int

    @property
    def needs_the_embedded_model(self) -> bool:
        return "with local_model(" in self.code

    @property
    def needs_the_development_server(self) -> bool:
        # tests/studio runs these, and tests/reliability that of DBOS
        return "127.0.0.1:2024" in self.code or "from dbos import" in self.code


@cache
def blocks_of(page: str) -> list[Block]:
    text = (ROOT / page).read_text(encoding="utf-8")
    found = list(_FENCE.finditer(text))
    blocks = []
    for position, match in enumerate(found):
        after = found[position + 1] if position + 1 < len(found) else None
        follows = after is not None and after[1] == "text" and not text[match.end() : after.start()].strip()
        blocks.append(Block(match[1], match[2], after[2] if follows else None, text[: match.start()].count("\n") + 1))
    return blocks


def run_snippet(page: str, block: Block, namespace: dict) -> None:
    # The line numbers of a traceback are then those of the page.
    code = ast.increment_lineno(ast.parse(block.code), block.line)
    exec(compile(code, str(ROOT / page), "exec"), namespace)


def python_pages(embedded: bool) -> list[str]:
    return [
        page
        for page in PAGE_NAMES
        if any(
            block.language == "python"
            and block.needs_the_embedded_model == embedded
            and not block.needs_the_development_server
            for block in blocks_of(page)
        )
    ]


@pytest.fixture
def hosted_model(monkeypatch):
    """An endpoint that stands where OpenAI's would be."""
    with SimulatedEndpoint(physics=Physics.instant()) as endpoint:
        monkeypatch.setenv("OPENAI_BASE_URL", endpoint.base_url)
        monkeypatch.setenv("OPENAI_API_KEY", "test")
        yield endpoint


@pytest.mark.parametrize("page", python_pages(embedded=False))
def test_every_python_snippet_of_the_page_runs_and_prints_what_the_page_says(
    page, hosted_model, capsys, monkeypatch, tmp_path
):
    monkeypatch.chdir(tmp_path)  # some keep files
    namespace = {"__name__": "snippet"}
    for block in blocks_of(page):
        if block.language != "python" or block.needs_the_embedded_model or block.needs_the_development_server:
            continue
        here = block.code.replace(_LOCAL_SERVER, hosted_model.base_url)
        capsys.readouterr()
        run_snippet(page, Block("python", here, block.printed, block.line), namespace)
        if block.printed is not None:
            assert capsys.readouterr().out.strip() == block.printed.strip(), f"{page}, line {block.line}"


@pytest.mark.local_model
@pytest.mark.parametrize("page", python_pages(embedded=True))
def test_every_snippet_for_the_embedded_model_prints_an_answer_with_points(page, capsys):
    for block in blocks_of(page):
        if block.language == "python" and block.needs_the_embedded_model:
            run_snippet(page, block, {"__name__": "snippet"})
            printed = capsys.readouterr().out
            assert re.search(r"^\*\*1\. .+\*\*$", printed, re.MULTILINE), printed
            assert re.search(r"^\*\*3\. .+\*\*$", printed, re.MULTILINE), printed


def commands() -> list[tuple[str, list[str]]]:
    return [
        (page, words)
        for page in PAGE_NAMES
        for block in blocks_of(page)
        if block.language == "bash"
        for line in block.code.splitlines()
        if (words := shlex.split(line, comments=True))
    ]


def test_every_shell_command_of_the_docs_is_of_a_known_kind():
    known = {"echo", "make", "pip", "python", "sot-graph", "uv"}
    assert {words[0] for _, words in commands()} <= known


@pytest.mark.parametrize(("page", "words"), [pair for pair in commands() if pair[1][0] == "sot-graph"])
def test_every_sot_graph_command_of_the_docs_parses(page, words):
    from sot_graph.cli.app import app

    group = typer.main.get_command(app)
    with group.make_context("sot-graph", words[1:]) as context:
        _, command, rest = group.resolve_command(context, [*context._protected_args, *context.args])
        with command.make_context("ask", rest, parent=context) as parsed:
            asked = any(parsed.params.get(name) for name in ("question", "questions", "file", "train"))
            assert asked or command.name in {"play", "weights"}


def test_every_question_that_the_docs_have_answered_by_a_skeleton_is_one_for_a_skeleton():
    """By the router that the project ships: the first thing that a newcomer copies is to show what it is for."""
    from sot_graph import LearnedRouter

    router = LearnedRouter()
    asked = {words[2] for _, words in commands() if words[0] == "sot-graph" and words[1] in ("ask", "compare")}
    asked -= {"--file"}
    assert asked
    assert {question for question in asked if router(question, ()).route != "skeleton"} == set()


def test_every_make_target_that_the_docs_name_exists():
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z-]+):", makefile, re.MULTILINE))
    named = {target for path in PAGES for target in re.findall(r"(?:^|`)make ([a-z-]+)", path.read_text("utf-8"), re.M)}
    assert named
    assert named <= targets


def test_every_extra_that_the_docs_name_exists():
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    named = {extra for path in PAGES for extra in re.findall(r"sot-graph\[(\w+)\]", path.read_text(encoding="utf-8"))}
    assert named == set(extras)


def test_every_example_that_the_docs_name_exists():
    named = {name for path in PAGES for name in re.findall(r"examples/\w+\.py", path.read_text(encoding="utf-8"))}
    assert named
    assert all((ROOT / name).is_file() for name in named)


def test_the_simulated_endpoints_command_line_has_the_options_that_the_docs_show():
    from sot_graph.testing.__main__ import parse_arguments

    shown = [words for _, words in commands() if words[:3] == ["python", "-m", "sot_graph.testing"]]
    assert shown
    for words in shown:
        assert parse_arguments(words[3:]).port == 8080


def rows_of(page: str, *heading: str) -> list[list[str]]:
    """The cells of every table of the page that begins with these headings."""
    rows: list[list[str]] = []
    inside = False
    for line in (ROOT / page).read_text(encoding="utf-8").splitlines():
        cells = [cell.strip() for cell in line.strip().strip("|").split("|")] if line.startswith("|") else []
        if tuple(cells[: len(heading)]) == heading:
            inside = True
        elif not cells:
            inside = False
        elif inside and not set(line) <= set("|-: "):
            rows.append(cells)
    return rows


def test_the_options_table_has_every_option_with_its_default_in_order():
    rows = rows_of("docs/options.md", "option", "default")
    shown = [(row[0].strip("`"), ast.literal_eval(row[1].strip("`"))) for row in rows]
    assert shown == [(field.name, field.default) for field in fields(SotOptions)]


def test_the_options_table_says_which_of_them_a_run_may_set():
    rows = rows_of("docs/options.md", "option", "default", "for one run")
    assert {row[2] for row in rows} == {"yes", "no"}
    assert {row[0].strip("`") for row in rows if row[2] == "yes"} == set(SotContext.__annotations__)


def test_the_tables_of_what_goes_in_and_out_have_every_key():
    keys = {row[0].strip("`") for row in rows_of("docs/reference.md", "key", "what")}
    assert keys == set(SotInput.__annotations__) | set(SotOutput.__annotations__)


def test_the_events_table_names_events_and_fields_that_exist():
    known = {get_type_hints(event)["type"]: get_type_hints(event) for event in get_args(events.SotEvent)}
    known = {get_args(kind)[0]: hints for kind, hints in known.items()}
    rows = rows_of("docs/reference.md", "`type`", "also holds")
    assert rows
    for kind, holds, _ in rows:
        assert set(re.findall(r"`(\w+)`", holds)) <= set(known[kind.strip("`")]), kind


def test_every_placeholder_in_the_prompts_table_is_taken_and_every_required_one_is_missed():
    rows = rows_of("docs/prompts.md", "template", "must hold")
    assert rows
    for names, must, may in rows:
        required, allowed = (re.findall(r"\{\w+\}", cell) for cell in (must, may))
        for name in re.findall(r"`(\w+)`", names):
            SotPrompts(**{name: " ".join([*required, *allowed])})
            for placeholder in required:
                with pytest.raises(ValueError, match=re.escape(placeholder)):
                    SotPrompts(**{name: " ".join({*required, *allowed} - {placeholder})})


def test_the_drawn_graph_is_the_graph():
    from sot_graph import create_sot_graph

    graph = create_sot_graph(ScriptedChatModel(answer_skeleton_of_thought()))
    drawn = [block.code for block in blocks_of("docs/how-it-works.md") if block.language == "mermaid"]
    assert len(drawn) == 1
    assert set(_EDGE.findall(drawn[0])) == set(_EDGE.findall(graph.get_graph().draw_mermaid(with_styles=False)))


def anchors_of(path: Path) -> set[str]:
    text = _FENCE.sub("", path.read_text(encoding="utf-8"))
    return {re.sub(r"[^\w\- ]", "", title.lower()).strip().replace(" ", "-") for title in _HEADING.findall(text)}


@pytest.mark.parametrize("page", PAGE_NAMES)
def test_every_internal_link_leads_to_a_file_and_a_heading(page):
    path = ROOT / page
    for link in _LINK.findall(_FENCE.sub("", path.read_text(encoding="utf-8"))):
        if link.startswith("https://"):
            continue
        target, _, anchor = link.partition("#")
        file = (path.parent / target).resolve() if target else path
        assert file.is_file(), link
        assert not anchor or anchor in anchors_of(file), link


def pages_in(entry):
    """Those of a part of the navigation, which may have parts of its own."""
    if isinstance(entry, str):
        return [entry]
    return [page for part in (entry.values() if isinstance(entry, dict) else entry) for page in pages_in(part)]


class _SiteLoader(yaml.SafeLoader):
    """`mkdocs.yml` names functions and environment variables, which mean nothing here."""


_SiteLoader.add_multi_constructor("", lambda loader, suffix, node: suffix)


def test_the_sites_navigation_has_every_page_once():
    site = yaml.load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"), _SiteLoader)
    pages = (path.relative_to(ROOT / "docs").as_posix() for path in (ROOT / "docs").rglob("*.md"))
    assert sorted(pages_in(site["nav"])) == sorted(pages)


def test_the_api_page_has_every_public_name():
    shown = re.findall(r"^::: ([\w.]+)$", (ROOT / "docs" / "api.md").read_text(encoding="utf-8"), re.MULTILINE)
    own = ("sot_graph.testing.", "sot_graph.batch.")
    named = {name.rpartition(".")[2] for name in shown if not name.startswith(own)}
    constants = {name for name in sot_graph.__all__ if name.isupper()}
    assert named | constants | {"__version__"} == set(sot_graph.__all__)
    assert all(f"`{name}`" in (ROOT / "docs" / "api.md").read_text(encoding="utf-8") for name in constants)


@pytest.mark.parametrize("path", [*PAGES, *(ROOT / "examples").glob("*.py")], ids=lambda path: path.name)
def test_what_the_docs_and_the_examples_import_is_of_the_api(path):
    """`docs/api.md` promises what these modules export, and nothing else."""
    text = path.read_text(encoding="utf-8")
    sources = [text] if path.suffix == ".py" else [block.code for block in blocks_of(path.relative_to(ROOT).as_posix())]
    for module, names in re.findall(r"^from (sot_graph[\w.]*) import (\(.*?\)|.+?)$", "\n".join(sources), re.M | re.S):
        exported = {"sot_graph": sot_graph, "sot_graph.batch": batch, "sot_graph.testing": testing}[module].__all__
        assert {name for name in re.findall(r"\w+", names)} <= set(exported), module


def test_readme_is_read_in_a_few_minutes():
    assert len((ROOT / "README.md").read_text(encoding="utf-8").split()) <= 1000
