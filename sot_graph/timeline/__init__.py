"""A picture of a run: what its timings and tokens come to, and an HTML page that shows it."""

from sot_graph.timeline.figures import PointFigures, RunFigures, Span, measure_run
from sot_graph.timeline.page import result_timeline

__all__ = ["PointFigures", "RunFigures", "Span", "measure_run", "result_timeline"]
