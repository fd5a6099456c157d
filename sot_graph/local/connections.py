"""Cutting the connections of a server that is about to stop."""

from __future__ import annotations

import os
import socket
import stat
from pathlib import Path

__all__ = ["cut_connections"]

_OWN_FILES = Path("/dev/fd")  # Linux and macOS.


def cut_connections(host: str, port: int) -> None:
    """Shut down what is connected to a server inside this process.

    llama.cpp waits for the answers being written before it stops, and they don't come any more once it is
    stopping. What ends the wait is a client that hangs up; but clients in this process can't, because stopping
    holds the interpreter. So we hang up for them, at the server's end: its sockets are this process's too.

    Where a process can't list its own files (Windows), this does nothing.
    """
    try:
        numbers = [int(name) for name in os.listdir(_OWN_FILES)]
    except OSError:
        return
    for number in numbers:
        try:
            if stat.S_ISSOCK(os.fstat(number).st_mode):
                _cut(number, (host, port))
        except OSError:  # Closed since it was listed, or the listening socket, which has no peer.
            continue


def _cut(number: int, address: tuple[str, int]) -> None:
    with socket.socket(fileno=os.dup(number)) as connection:
        if connection.family == socket.AF_INET and connection.getsockname() == address:
            connection.getpeername()
            connection.shutdown(socket.SHUT_RDWR)
