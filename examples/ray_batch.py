"""Questions answered by the machines of a Ray cluster: a run that was killed goes on with what is missing.

    pip install 'ray[data]'
    python examples/ray_batch.py questions.jsonl answers/ --model gpt-4o-mini

The questions are as for `sot-graph batch`: JSON lines, CSV or Parquet. `answers/`, `answers.checkpoints/` and
`answers.questions.parquet` must be where all machines reach them. Each step wants a CPU of its own, though it mostly
waits: count a small machine's as more (`ray start --head --num-cpus 8`). On one machine `sot-graph batch` does the same
in one process.
"""

import argparse
import json
from pathlib import Path

import pyarrow
import ray
from pyarrow import parquet
from ray.data.checkpoint import CheckpointConfig

from sot_graph import SotOptions, create_sot_graph
from sot_graph.batch import QuestionFile, answer_row


class Answerer:
    """One process of the cluster: its graph, and many questions at once."""

    def __init__(self, model: str) -> None:
        self.graph = create_sot_graph(model, options=SotOptions(stream=False))

    async def __call__(self, row: dict) -> dict:
        """Answer a question. Row and record are text, so that all have the same columns."""
        record = await answer_row(self.graph, json.loads(row["row"]))
        return {"id": row["id"], "record": json.dumps(record)}


def main() -> None:
    """Answer a file of questions into a folder of files."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("questions", type=Path)
    parser.add_argument("answers", type=Path)
    parser.add_argument("--model", default="gpt-4o-mini")
    parser.add_argument("--processes", type=int, default=1, help="graphs in the cluster, each in a process of its own")
    parser.add_argument("--block", type=int, default=32, help="questions of a process at once, checkpointed together")
    arguments = parser.parse_args()

    context = ray.data.DataContext.get_current()
    answers = arguments.answers.absolute()
    # Of a run that ended well nothing is kept, so the same command begins anew.
    context.checkpoint_config = CheckpointConfig(id_column="id", checkpoint_path=f"{answers}.checkpoints")
    context.enable_progress_bars = False
    questions = f"{answers}.questions.parquet"
    asked = [{"id": row["id"], "row": json.dumps(row)} for row in QuestionFile(arguments.questions)]
    parquet.write_table(pyarrow.Table.from_pylist(asked), questions)
    rows = ray.data.read_parquet(questions).repartition(target_num_rows_per_block=arguments.block)
    pool = ray.data.ActorPoolStrategy(size=arguments.processes)
    # A process mostly waits for the model, so that it needs little of a core.
    rows.map(Answerer, fn_constructor_args=[arguments.model], compute=pool, num_cpus=0.25).write_json(str(answers))


if __name__ == "__main__":
    main()
