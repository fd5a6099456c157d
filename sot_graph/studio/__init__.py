"""What LangGraph's development server serves, and Studio shows: see `langgraph.json` and `docs/studio.md`.

    python -m sot_graph.studio    # beside a langgraph.json: `langgraph dev`, after a look whether there is a model

`sot_graph.studio.served` holds the graphs. Importing it starts their model: the server does so as it starts, in a
thread, where blocking is allowed; nothing else should.
"""
