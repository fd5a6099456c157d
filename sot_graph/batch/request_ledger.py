"""`RequestLedger`: what was asked of a provider's batches, what was sent to it, and what it replied.

A line each, so that a kill at any moment loses nothing: what is about to be sent is written down before, and what was
sent without being written down is looked for at the provider.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

from sot_graph.batch.line_file import LineFile

_MOST_TRIES = 3
_GIVEN_UP = 422
"""The status of the reply to a request that has failed so often: a graph doesn't repeat it."""


@dataclass(slots=True)
class SentBatch:
    """Requests that went to the provider together."""

    token: str
    keys: list[str]
    sent_at: float
    """By this machine's clock, in seconds since 1970."""
    id: str = ""
    """The provider's; empty: not known whether it has got it."""


class RequestLedger(LineFile):
    """The requests of a batch and their replies.

    Args:
        path: Made where it isn't there.

    Raises:
        SotConfigError: It can't be written, another process writes to it, or it is something else.
    """

    def __init__(self, path: Path) -> None:
        self._requests: dict[str, int] = {}
        """Where the line of each request begins."""
        self._replies: dict[str, int] = {}
        self._failures: Counter[str] = Counter()
        self.batches: dict[str, SentBatch] = {}
        """Those that aren't collected, by their tokens."""
        super().__init__(path, self._note)

    @staticmethod
    def key(body: Mapping[str, Any]) -> str:
        """What a request is known by, whatever the order of its fields."""
        return hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()[:32]

    def reply(self, key: str) -> tuple[int, Any] | None:
        """The status and body of the reply; `None`: there is none yet."""
        place = self._replies.get(key)
        if place is None:
            return None
        line = self.line_at(place)
        return line["status"], line["body"]

    def ask(self, key: str, body: Mapping[str, Any]) -> None:
        """Note a request that has no reply."""
        if key not in self._requests:
            self._write({"asked": key, "body": body})

    def open_keys(self) -> list[str]:
        """The requests that are to be sent."""
        under_way = {key for batch in self.batches.values() for key in batch.keys}
        return [key for key in self._requests if key not in self._replies and key not in under_way]

    def bodies(self, keys: list[str]) -> Iterator[tuple[str, Any]]:
        """Requests, one by one."""
        for key in keys:
            yield key, self.line_at(self._requests[key])["body"]

    def begin_batch(self, keys: list[str]) -> SentBatch:
        """Note what is about to be sent."""
        token = uuid4().hex
        self._write({"sending": token, "keys": keys, "at": time.time()})
        return self.batches[token]

    def sent(self, batch: SentBatch, batch_id: str) -> None:
        """The provider has it, under this id."""
        self._write({"sent": batch.token, "batch": batch_id})

    def collect(self, batch: SentBatch, results: Iterator[tuple[str, int, Any]]) -> None:
        """Take over what the provider replied. What has no reply is to be sent again, three times at most."""
        for key, status, body in results:
            if key not in self._requests:  # of somebody else's batch that looked like ours
                continue
            if status == 200:  # noqa: PLR2004
                self._write({"reply": key, "status": status, "body": body})
            elif self._failures[key] + 1 < _MOST_TRIES:
                self._write({"failed": key})
            else:
                self._write({"reply": key, "status": _GIVEN_UP, "body": body})
        self.drop(batch)

    def drop(self, batch: SentBatch) -> None:
        """The batch is over, or never was: what has no reply may be sent again."""
        self._write({"over": batch.token})

    def _write(self, line: Mapping[str, Any]) -> None:
        self._note(line, self.append(line))

    def _note(self, line: Mapping[str, Any], place: int) -> None:
        if "asked" in line:
            self._requests[line["asked"]] = place
        elif "reply" in line:
            self._replies[line["reply"]] = place
        elif "failed" in line:
            self._failures[line["failed"]] += 1
        elif "sending" in line:
            self.batches[line["sending"]] = SentBatch(line["sending"], line["keys"], line["at"])
        elif "sent" in line:
            self.batches[line["sent"]].id = line["batch"]
        elif "over" in line:
            self.batches.pop(line["over"], None)
