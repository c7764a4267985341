"""What the tests of the Space share: its page as a module."""

import importlib.util
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def space_app():
    """`hub_card/space/app.py`, which no package holds."""
    path = Path(__file__).resolve().parents[2] / "hub_card" / "space" / "app.py"
    spec = importlib.util.spec_from_file_location("space_app", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
