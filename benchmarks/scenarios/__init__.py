"""What is measured, by name."""

from benchmarks.scenarios.base import Scenario

__all__ = ["Scenario", "scenarios"]


def scenarios() -> dict[str, Scenario]:
    """All of them, in the order in which they are run."""
    from benchmarks.scenarios import (
        cost,
        crowd,
        embedded,
        hosted,
        opening,
        overhead,
        retrieval,
        routing,
        speedup,
        startup,
    )

    found = [
        *hosted.SCENARIOS,
        opening.SCENARIO,
        retrieval.SCENARIO,
        speedup.SCENARIO,
        routing.SCENARIO,
        cost.SCENARIO,
        overhead.SCENARIO,
        overhead.THOUSAND,
        crowd.SCENARIO,
        embedded.SCENARIO,
        startup.SCENARIO,
    ]
    return {scenario.name: scenario for scenario in found}
