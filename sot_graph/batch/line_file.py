"""`LineFile`: append-only lines of JSON in a file that one process writes to."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any, Self

from sot_graph.errors import SotConfigError

try:
    import fcntl
except ImportError:  # Windows, where a file that two batches write to is not noticed
    fcntl = None  # type: ignore[assignment]


class LineFile:
    """Append-only lines of JSON.

    A process that is killed leaves at most half a line, which is cut off when the file is opened again, once all others
    are known to be of the file's kind. Each line is handed to the operating system at once: what a kill can't undo, a
    power failure can.

    Args:
        path: Made where it isn't there.
        on_line: Called with each line, and where it begins: first, while `__init__` runs, with those that are there,
            then with each new one. If it raises a LookupError, TypeError, ValueError or AttributeError, the file is
            refused, with that line's number.

    Raises:
        SotConfigError: It can't be written, another batch writes to it, or a line of it isn't of its kind.
    """

    # A subclass may set these.
    owner, advice = "batch", "Give each its own file, such as one for each --shard."
    kind: type = dict
    """Of each line."""
    opener: Callable[[str, int], int] | None = None

    def __init__(self, path: Path, on_line: Callable[[Any, int], None] | None = None) -> None:
        self.path = path
        self._on_line = on_line
        # A pipe would be waited for for ever: it is read from, too. `path.exists` raises where a name is too long.
        if os.path.exists(path) and not path.is_file():
            message = (
                f"{path} is no ordinary file, but a {'folder' if path.is_dir() else 'pipe or a device'}: name a file."
            )
            raise SotConfigError(message)
        try:
            self._file = open(path, "ab", buffering=0, opener=self.opener)  # noqa: SIM115 - closed by `close`
        except OSError as error:
            message = f"{path} can't be written: {error.strerror}."
            raise SotConfigError(message) from error
        try:
            self._lock()
            end, text = 0, b"\n"
            for number, (place, text, line) in enumerate(self.lines(), start=1):
                try:
                    if on_line is not None:
                        on_line(line, place)
                except (LookupError, TypeError, ValueError, AttributeError) as error:
                    raise self._no_record(number) from error
                end = place + len(text)
            if end < self._size():
                self._file.truncate(end)
            if not text.endswith(b"\n"):  # an editor may have saved the file without its last line's end
                self._file.write(b"\n")
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close it; another process may open it then."""
        self._file.close()

    def append(self, values: Mapping[str, Any] | Sequence[Any]) -> None:
        """Append a line, and hand it to `on_line`: memory holds only what the lines say.

        Raises:
            OSError: The disk is full, or gone.
        """
        # Half a surrogate pair is written as JSON escapes it.
        line = json.dumps(values, ensure_ascii=False).encode("utf-8", "backslashreplace") + b"\n"
        place = self._size()
        try:
            while line:
                line = line[self._file.write(line) :]
        except OSError:  # there may be room again for the next line, which mustn't follow half a line
            self._file.truncate(place)
            raise
        if self._on_line is not None:
            self._on_line(values, place)

    def lines(self) -> Iterator[tuple[int, bytes, Any]]:
        """Where each line begins, its text, and what it says. Half a line at the end is left out.

        After a line of the file's kind that may be anything, such as what a power failure leaves.

        Raises:
            SotConfigError: One isn't of the file's kind.
        """
        place, opening = 0, b"{" if self.kind is dict else b"["
        with self._reading() as lines:
            for number, text in enumerate(lines, start=1):
                try:
                    values = json.loads(text)
                except ValueError:
                    if not text.endswith(b"\n") and (number > 1 or text.startswith(opening)):
                        return
                    values = None
                if not isinstance(values, self.kind):
                    raise self._no_record(number)
                yield place, text, values
                place += len(text)

    def line_at(self, place: int) -> dict[str, Any]:
        """The line that begins there."""
        with self._reading() as lines:
            lines.seek(place)
            found: dict[str, Any] = json.loads(lines.readline())
            return found

    def _no_record(self, number: int) -> SotConfigError:
        what = f"{self.path}, line {number} is no record of a {self.owner}"
        return SotConfigError(f"{what}: give another file, or mend it.")

    def _reading(self) -> IO[bytes]:
        return open(self.path, "rb", opener=self.opener)

    def _size(self) -> int:
        return os.fstat(self._file.fileno()).st_size

    def _lock(self) -> None:
        if fcntl is None:
            return
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            message = f"{self.path}: another {self.owner} writes to it. {self.advice}"
            raise SotConfigError(message) from error
