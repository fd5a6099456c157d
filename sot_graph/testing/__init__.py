"""For tests and benchmarks: a simulated OpenAI-compatible endpoint with faults, and a scripted chat model.

    with SimulatedEndpoint(physics=Physics.instant()) as endpoint:
        graph = create_sot_graph(endpoint.chat_model())

The public names stand in `__init__.pyi`. Each is loaded when it is first used: aiohttp and LangChain take their time to
import.
"""

import lazy_loader as _lazy_loader

_load, __dir__, __all__ = _lazy_loader.attach_stub(__name__, __file__)


def __getattr__(name: str) -> object:
    try:
        return _load(name)
    except AttributeError:
        message = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(message) from None
