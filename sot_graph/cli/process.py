"""The command as a process: its standard streams, as a shell may hand them over, its model, its traces, and its end.

Exit statuses: 0, 1 (the model or the run failed), 2 (bad usage), 130 (Ctrl-C), 143 (SIGTERM).
"""

from __future__ import annotations

import errno
import io
import json
import logging
import os
import re
import sys
import threading
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, NoReturn

from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from sot_graph.cli import interruption
from sot_graph.default_model import ModelChoice, choose_model
from sot_graph.errors import SotConfigError, SotError
from sot_graph.options import SotOptions

if TYPE_CHECKING:
    from pathlib import Path

    from langchain_core.runnables import Runnable
    from langsmith import Client

    from sot_graph.observability.langsmith_log_filter import OutageFilter

LIBRARY_OPTIONS = (
    *("max_points", "point_length", "frame", "dependent", "dispatch", "skeleton_format"),
    *("deadline", "point_timeout", "max_concurrency"),
)
"""Options of `sot-graph ask` that are called as in `SotOptions`."""

_LONGEST_INPUT = 1_000_000
"""In bytes: more than the graph takes as a question in any script, and an end for input that has none."""
_STANDARD_FILES = 3
_TABLES = frozenset({".jsonl", ".ndjson", ".csv", ".parquet"})
_ERRORS_OF_WRITING = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EBADF})
# "SotOptions.deadline=0", "SotOptions.deadline" and "(deadline)".
_ARGUMENT = re.compile(rf"(?:\bSotOptions\.|(?<=\()(?=\w+\)))({'|'.join(LIBRARY_OPTIONS)})\b(=?)")
# What the library says to somebody who writes Python, and what it is here.
_PYTHON_ADVICE = {
    re.compile(r", or pass (?:ChatOpenAI\([^()]*\)|a chat model object)"): "",
    re.compile(r"Pass a LangChain chat model such as ChatOpenAI\([^()]*\), or a name"): "Give a name",
    re.compile(r"pass ChatOpenAI\([^()]*\)"): "give --base-url, and its name there",
    re.compile(
        r'SotOptions\(structured_mode="md_json"\) or SotOptions\(skeleton_format="list"\)'
    ): "--skeleton-format list",
}
_VARIABLE = re.compile(r"\bSOT_GRAPH_(MODEL|BASE_URL)\b")

_TRACE_WAIT_SECONDS = 2.0
_TRACE_WAIT_VARIABLE = "SOT_GRAPH_TRACE_PATIENCE"
"""Seconds that the command waits for its traces, where two are too few."""
_TURNING = "\u202a-\u202e\u2066-\u2069"
"""Characters that turn the text around them. The marks that right-to-left text is spelled with are not among them."""
_REMOVED = re.compile(f"[\x00-\x08\r\x0e-\x1f\x7f-\x84\x86-\x9f{_TURNING}]")
_LINE_ENDS = re.compile("[\x0b\x0c\x85\u2028\u2029]")
_ESCAPED_IN_JSON = re.compile(f"[\x7f-\x9f\u2028\u2029{_TURNING}]")

_owns_process: ContextVar[bool] = ContextVar("sot_graph_owns_process", default=False)
"""Whether this process is the command's, to be ended by it: not a test's. Other threads read False, and end nothing."""


class _RunFailedError(SotError):
    """A provider refused what the caller could fix. That is no bad usage, which is found before the model is asked."""


class _Output(Console):
    def on_broken_pipe(self) -> None:
        raise  # noqa: PLE0704 - called where the error is handled; the command knows what to do, not rich


class LastingOutput:
    """Standard output for as long as it can be written to, and then nowhere. `error` is why it can't be any more."""

    error: OSError | None = None

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> None:  # noqa: D102
        try:
            self._stream.write(text)
            self._stream.flush()
        except OSError as error:
            self.error = error
            discard_output()


class _Errors(Console):
    def print(self, *objects: Any, **how: Any) -> None:
        try:
            super().print(*objects, **how)
        except OSError:  # a message that can't be printed must not end the command
            self.quiet = True

    def on_broken_pipe(self) -> None:
        self.quiet = True


