"""Models as the graph uses them: named, called, repeated, validated, on any event loop."""
