"""What a process that ends at a Ctrl-C says, so that nothing is stopped first."""

from contextvars import ContextVar

__all__ = ["ends_at_interrupt"]

ends_at_interrupt: ContextVar[bool] = ContextVar("sot_graph_ends_at_interrupt", default=False)
"""Whether this process ends at once when it is interrupted, without running anything to its end."""
