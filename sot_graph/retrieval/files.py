"""`load_documents`: documents from files and folders."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from langchain_core.documents import Document

from sot_graph.errors import MissingExtraError, SotConfigError

_TEXT = {".md", ".markdown", ".rst", ".txt", ".text", ".mdx"}
_KNOWN = {*_TEXT, ".pdf"}


def load_documents(*paths: str | os.PathLike[str]) -> list[Document]:
    """Documents from files, and from all such files in folders: text, Markdown, and PDF, a document a page.

    Each has the file's path as its `source`, in a folder the path from there, and a PDF's pages their `page`.

    Args:
        *paths: Files and folders. What stands in a folder and is no such file is left out, as are hidden files.

    Raises:
        SotConfigError: A path that isn't there, can't be read, or is no such file; there is no document at all.
        MissingExtraError: A PDF, without what reads it: `pip install 'sot-graph[pdf]'`.
    """
    documents = [document for path in paths for document in _from_path(Path(path))]
    if not documents:
        message = f"There is no document in {', '.join(str(path) for path in paths) or 'no path'}."
        raise SotConfigError(message)
    return documents


def _from_path(path: Path) -> Iterator[Document]:
    if path.is_dir():
        for file in sorted(path.rglob("*")):
            inside = file.relative_to(path)
            is_hidden = any(part.startswith(".") for part in inside.parts)
            if file.suffix.lower() in _KNOWN and file.is_file() and not is_hidden:
                yield from _from_file(file, source=inside.as_posix())
    elif path.suffix.lower() not in _KNOWN and path.exists():
        message = f"{path}: documents are {', '.join(sorted(_KNOWN))}; convert this file to one of them."
        raise SotConfigError(message)
    else:
        yield from _from_file(path, source=path.as_posix())


def _from_file(path: Path, *, source: str) -> Iterator[Document]:
    try:
        if path.suffix.lower() != ".pdf":
            text = path.read_text(encoding="utf-8-sig", errors="replace")
            if text.strip():
                yield Document(text, metadata={"source": source})
            return
        pages = _pages_of(path)
    except OSError as error:
        message = f"{path} can't be read: {error.strerror or error}."
        raise SotConfigError(message) from error
    for number, text in enumerate(pages, start=1):
        if text.strip():
            yield Document(text, metadata={"source": source, "page": number})


def _pages_of(path: Path) -> list[str]:
    try:
        from pypdf import PdfReader
    except ModuleNotFoundError as missing:
        message = f"{path}: PDF is read by pypdf, which is not installed: pip install 'sot-graph[pdf]'"
        raise MissingExtraError(message) from missing
    with path.open("rb") as file:
        try:
            return [page.extract_text() for page in PdfReader(file).pages]
        except Exception as error:  # of a broken file, pypdf raises an AttributeError as well as errors of its own
            message = f"{path} can't be read as PDF: {error}."
            raise SotConfigError(message) from error
