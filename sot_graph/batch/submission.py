"""`Submission`: a file of questions, answered by a provider's batches: submit, look how far they are, collect.

A graph is run again and again, each time with the replies that are there. A loopback endpoint answers the requests that
the `RequestLedger` has a reply to, and notes and refuses the others. So the first pass notes all skeletons, the second
one all points, and the third gives the answers. No graph and no client is changed for it.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
import secrets
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from langsmith import tracing_context

from sot_graph.batch.line_file import LineFile
from sot_graph.batch.provider_batches import SUCCESS
from sot_graph.batch.question_pool import run_workers
from sot_graph.batch.row import Row, is_whole, try_row
from sot_graph.errors import ExpansionError, SotError

if TYPE_CHECKING:
    from langchain_core.runnables import Runnable

    from sot_graph.batch.answer_file import AnswerFile
    from sot_graph.batch.provider_batches import ProviderBatches

_WORKERS = 16
"""Rows at once."""
_MOST_TRIES = 3
_GIVEN_UP = 422
"""The status of the reply to a request that has failed so often: a graph doesn't repeat it."""
_NOT_YET = "this request waits for the provider's batch"
"""Looked for in the record: a sentence that no model writes, and that `explain` doesn't shorten."""
_LARGEST_BODY = 64 * 1024 * 1024
_REFUSED = 401
"""The status of a request that has no reply yet. A graph takes it for a wrong key, so it neither repeats the call nor
falls back to another format: it asks nothing that it wouldn't have asked."""


@dataclass(kw_only=True)
class Submission:
    """Answers questions by a provider's batches.

    Each step may be killed and made again. What the provider was sent is never sent twice.
    """

    provider: ProviderBatches
    ledger: RequestLedger
    answers: AnswerFile
    rows: Callable[[], Iterator[Row]]
    """Gives the questions that are still to be answered."""
    make_graph: Callable[[str], Runnable[Any, Any]]
    """Makes the graph with a model at this address. Its `on_router_failure` is `"raise"`."""
    say: Callable[[str], None]
    """Takes what happens, a line each."""

    def submit(self) -> int:
        """Find out what is to be asked now, and send it: for a row that is tried again, what it has failed by, too.

        Returns:
            How many questions wait for replies.
        """
        self.ledger.forget_spent()
        return self._send_what_is_asked()

    def _send_what_is_asked(self) -> int:
        self._find_unconfirmed()
        waiting = asyncio.run(self.replay())
        for chunk in self._chunks():
            batch = self.ledger.begin_batch(chunk)
            batch_id = self.provider.send(batch, self.ledger.bodies(chunk))
            self.ledger.sent(batch, batch_id)
            self.say(f"Sent {len(chunk):,} requests: {batch_id}.")
        return waiting

    def _chunks(self) -> Iterator[list[str]]:
        """The requests that are to be sent, as many together as a batch may hold. A larger one is alone in its own."""
        chunk: list[str] = []
        size = 0
        for key, body in self.ledger.bodies(self.ledger.open_keys()):
            length = len(json.dumps(body))
            if chunk and (len(chunk) == self.provider.max_requests or size + length > self.provider.max_bytes):
                yield chunk
                chunk, size = [], 0
            chunk.append(key)
            size += length
        if chunk:
            yield chunk

    def status(self) -> bool:
        """Say how far each batch is; whether one is over, or none is left, so that there is something to do."""
        self._find_unconfirmed()
        found = [(batch, self.provider.state(batch.id)) for batch in self.ledger.batches.values()]
        for batch, state in found:
            self.say(f"{batch.id}: {state.said}.")
        if not found:
            self.say("No batch is at the provider.")
        return not found or any(state.is_over for _, state in found)

    def collect(self) -> int:
        """Take over the replies of the batches that are over, and send what is to be asked next.

        Returns:
            How many questions wait for replies.

        Raises:
            SotError: The provider did nothing of a batch. What was in it is sent again by the next `submit`.
        """
        self._find_unconfirmed()
        for batch in list(self.ledger.batches.values()):
            state = self.provider.state(batch.id)
            if state.problem:
                self.ledger.drop(batch)
                message = f"The provider refused the batch {batch.id}: {state.problem}"
                raise SotError(message)
            if state.is_over:
                self.ledger.collect(batch, self.provider.results(batch.id))
        return self._send_what_is_asked()

    async def replay(self) -> int:
        """Answer those rows whose requests have replies, and note what the others ask. Returns how many rows wait."""
        rows, waiting = self.rows(), 0
        self.ledger.wanted.clear()
        asked_by: defaultdict[str, set[str]] = defaultdict(set)

        async def work(worker: str, address: str) -> None:
            nonlocal waiting
            # A graph of its own: by its address the endpoint knows whose requests they are.
            graph, asked = self.make_graph(f"{address}/{worker}"), asked_by[worker]
            for row in rows:
                asked.clear()
                earlier = self.answers.unfinished(row)
                # As long as points wait, nothing is to be made of the others, such as a conclusion.
                record, failure = await try_row(graph, row, earlier=earlier, context={"on_point_failure": "raise"})
                if isinstance(failure, ExpansionError) and not _waits(record):  # no reply is missing: it has failed
                    record, _ = await try_row(graph, row, earlier=earlier, context={"on_point_failure": "mark"})
                if _waits(record):
                    waiting += 1
                    continue
                if asked and asked <= self.ledger.spent:  # nothing is new: it has failed so before
                    continue
                _halve_cost(record, earlier or {})
                self.answers.append(record)
                if not is_whole(record):
                    self.ledger.spend(asked)

        logger = logging.getLogger("sot_graph")
        level = logger.level
        logger.setLevel(logging.ERROR)  # what waits is no point that failed
        try:
            with tracing_context(enabled=False):
                async with _endpoint(self.ledger, asked_by) as address:
                    names = map(str, count())
                    await run_workers(_WORKERS, lambda: work(next(names), address))
        finally:
            logger.setLevel(level)
        return waiting

    def _find_unconfirmed(self) -> None:
        """Find out which batches of a process that was killed in between have reached the provider."""
        known = {batch.id for batch in self.ledger.batches.values()}
        for batch in list(self.ledger.batches.values()):
            if batch.id:
                continue
            if batch_id := self.provider.find(batch, known):
                self.ledger.sent(batch, batch_id)
                known.add(batch_id)
            else:
                self.ledger.drop(batch)


