"""One way to write a text, from two sources: a model, or an expander of the caller's."""
