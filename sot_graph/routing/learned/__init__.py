"""The learned router: a small linear model over how a question is worded, and what it knows of English."""