def _waits(record: Mapping[str, Any]) -> bool:
    """Whether a call has no reply yet: the refusal's message is the error of the row, or of one of its texts."""
    return _NOT_YET in json.dumps(record)


def _halve_cost(record: dict[str, Any], earlier: Mapping[str, Any]) -> None:
    """Batches are sold at half the price. The record holds what an earlier try cost, too, which was halved then."""
    cost = record.get("usage", {}).get("cost", {})
    before = defaultdict(float, earlier.get("usage", {}).get("cost", {}))
    new = {stage: paid - before[stage] for stage, paid in cost.items() if isinstance(paid, float)}
    cost |= {stage: before[stage] + paid / 2 for stage, paid in new.items()}


@asynccontextmanager
async def _endpoint(ledger: RequestLedger, asked_by: Mapping[str, set[str]]) -> AsyncIterator[str]:
    """Serve the replies at the address that it yields, and note in `asked_by` what each worker asks at its own.

    A worker's address is that one, and `/` and its name.
    """
    from aiohttp import web

    async def answer(request: web.Request) -> web.Response:
        body = await request.json()
        key = ledger.key(body)
        asked_by[request.match_info["worker"]].add(key)
        if (known := ledger.reply(key)) is not None:
            status, reply = known
            return web.json_response(reply, status=status)
        ledger.ask(key, body)
        error = {"type": "authentication_error", "message": _NOT_YET}
        return web.json_response({"type": "error", "error": error}, status=_REFUSED)

    app = web.Application(client_max_size=_LARGEST_BODY)
    # Other users of this machine, and web pages in a browser on it, reach the port: they could have requests sent.
    key = secrets.token_urlsafe(24)
    app.router.add_post(f"/{key}/{{worker}}/{{path:.*}}", answer)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        yield f"http://127.0.0.1:{runner.addresses[0][1]}/{key}"
    finally:
        await runner.cleanup()


