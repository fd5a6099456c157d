"""`Submission`: a file of questions, answered by a provider's batches: submit, look how far they are, collect."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sot_graph.batch.replay import replay
from sot_graph.errors import SotError

if TYPE_CHECKING:
    from langchain_core.runnables import Runnable

    from sot_graph.batch.answer_file import AnswerFile
    from sot_graph.batch.provider_batches import ProviderBatches
    from sot_graph.batch.request_ledger import RequestLedger
    from sot_graph.batch.row import Row

_WORKERS = 16


@dataclass(kw_only=True)
class Submission:
    """Answers questions by a provider's batches.

    Each step may be killed and made again. What the provider was sent is never sent twice.

    Args:
        provider: The provider's batches.
        ledger: What was asked and replied.
        answers: Where answers go.
        rows: Gives the questions that are still to be answered.
        make_graph: Makes the graph with a model at this address. Its `on_router_failure` is `"raise"`.
        say: Takes what happens, a line each.
    """

    provider: ProviderBatches
    ledger: RequestLedger
    answers: AnswerFile
    rows: Callable[[], Iterator[Row]]
    make_graph: Callable[[str], Runnable[Any, Any]]
    say: Callable[[str], None]

    def submit(self) -> int:
        """Find out what is to be asked now, and send it.

        Returns:
            How many questions wait for replies.
        """
        self._settle()
        waiting = asyncio.run(replay(self.make_graph, self.rows(), self.answers, self.ledger, workers=_WORKERS))
        keys = self.ledger.open_keys()
        for start in range(0, len(keys), self.provider.most):
            chunk = keys[start : start + self.provider.most]
            batch = self.ledger.begin_batch(chunk)
            batch_id = self.provider.send(batch, self.ledger.bodies(chunk))
            self.ledger.sent(batch, batch_id)
            self.say(f"Sent {len(chunk):,} requests: {batch_id}.")
        return waiting

    def status(self) -> bool:
        """Say how far each batch is; whether one is over, so that there is something to collect."""
        self._settle()
        found = [(batch, self.provider.state(batch.id)) for batch in self.ledger.batches.values()]
        for batch, state in found:
            self.say(f"{batch.id}: {state.said}.")
        return any(state.is_over for _, state in found)

    def collect(self) -> int:
        """Take over the replies of the batches that are over, and send what is to be asked next.

        Returns:
            How many questions wait for replies.

        Raises:
            SotError: The provider did nothing of a batch. What was in it is sent again by the next `submit`.
        """
        self._settle()
        for batch in list(self.ledger.batches.values()):
            state = self.provider.state(batch.id)
            if state.problem:
                self.ledger.drop(batch)
                message = f"The provider refused the batch {batch.id}: {state.problem}"
                raise SotError(message)
            if state.is_over:
                self.ledger.collect(batch, self.provider.results(batch.id))
        return self.submit()

    def _settle(self) -> None:
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
