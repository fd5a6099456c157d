"""Documents in: those that a caller gave or a retriever found, the right ones to each section of the answer."""
