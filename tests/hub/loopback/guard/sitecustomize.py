"""
Python reads this first in every client process of these tests, by PYTHONPATH. Three switches, each a variable:

    LOOPBACK_LOG      file for what happens here, a JSON list a line; connections to anywhere but the loopback fail
    LOOPBACK_BLOCKED  packages that cannot be imported, separated by commas: the client has not installed them
    LOOPBACK_PACE     factor for waits of half a second and more, so that a client that retries does so at once
"""

import importlib.abc
import json
import os
import sys
import time


LOG = os.environ.get("LOOPBACK_LOG")
BLOCKED = tuple(filter(None, os.environ.get("LOOPBACK_BLOCKED", "").split(",")))
PACE = float(os.environ.get("LOOPBACK_PACE", "1"))
LOOPBACK = ("127.0.0.1", "::1", "localhost")


def note(*entry):
    if LOG:
        with open(LOG, "a", encoding="utf-8") as file:
            file.write(json.dumps(entry) + "\n")


class NotInstalled(importlib.abc.MetaPathFinder):
    """First in line, hence before the finder of an editable install."""

    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in BLOCKED:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)


def guard(event, arguments):
    if event in ("socket.getaddrinfo", "socket.gethostbyname"):
        host = arguments[0]
    elif event in ("socket.connect", "socket.sendto") and isinstance(arguments[1], tuple):  # else a Unix socket's path
        host = arguments[1][0]
    else:
        return
    host = host.decode() if isinstance(host, bytes) else host
    if host is not None and host not in LOOPBACK:
        note("egress", host)
        raise ConnectionRefusedError(f"the tests let nothing out: {host}")


def sleep(seconds, _sleep=time.sleep):
    if seconds >= 0.5:
        note("wait", seconds)
        seconds *= PACE
    _sleep(seconds)


if BLOCKED:
    sys.meta_path.insert(0, NotInstalled())
if LOG:
    sys.addaudithook(guard)
    time.sleep = sleep