@dataclass(slots=True)
class SentBatch:
    """Requests that went to the provider together."""

    token: str
    """Our own name for it."""
    keys: list[str]
    sent_at: float
    """By this machine's clock, in seconds since 1970."""
    id: str = ""
    """The provider's; empty: not known whether it has got it."""


class RequestLedger(LineFile):
    """What was asked of a provider's batches, what was sent to it, and what it replied.

    A line each, so that a kill at any moment loses nothing: what is about to be sent is written down before, and what
    was sent without being written down is looked for at the provider.
    """

    def __init__(self, path: Path) -> None:
        self._requests: dict[str, int] = {}
        """Where the line of each request begins."""
        self.wanted: set[str] = set()
        """The requests that the last pass had no reply to: others of the file may be of other settings."""
        self._replies: dict[str, int] = {}
        self._failures: dict[str, set[str]] = defaultdict(set)
        """The batches in which each request failed, so that one that is collected again counts once."""
        self.spent: set[str] = set()
        """The requests of rows that failed, or lack a text. A later try of such a row asks them for new replies."""
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
        self.wanted.add(key)
        if key not in self._requests:
            self.append({"asked": key, "body": body})

    def open_keys(self) -> list[str]:
        """The requests that are to be sent."""
        under_way = {key for batch in self.batches.values() for key in batch.keys}
        return [key for key in self._requests if key in self.wanted and key not in under_way]

    def bodies(self, keys: list[str]) -> Iterator[tuple[str, Any]]:
        """Requests, one by one."""
        for key in keys:
            yield key, self.line_at(self._requests[key])["body"]

    def begin_batch(self, keys: list[str]) -> SentBatch:
        """Note what is about to be sent."""
        token = uuid4().hex
        self.append({"sending": token, "keys": keys, "at": time.time()})
        return self.batches[token]

    def sent(self, batch: SentBatch, batch_id: str) -> None:
        """The provider has it, under this id."""
        self.append({"sent": batch.token, "batch": batch_id})

    def collect(self, batch: SentBatch, results: Iterator[tuple[str, int, Any]]) -> None:
        """Take over what the provider replied. What has no reply is to be sent again, three times at most."""
        for key, status, body in results:
            if key not in self._requests:  # of somebody else's batch that looked like ours
                continue
            if status == SUCCESS:
                self.append({"reply": key, "status": status, "body": body})
            elif len(self._failures[key] | {batch.token}) < _MOST_TRIES:
                self.append({"failed": key, "batch": batch.token})
            else:
                self.append({"reply": key, "status": _GIVEN_UP, "body": body})
        self.drop(batch)

    def drop(self, batch: SentBatch) -> None:
        """The batch is over, or never was: what has no reply may be sent again."""
        self.append({"over": batch.token})

    def spend(self, keys: set[str]) -> None:
        """A row whose requests these are has failed, or lacks a text, and has its record."""
        self.append({"spent": sorted(keys)})

    def forget_spent(self) -> None:
        """Have the requests of such rows sent again, where a row still asks them."""
        if self.spent:
            self.append({"forgotten": sorted(self.spent)})

    def _note(self, line: Mapping[str, Any], place: int) -> None:
        if "asked" in line:
            self._requests[line["asked"]] = place
        elif "reply" in line:
            self._replies[line["reply"]] = place
        elif "failed" in line:
            self._failures[line["failed"]].add(line["batch"])
        elif "spent" in line:
            self.spent.update(line["spent"])
        elif "forgotten" in line:
            self.spent.clear()
            for key in line["forgotten"]:
                self._replies.pop(key, None)
                self._failures.pop(key, None)
        elif "sending" in line:
            self.batches[line["sending"]] = SentBatch(line["sending"], line["keys"], line["at"])
        elif "sent" in line:
            self.batches[line["sent"]].id = line["batch"]
        elif "over" in line:
            self.batches.pop(line["over"], None)
        else:
            raise KeyError
