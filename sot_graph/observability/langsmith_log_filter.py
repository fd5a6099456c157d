"""`quiet_langsmith`: one WARNING for an outage of LangSmith, in place of one for every batch that it did not take.

The library never calls it. The command does, and a program may.
"""

from __future__ import annotations

import logging
import os
import re
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from sot_graph.concurrency import reset_after_fork
from sot_graph.observability.redaction import without_keys

if TYPE_CHECKING:
    from langsmith import Client

_OUTAGE_SECONDS = 3600.0
_LONGEST_MESSAGE = 8_192
_LONGEST_REASON = 160
_ADDRESS = re.compile(r"https?://(?:\[[\da-fA-F:]+\]|[\w.-]+)(?::\d+)?")
_RUN_IDS = re.compile(r"(?:trace=[\w-]+,id=[\w-]+(?:; )?)+.*", re.DOTALL)
_HOSTED = ".langchain.com"
_SWITCHES = ("LANGSMITH_TRACING", "LANGSMITH_TRACING_V2", "LANGCHAIN_TRACING", "LANGCHAIN_TRACING_V2")
_KEYS = ("LANGSMITH_API_KEY", "LANGCHAIN_API_KEY")


class OutageFilter(logging.Filter):
    """Lets the first WARNING about an address through, in one line; those of the next hour become DEBUG."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self.first_reason = ""
        """Why the first trace was not taken, in one line; empty: all were, as far as is known."""
        self._clock = clock
        self._keyed: set[str] = set()
        """Addresses whose client was given its key by the program."""
        self.reset_in_child()
        reset_after_fork(self)

    def reset_in_child(self) -> None:
        """Locks don't survive a fork."""
        self._lock = threading.Lock()
        self._outages: dict[str, tuple[float, int]] = {}
        """By address: when the latest one began, and how many warnings of it were not shown."""
        self._said: dict[str, float] = {}
        """Warnings without an address, such as that a setting isn't valid, and when each was shown."""

    def know(self, client: Client) -> None:
        """Take note of a client that was given its key. What it can't send isn't for want of one in the environment."""
        self._keyed.add(_address_in(client.api_url))

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether a record is logged, perhaps as DEBUG. One that can't be read stays as it is, and raises nothing."""
        if record.levelno < logging.WARNING:
            return True
        try:
            return self._shortened(record)
        except Exception:  # noqa: BLE001  (its arguments don't fit its message; the handler reports that)
            return True

    def _shortened(self, record: logging.LogRecord) -> bool:
        message = record.getMessage()[:_LONGEST_MESSAGE]
        reason = one_line(message)
        self.first_reason = self.first_reason or reason
        address = _address_in(message)
        is_admitted, more = self._admit(address, reason)
        if not is_admitted:
            record.levelno, record.levelname = logging.DEBUG, logging.getLevelName(logging.DEBUG)
            return logging.getLogger(record.name).isEnabledFor(logging.DEBUG)
        if address:
            before = f" ({more} more since the last warning)" if more else ""
            record.levelno, record.levelname = logging.WARNING, logging.getLevelName(logging.WARNING)
            record.msg = f"LangSmith does not take traces{before}: {reason} (More of it is logged as DEBUG.)"
            record.args = record.exc_info = record.exc_text = record.stack_info = None
        return True

    def _admit(self, address: str, reason: str) -> tuple[bool, int]:
        """Whether a warning is shown; and if another outage begins with it, how many of the last one were not shown.

        Not shown are, of an address that lacks its key, all; of no address, those during an outage, and within an hour
        the same ones; of any other address, those within an hour of its first.
        """
        with self._lock:
            now = self._clock()
            host = address.rpartition("//")[2].partition(":")[0].lower()
            may_lack_key = address not in self._keyed and f".{host}".endswith(_HOSTED) and is_switched_on()
            if may_lack_key and not any(os.environ.get(name, "").strip() for name in _KEYS):
                self._outages[address] = (now, 0)
                return False, 0  # LangSmith has warned of the missing key as the client was made
            if not address:
                # During an outage it is taken for what follows from that, such as a full queue.
                if any(now - since < _OUTAGE_SECONDS for since, _ in self._outages.values()):
                    return False, 0
                self._said = {each: when for each, when in self._said.items() if now - when < _OUTAGE_SECONDS}
                is_new = reason not in self._said
                self._said.setdefault(reason, now)
                return is_new, 0
            since, more = self._outages.get(address, (float("-inf"), 0))
            if now - since < _OUTAGE_SECONDS:
                self._outages[address] = (since, more + 1)
                return False, 0
            self._outages[address] = (now, 0)
            return True, more


def quiet_langsmith(client: Client | None = None) -> OutageFilter:
    """Log an outage of LangSmith as one WARNING an hour, by a filter on the logger `langsmith.client`.

    Args:
        client: A client that the program gave its key. If the environment has no key, warnings of other clients
            are hidden: LangSmith has warned of the missing key when they were made.

    Returns:
        The filter.

    Examples:
        >>> quiet_langsmith() is quiet_langsmith()
        True
    """
    logger = logging.getLogger("langsmith.client")
    quiet = next((there for there in logger.filters if isinstance(there, OutageFilter)), None)
    if quiet is None:
        quiet = OutageFilter()
        logger.addFilter(quiet)
    if client is not None:
        quiet.know(client)
    return quiet


def is_switched_on() -> bool:
    """Whether the environment has this context traced."""
    if not any(os.environ.get(name) for name in _SWITCHES):  # then an import is spared
        return False
    from langsmith.utils import tracing_is_enabled

    return bool(tracing_is_enabled())


def _address_in(text: str) -> str:
    found = _ADDRESS.search(text)
    return found[0] if found is not None else ""


def one_line(text: str) -> str:
    """What LangSmith's client says, without keys and the ids of runs."""
    line = without_keys(" ".join(_RUN_IDS.sub("", text).split()))
    return line if len(line) <= _LONGEST_REASON else line[: _LONGEST_REASON - 1] + "…"
