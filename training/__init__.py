"""What makes the files that ship with sot_graph. Not part of the package."""
