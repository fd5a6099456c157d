"""The graph inside of agents: as a tool, and as a middleware."""
