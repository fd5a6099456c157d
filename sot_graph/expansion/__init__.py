"""The expansion of one point: written, cleaned, continued where it broke off; by the model, or by an expander."""

from sot_graph.expansion.cleaning import TextCleaner
from sot_graph.expansion.expander import Expander, ExpanderInput, check_expander
from sot_graph.expansion.replying import TextWriter
from sot_graph.expansion.writing import PointWriter

__all__ = ["Expander", "ExpanderInput", "PointWriter", "TextCleaner", "TextWriter", "check_expander"]
