"""An answer from this project's own docs, by the real embedded model: offline, without an API key.

    python examples/documents.py

The documents are the pages of docs/. They are far more than a prompt can hold: each point is written from the passages
that concern it, which BM25 finds. A model of 135 million parameters copies from them more than it reads them, and cites
nothing, so the answer lists all that its points were written from. With a larger one leave `sources` out, and the
answer cites as it goes.
"""

import sys
from pathlib import Path

from sot_graph import SotOptions, create_sot_graph, load_documents, local_model, stream_answer

DOCS = Path(__file__).parents[1] / "docs"
QUESTION = "What happens when a point fails or is late?"


def main() -> None:
    """One question over a folder of Markdown files."""
    documents = load_documents(DOCS)
    characters = sum(len(document.page_content) for document in documents)
    print(f"{len(documents)} documents, {characters:,} characters\n")
    with local_model() as model:
        graph = create_sot_graph(model, options=SotOptions(max_points=3, sources="all"))
        for text in stream_answer(graph, {"question": QUESTION, "documents": documents}):
            sys.stdout.write(text)
            sys.stdout.flush()
    print()


if __name__ == "__main__":
    main()
