"""Skeleton-of-Thought as a drop-in LangGraph subgraph.

    from langchain_openai import ChatOpenAI
    from sot_graph import create_sot_graph

    graph = create_sot_graph(ChatOpenAI(model="gpt-4o-mini"))
    print(graph.invoke({"question": "What are the most effective ways to deal with stress?"})["answer"])

The public names stand in `__init__.pyi`. Each is loaded when it is first used, since importing langgraph and
langchain-openai takes seconds.
"""

from importlib.util import find_spec as _find_spec

import lazy_loader as _lazy_loader

_load, _, __all__ = _lazy_loader.attach_stub(__name__, __file__)
# Constants first, then classes, then functions.
__all__ = sorted([*__all__, "__version__"], key=lambda name: (not name.isupper(), not name[0].isupper(), name))  # noqa: PLE0605
if _find_spec("langchain") is None:
    # The middleware needs the extra `agents`. Whoever asks for it is told so; `import *` goes without it.
    __all__.remove("SkeletonOfThoughtMiddleware")


def __getattr__(name: str) -> object:
    if name == "__version__":
        from importlib.metadata import version

        return version("sot-graph")
    try:
        return _load(name)
    except AttributeError:
        message = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(message) from None


def __dir__() -> list[str]:
    return sorted(__all__)
