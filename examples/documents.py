"""An answer from this project's own docs, by the real embedded model: offline, without an API key.

    python examples/documents.py

The documents are the pages of docs/. They are far more than a prompt can hold: each point is written from the passages
that concern it, which BM25 finds. A model of this size drafts no good skeleton from documents and cites nothing by
itself. So the titles are given, and the answer lists all that its points were written from. A larger one needs neither.
"""

import sys
from pathlib import Path

from sot_graph import SotOptions, create_sot_graph, load_documents, local_model, stream_answer

DOCS = Path(__file__).parents[1] / "docs"
QUESTION = "What does the graph do when something goes wrong?"
TITLES = ["A provider is busy", "A point fails", "A process is killed"]


def main() -> None:
    """One question over a folder of Markdown files."""
    documents = load_documents(DOCS)
    characters = sum(len(document.page_content) for document in documents)
    print(f"{len(documents)} documents, {characters:,} characters\n")
    with local_model() as model:
        graph = create_sot_graph(model, options=SotOptions(sources="all"))
        given = {"question": QUESTION, "given_skeleton": TITLES, "documents": documents}
        for text in stream_answer(graph, given):
            sys.stdout.write(text)
            sys.stdout.flush()
    print()


if __name__ == "__main__":
    main()
