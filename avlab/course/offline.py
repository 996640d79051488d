"""No network in a lesson: refuse every connection beyond this machine, in this process and in its Python children.

The runner copies this file, as `sitecustomize.py`, into a folder that it puts first on the kernel's `PYTHONPATH`, so it
runs before any line of the lesson. It therefore uses the standard library alone. Python's own audit events are the
hook: they cannot be undone by the lesson and see every library that goes through Python's sockets. Programs that are
not Python, and URLs opened inside C libraries, are not seen; `avlab check` refuses those in the source.
"""

import importlib.util
import ipaddress
import os
import socket
import sys


class NetworkBlockedError(RuntimeError):
    """A lesson tried to use the network."""


def _local(host: object) -> bool:
    name = host.decode(errors="replace") if isinstance(host, bytes) else str(host or "localhost")
    if name in ("localhost", socket.gethostname()):
        return True
    try:
        return ipaddress.ip_address(name.split("%")[0]).is_loopback or name == "0.0.0.0"
    except ValueError:
        return False


def _watch(event: str, args: tuple) -> None:
    if event in ("socket.connect", "socket.sendto", "socket.sendmsg"):
        address = args[1]
        if not isinstance(address, tuple):  # a Unix socket's path, or a socket that is connected already
            return
        host, what = address[0], ":".join(str(part) for part in address[:2])
    elif event in ("socket.getaddrinfo", "socket.gethostbyname"):
        host = what = args[0]
    else:
        return
    if not _local(host):
        what = what.decode(errors="replace") if isinstance(what, bytes) else what
        log = os.environ.get("AVLAB_NETWORK_LOG")
        if log:  # so that an attempt whose exception is swallowed is reported all the same
            with open(log, "a", encoding="utf-8") as file:
                file.write(f"{what}\n")
        raise NetworkBlockedError(
            f"tried to reach {what}: a lesson must not use the network; put what it needs in data/"
        )


if __name__ == "sitecustomize":
    sys.addaudithook(_watch)
    # the environment may have a sitecustomize of its own, which this one hides: run it as well
    _here = os.path.dirname(os.path.abspath(__file__))
    _spec = importlib.machinery.PathFinder.find_spec("sitecustomize", [p for p in sys.path if p != _here])
    if _spec is not None and _spec.loader is not None:
        _spec.loader.exec_module(importlib.util.module_from_spec(_spec))
