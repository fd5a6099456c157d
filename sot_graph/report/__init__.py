"""A report on a run: what its timings and tokens come to, and an HTML page that shows it."""

from sot_graph.report.metrics import RunFigures, SectionFigures, Span, measure_run
from sot_graph.report.page import result_timeline

__all__ = ["RunFigures", "SectionFigures", "Span", "measure_run", "result_timeline"]