class _WarningLines(logging.Handler):
    """Writes to where `sys.stderr` goes just then: a board that is being drawn makes room for the line."""

    def emit(self, record: logging.LogRecord) -> None:
        with suppress(OSError, ValueError, AttributeError):  # a line that can't be written must not end the command
            line = one_plain_line(with_flag_names(record.getMessage()))
            sys.stderr.write(f"sot-graph: {record.levelname.lower()}: {line}\n")


def take_over_process() -> None:
    """Once, at the start: standard streams that are closed or can't show every character do no harm from here on."""
    null = os.open(os.devnull, os.O_RDWR)
    while null < _STANDARD_FILES:  # or the next socket or file would be taken for standard output
        null = os.open(os.devnull, os.O_RDWR)
    os.close(null)
    if isinstance(sys.stdin, io.TextIOWrapper):
        sys.stdin.reconfigure(errors="replace")
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # On a screen columns count; in a file nothing is to be lost.
            stream.reconfigure(errors="replace" if stream.isatty() else "backslashreplace")
    logging.getLogger("sot_graph").addHandler(_WarningLines(logging.WARNING))
    _owns_process.set(True)


def exit_status(run: Callable[[], object]) -> int:
    """Run something, and say on standard error what went wrong, if anything did."""
    try:
        run()
        if sys.stdout is not None:
            sys.stdout.flush()  # or an error of what is still buffered would be found only at exit
    except SotConfigError as error:
        _print_reason(error)
        return 2
    except BrokenPipeError:  # `sot-graph ask ... | head`: the reader has what it wanted
        discard_output()
    except KeyboardInterrupt:
        return end_by_signal()
    except Exception as error:  # noqa: BLE001 - the end of the line: every failure gets its sentence and its status
        if isinstance(error, OSError):
            discard_output()
        _print_reason(error)
        return 1
    return 0


@contextmanager
def opened_model(model: str | None, base_url: str | None) -> Iterator[tuple[Runnable[Any, Any], ModelChoice]]:
    """The chat model that the options and the environment ask for, loaded with everything that it is needed with.

    Once it is loaded, a `SotConfigError` (a wrong key, an unknown model) is a failed run, and no bad usage any more.

    Yields:
        The model, and what is known of it. If it is embedded, what runs side by side shares this CPU.
    """
    errors = error_console()
    choice = choose_model(model, base_url)
    if choice.is_embedded:
        choice.check()  # what is not there is not said to be loading
    if choice.notice:
        errors.print(with_flag_names(choice.notice), style="dim", markup=False)
    what = "Loading the model" if choice.is_embedded else "Starting"
    with ExitStack() as stack:
        with waiting(errors, what, in_pipe=choice.is_embedded):
            chat = stack.enter_context(choice.opened())
            import sot_graph.graph  # noqa: F401 - LangGraph takes as long to import as a small model to load
        try:
            yield chat, choice
        except SotConfigError as error:
            raise _RunFailedError(str(error)) from error
        except KeyboardInterrupt:
            if _owns_process.get():
                # The embedded model stops only when it has computed what it is at, which takes seconds on a busy
                # machine.
                end_by_signal()
            raise


def end_by_signal() -> int:
    """Say what ended the command, and end the process with its status; where it is a test's, give that back."""
    status, word = interruption()
    error_console().print(word, style="dim")
    if _owns_process.get():
        end_process(status)
    return status


def end_process(status: int) -> NoReturn:
    """End the process at once: some threads of others' Python would wait for."""
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError, AttributeError):  # closed, full, or read by nobody
            stream.flush()
    os._exit(status)


def discard_output() -> None:
    """Send what is still buffered nowhere: at exit Python would try to write it, and complain once more."""
    with suppress(OSError, AttributeError):  # closed, or a test's
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def with_flag_names(message: str) -> str:
    """A message of the library's, with the command's options in place of the arguments and variables behind them."""
    for pattern, here in _PYTHON_ADVICE.items():
        message = pattern.sub(here, message)
    message = _ARGUMENT.sub(lambda found: f"--{found[1].replace('_', '-')}{found[2].replace('=', ' ')}", message)
    return _VARIABLE.sub(lambda found: f"--{found[1].lower().replace('_', '-')} ({found[0]})", message)


