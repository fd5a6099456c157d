"""The texts of an answer, each written, cleaned, continued where it broke off: its points, and what frames them."""

from sot_graph.expansion.cleaning import TextCleaner
from sot_graph.expansion.expander import Expander, ExpanderInput, check_expander
from sot_graph.expansion.framing import FrameWriter
from sot_graph.expansion.replying import TextWriter
from sot_graph.expansion.timing import write_something
from sot_graph.expansion.writing import PointWriter

__all__ = [
    "Expander",
    "ExpanderInput",
    "FrameWriter",
    "PointWriter",
    "TextCleaner",
    "TextWriter",
    "check_expander",
    "write_something",
]
