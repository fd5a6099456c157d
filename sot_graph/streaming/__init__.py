"""The reader's side of a stream: the answer in reading order."""

from sot_graph.streaming.answer_reader import AnswerReader, is_sot_event
from sot_graph.streaming.answer_stream import AnswerTransformer, astream_answer, stream_answer

__all__ = ["AnswerReader", "AnswerTransformer", "astream_answer", "is_sot_event", "stream_answer"]
