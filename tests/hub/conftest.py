"""A Hub on the loopback, and clients that run as a user's would: see `loopback/`."""

import importlib.util
import sys
from pathlib import Path

import pytest


def _load():
    # By path: pytest runs with --import-mode=importlib, which puts no folder of tests on sys.path. The tests import it
    # by the name that it gets here.
    folder = Path(__file__).with_name("loopback")
    spec = importlib.util.spec_from_file_location(
        "loopback_hub", folder / "__init__.py", submodule_search_locations=[str(folder)]
    )
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


loopback = _load()


@pytest.fixture
def hub():
    """A fresh Hub: arm faults, look at files, commits and requests. Checked when the test ends."""
    with loopback.running_hub() as hub:
        yield hub


@pytest.fixture
def run_client(hub, fork_stranger, tmp_path):
    """`run_client("import ...", argument, token=None)` or `run_client(script, ...)` -> the finished process."""
    return loopback.Client(hub, tmp_path / "clients", fork_stranger)


@pytest.fixture(scope="module")
def shared_hub():
    """One for all tests of a file, which look at what one costly process did."""
    with loopback.running_hub() as hub:
        yield hub


@pytest.fixture(scope="module")
def run_shared_client(shared_hub, fork_stranger, tmp_path_factory):
    return loopback.Client(shared_hub, tmp_path_factory.mktemp("clients"), fork_stranger)
