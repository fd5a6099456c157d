"""The expansion of one point: written, cleaned, continued where it broke off."""

from sot_graph.expansion.cleaning import TextCleaner
from sot_graph.expansion.replying import TextWriter
from sot_graph.expansion.writing import PointWriter

__all__ = ["PointWriter", "TextCleaner", "TextWriter"]
