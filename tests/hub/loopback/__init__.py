"""
A Hub on the loopback: what `huggingface_hub`, `transformers` and `datasets` ask of huggingface.co, in LFS mode, and
with `hub.xet` set in Xet mode too.

The client is the real one, in a process of its own; the server is `server.py`. Repositories, commits, branches, tags
and tokens are kept in memory, two listeners answer on ports that the kernel chose, and faults can be armed. Status
codes and error headers are those the client reacts to. Not spoken: pull requests, organisations, gated
repositories, git itself.

Loaded by `../conftest.py`, whose fixtures `hub` and `run_client` are what tests use.
"""

from .cases import LOGIN, Case
from .client import Client, Finished
from .server import running_hub
from .state import Hub


__all__ = ["LOGIN", "Case", "Client", "Finished", "Hub", "running_hub"]
