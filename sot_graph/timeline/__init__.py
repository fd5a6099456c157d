"""A picture of a run: what its timings and tokens come to, and an HTML page that shows it."""

from sot_graph.timeline.figures import measure_run
from sot_graph.timeline.page import result_timeline
from sot_graph.timeline.reading import Span
from sot_graph.timeline.records import PointFigures, RunFigures

__all__ = ["PointFigures", "RunFigures", "Span", "measure_run", "result_timeline"]
