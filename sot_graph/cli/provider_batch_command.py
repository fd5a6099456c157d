"""`sot-graph batch --provider-batch`: the steps of a provider's batches."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sot_graph.batch.provider_batches import PROVIDERS
from sot_graph.batch.request_ledger import RequestLedger
from sot_graph.batch.submission import Submission
from sot_graph.cli.process import error_console
from sot_graph.errors import SotConfigError
from sot_graph.evaluation.arms import make_router

if TYPE_CHECKING:
    from sot_graph.batch.question_file import QuestionFile
    from sot_graph.batch.question_pool import QuestionPool
    from sot_graph.options import SotOptions

_SECONDS_BETWEEN_LOOKS = 60.0


def run_steps(
    pool: QuestionPool,
    questions: QuestionFile,
    provider: str,
    step: str | None,
    model: str | None,
    base_url: str | None,
    *,
    router: str | None,
    options: SotOptions,
) -> bool:
    """Make a step, or all of them.

    Returns:
        Whether every question has been answered, or has failed.
    """
    if model is None:
        message = "--provider-batch needs --model: which of the provider's models is to answer?"
        raise SotConfigError(message)
    batches = PROVIDERS[provider](base_url)
    errors, out = error_console(), pool.answers.path

    def say(line: str) -> None:
        errors.print(line, style="dim", markup=False)

    def make_graph(address: str) -> Any:
        from sot_graph.graph import create_sot_graph

        chat = batches.model(model, address)
        # A router's call that waits is no router that failed.
        raising = replace(options, on_router_failure="raise")
        return create_sot_graph(chat, options=raising, router=make_router(router, chat))

    with RequestLedger(Path(f"{out}.requests")) as ledger:
        submission = Submission(
            provider=batches,
            ledger=ledger,
            answers=pool.answers,
            rows=lambda: pool.left(questions),
            make_graph=make_graph,
            say=say,
        )
        if step == "status":
            submission.status()
            return False
        waiting = submission.submit() if step in (None, "submit") else submission.collect()
        while waiting and step is None:
            time.sleep(_SECONDS_BETWEEN_LOOKS)
            if submission.status():
                waiting = submission.collect()
        if waiting:
            say(f"{waiting:,} questions wait for the provider: sot-graph batch ... collect")
        return not waiting
