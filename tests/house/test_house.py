"""The house's bounds.

An issue that adds a capability may raise them by what it needs, saying so in its commit. They are where the package
stands; the aim is 14,500 lines in 90 files, and a question's path of 150 functions in 28 files.
"""

import gc
import inspect
import re
import sys
import threading
from collections import Counter, defaultdict
from pathlib import Path

import pytest
from langchain_core.tracers.base import BaseTracer

import sot_graph
from sot_graph import SotOptions, _seams, create_sot_graph
from sot_graph.testing import Physics, SimulatedEndpoint, SkeletonResponder

PACKAGE = Path(sot_graph.__file__).parent
MODULES = sorted(PACKAGE.rglob("*.py"))

MOST_LINES = 20_677
MOST_FILES = 95
# A capability of its own has bounds of its own: lines and files of a folder, or of a module.
CAPABILITIES = {
    "batch": (1_515, 9),
    "cli/batch_command.py": (436, 1),
    "cli/route_command.py": (204, 1),
    "cli/evaluate_command.py": (140, 1),
    "evaluation": (1_753, 11),
    "llm/prompt_cache.py": (110, 1),
    "play": (240, 2),
    "nodes/frame_parts.py": (217, 1),
    "retrieval": (599, 5),
    "testing/cache_meter.py": (140, 1),
    "routing/glossary.py": (119, 1),
    "routing/learned_training.py": (239, 1),
    "skeleton/answering_drafter.py": (350, 1),
}
MOST_FUNCTIONS = 163  # one fewer where no thread has to be started for a tracer
MOST_FILES_ON_A_PATH = 28
MOST_SEAMS = 6
LONGEST_MODULE = 480


class Tracer(BaseTracer):
    """Keeps a tree of runs, as LangSmith's does, and sends it nowhere."""

    def _persist_run(self, run):
        pass


def size_of(modules):
    return sum(len(path.read_text().splitlines()) for path in modules), len(modules)


def test_the_package_keeps_its_size():
    for name, bounds in CAPABILITIES.items():
        own = [path for path in MODULES if (PACKAGE / name) in {path, *path.parents}]
        lines, files = size_of(own)
        print(f"{name}: {lines} lines in {files} files")
        assert 0 < lines <= bounds[0]
        assert files <= bounds[1]
    places = {PACKAGE / name for name in CAPABILITIES}
    lines, files = size_of([path for path in MODULES if not places & {path, *path.parents}])
    print(f"the rest: {lines} lines in {files} files")
    assert lines <= MOST_LINES
    assert files <= MOST_FILES


def test_no_module_name_stands_twice():
    names = Counter(path.name for path in MODULES if path.name not in {"__init__.py", "__main__.py"})
    assert [name for name, times in names.items() if times > 1] == []


def test_no_module_is_two_ideas():
    lengths = {str(path.relative_to(PACKAGE)): len(path.read_text().splitlines()) for path in MODULES}
    assert {name: length for name, length in lengths.items() if length > LONGEST_MODULE} == {}


def test_the_private_things_of_others_are_few_and_in_one_place():
    own = [
        name for name, value in inspect.getmembers(_seams, inspect.isfunction) if value.__module__ == _seams.__name__
    ]
    functions = [name for name in own if not name.startswith("_")]
    rows = [line for line in _seams.__doc__.splitlines() if line.startswith("| `")]
    assert {name for row in rows for name in re.findall("`([a-z_]+)`", row.split("|")[1])} == set(functions)
    assert len(rows) <= MOST_SEAMS
    pattern = re.compile(
        r"__pregel|langgraph\._internal|langchain_core\.tracers\._|\.__class__ = |__code__|_unregister_task"
    )
    others = [path for path in MODULES if path.name != "_seams.py"]
    assert [path.name for path in others if pattern.search(path.read_text())] == []


@pytest.fixture
def called():
    """The package's own functions that are called, in every thread, by their files."""
    seen = defaultdict(set)

    def profile(frame, event, _argument):
        code = frame.f_code
        if event == "call" and code.co_filename.startswith(str(PACKAGE)) and not code.co_name.startswith("<"):
            path = Path(code.co_filename).relative_to(PACKAGE)
            if path.parts[0] != "testing":
                seen[str(path)].add(
                    code.co_qualname if hasattr(code, "co_qualname") else (code.co_name, code.co_firstlineno)
                )

    async def begin_on_the_loop(on):
        sys.setprofile(profile if on else None)

    def switch(*, on):
        from sot_graph.concurrency.background_loop import run_sync

        threading.setprofile(profile if on else None)
        run_sync(begin_on_the_loop(on))
        sys.setprofile(profile if on else None)
        seen.clear()

    switch(on=True)
    try:
        yield seen
    finally:
        sys.setprofile(None)
        threading.setprofile(None)
        from sot_graph.concurrency.background_loop import run_sync

        run_sync(begin_on_the_loop(False))


@pytest.fixture
def no_garbage():
    """The client of an earlier test's model would be closed on the library's loop meanwhile, and counted."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


@pytest.fixture
def graph(no_garbage):
    responder = SkeletonResponder(titles=["Light", "Water", "Soil"])
    with SimulatedEndpoint(responder, physics=Physics.instant()) as endpoint:
        made = create_sot_graph(endpoint.chat_model(), options=SotOptions(min_points=3))
        made.invoke({"question": "How do plants grow?"})  # what is made once isn't on the path
        yield made


def test_the_path_of_a_question_is_short(graph, called):
    tries = []
    for _ in range(3):  # what earlier tests have left on the loop may be called beside it, once
        called.clear()
        result = graph.invoke({"question": "How do plants grow?"}, {"callbacks": [Tracer()]})
        assert len(result["expansions"]) == 3
        tries.append({path: len(functions) for path, functions in called.items()})
    shortest = min(tries, key=lambda functions: sum(functions.values()))
    for path in sorted(shortest):
        print(f"{shortest[path]:4} {path}")
    print(f"{sum(shortest.values())} functions in {len(shortest)} files")
    assert sum(shortest.values()) <= MOST_FUNCTIONS
    assert len(shortest) <= MOST_FILES_ON_A_PATH
