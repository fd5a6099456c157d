"""Coroutines for synchronous callers, isolated foreign code, and limits that hold across threads and loops."""