def _print_reason(error: Exception) -> None:
    """Say on standard error why the command ends."""
    if isinstance(error, OSError) and error.errno in _ERRORS_OF_WRITING:
        reason = f"{error.filename or 'standard output'} can't be written to: {error.strerror}."
    elif isinstance(error, SotError):
        reason = str(error)
    else:
        from sot_graph.llm.provider_errors import explain

        reason = explain(error)
    error_console().print(f"sot-graph: {one_plain_line(with_flag_names(reason))}", style="red", markup=False)


def plain_text(text: str) -> str:
    """A model's text for a screen or a pipe: nothing in it moves the cursor, turns the line or ends it unseen."""
    return _REMOVED.sub("", _LINE_ENDS.sub("\n", text))


def one_plain_line(text: str) -> str:
    """A message in one line without control characters, whoever wrote it."""
    return " ".join("".join(char if char.isprintable() else " " for char in text).split())


def output_console() -> Console:
    """Standard output, for rich."""
    return _Output(highlight=False)


def error_console() -> Console:
    """Standard error, for messages."""
    return _Errors(stderr=True, highlight=False, soft_wrap=True)


@contextmanager
def waiting(errors: Console, what: str, *, in_pipe: bool = True) -> Iterator[None]:
    """Show what is waited for: with a running clock on a terminal, in one plain line elsewhere, if that is wanted."""
    if not errors.is_terminal or os.environ.get("TERM") == "dumb":
        if in_pipe:
            errors.print(f"{what} ...", style="dim")
        yield
        return
    columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    # What is printed meanwhile stays where it goes: standard output may be a file.
    with Progress(*columns, console=errors, transient=True, redirect_stdout=False) as progress:
        progress.add_task(what, total=None)
        yield


def print_json(row: Mapping[str, Any]) -> None:
    """One JSON object in one line; in ASCII where standard output is in no Unicode encoding."""
    is_unicode = (sys.stdout.encoding or "utf-8").lower().startswith("utf")
    line = json.dumps(row, ensure_ascii=not is_unicode)
    sys.stdout.write(_ESCAPED_IN_JSON.sub(lambda found: f"\\u{ord(found[0]):04x}", line) + "\n")


def read_question(given: str, *, reviewed: bool = False) -> str:
    """The question of the command line; for `-`, what standard input holds. A review needs standard input, too."""
    if reviewed and given == "-":
        message = "--review asks on standard input, where - reads the question from: give the question as an argument."
        raise SotConfigError(message)
    if reviewed and sys.stdin is None:
        message = "--review asks on standard input, which is closed."
        raise SotConfigError(message)
    question = _read_input() if given == "-" else _decoded(os.fsencode(given), "the question")
    if not question.strip():
        message = "the question is empty: there is nothing to answer."
        raise SotConfigError(message)
    if len(question) > (most := SotOptions().max_question_chars):
        message = f"the question has {len(question):,} characters; it may have {most:,}."
        raise SotConfigError(message)
    return question


def asked_questions(question: str | None, file: Path | None) -> list[str]:
    """The one question of the command line, or those of its `--file`."""
    if (question is None) == (file is None):
        message = "give one question, or --file with one a line, or as sot-graph batch reads it."
        raise SotConfigError(message)
    if file is None:
        return [read_question(question or "")]
    return _rows_questions(file) if file.suffix.lower() in _TABLES else question_lines(file, "--file")


def _rows_questions(file: Path) -> list[str]:
    """The questions of a file that `batch` would read. Each is asked, also one that is there twice."""
    from sot_graph.batch.question_file import QuestionFile

    questions = [row.get("question", "") for _, row in QuestionFile(file).all_rows()]
    if not questions or not all(questions):
        message = f"--file {file}: {'a row has messages and no' if questions else 'it holds no'} question."
        raise SotConfigError(message)
    return questions


