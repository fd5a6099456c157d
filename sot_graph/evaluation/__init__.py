"""Whether it is worth it for a model: two ways to an answer, over many questions, with statistics that hold.

`sot-graph evaluate` is the command; `inspect eval sot_graph/evaluation` runs the same task. See docs/evaluation.md.
"""
