"""What a run tells of itself, what is kept out of that, and what LangSmith's client says when it can't be told."""
