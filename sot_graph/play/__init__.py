"""The playground: a page on this machine where a question is answered directly and with a skeleton, side by side.

It is a place to look, not a product to deploy. `sot-graph play` serves it.
"""
