"""The reader's side of a stream: the answer in reading order."""

from sot_graph.streaming.iterating import astream_answer, stream_answer
from sot_graph.streaming.projection import AnswerTransformer
from sot_graph.streaming.reading import AnswerReader

__all__ = ["AnswerReader", "AnswerTransformer", "astream_answer", "stream_answer"]
