"""Many questions: rows in, one line a question out; what a kill leaves undone is done by the next start.

`answer_row` answers one row by a graph and never raises for what became of it: the function to give to an engine that
spreads rows over machines. `QuestionFile` reads the rows. `sot-graph batch` is the same on one machine (docs/batch.md).
"""

from sot_graph.batch.question_file import QuestionFile
from sot_graph.batch.row import Row, answer_row

__all__ = ["QuestionFile", "Row", "answer_row"]
