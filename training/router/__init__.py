"""Trains and measures the learned router. See docs/router.md."""