def question_lines(file: Path, option: str) -> list[str]:
    """The questions of a file, one a line. `option` names it in messages."""
    try:
        text = file.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        reason = "it is not UTF-8" if isinstance(error, UnicodeDecodeError) else error.strerror
        message = f"{option} {file} can't be read: {reason}."
        raise SotConfigError(message) from error
    # Not `splitlines`: it also splits at U+2028 and its like, which may stand inside a question.
    questions = [line for line in text.split("\n") if line.strip()]
    if not questions:
        message = f"{option} {file} holds no question."
        raise SotConfigError(message)
    return questions


def _read_input() -> str:
    if sys.stdin is None:
        message = "standard input is closed: the question - is read from there."
        raise SotConfigError(message)
    try:
        data = sys.stdin.buffer.read(_LONGEST_INPUT + 1)
    except OSError as error:
        message = f"standard input can't be read: {error.strerror}."
        raise SotConfigError(message) from error
    if len(data) > _LONGEST_INPUT:
        message = f"standard input holds more than {_LONGEST_INPUT:,} bytes, too much for a question."
        raise SotConfigError(message)
    return _decoded(data, "standard input")


def _decoded(data: bytes, what: str) -> str:
    """UTF-8, or else what the environment says."""
    for encoding in ("utf-8-sig", getattr(sys.stdin, "encoding", None) or "utf-8"):
        try:
            return data.decode(encoding)
        except UnicodeDecodeError as error:
            problem = f"byte 0x{error.object[error.start]:02x} at position {error.start}"
    message = f"{what} is not UTF-8 ({problem}): convert it, such as by `iconv -f latin1 -t utf-8`."
    raise SotConfigError(message)


class CommandTracing:
    """LangSmith's tracing in the command: one warning at most, and an end soon after the answer.

    Without tracing, it does nothing.
    """

    def __init__(self) -> None:
        self._client: Client | None = None
        self._outages: OutageFilter | None = None
        self._problem = ""

    def start(self) -> None:
        """Before the first run: the environment says whether it is traced, and where to."""
        from sot_graph.observability.langsmith_log_filter import is_switched_on, one_line, quiet_langsmith

        if not is_switched_on():
            return
        os.environ.setdefault("LANGSMITH_USE_DAEMON", "true")
        import langsmith
        from langsmith.utils import LangSmithMissingAPIKeyWarning

        # What the client logs is said by the command's own line.
        self._outages = quiet_langsmith()
        logger = logging.getLogger("langsmith")
        logger.addHandler(logging.NullHandler())
        logger.propagate = False
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("error", LangSmithMissingAPIKeyWarning)
                self._client = langsmith.Client()
        except LangSmithMissingAPIKeyWarning:
            self._problem = "LANGSMITH_TRACING is set, but LANGSMITH_API_KEY is not: this run is not traced."
        except Exception as error:  # noqa: BLE001  (a setting of LangSmith's is never worth the answer)
            self._problem = f"LangSmith's settings are wrong, so this run is not traced: {one_line(str(error))}"
        langsmith.configure(client=self._client, enabled=None if self._client is not None else False)

    def finish(self) -> bool:
        """After the answer: give the last traces a moment, and say what became of them if it is nothing good.

        True if the process has to be left by `end_process`, since the client's threads may not let it end.
        """
        if self._client is not None:
            # `flush(timeout=...)` bounds its waiting, not its sending.
            flushing = threading.Thread(target=self._client.flush, daemon=True)
            flushing.start()
            patience = trace_patience()
            flushing.join(patience)
            if self._outages is not None and (why := self._outages.first_reason):
                self._problem = f"LangSmith did not take this run's trace, or not all of it: {why}"
            elif flushing.is_alive():
                self._problem = f"LangSmith did not take this run's trace within {patience:g} s; it may be missing."
        if self._problem:
            error_console().print(f"sot-graph: warning: {self._problem}", style="yellow", markup=False)
        return self._client is not None


def trace_patience() -> float:
    """How many seconds the command waits for its traces to be sent."""
    try:
        seconds = float(os.environ.get(_TRACE_WAIT_VARIABLE) or _TRACE_WAIT_SECONDS)
    except ValueError:
        return _TRACE_WAIT_SECONDS
    return min(seconds, threading.TIMEOUT_MAX) if seconds >= 0 else _TRACE_WAIT_SECONDS
