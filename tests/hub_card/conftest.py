"""What the tests of the Space share: its page as a module, the folder of its uploads, a served page."""

import importlib.util
import shutil
import sys
from pathlib import Path

import pytest

from hub_card.sharing.space_folder import PAGE_FILES


@pytest.fixture(scope="session")
def uploads(tmp_path_factory):
    """The folder in which gradio keeps what visitors upload."""
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("uploads")
        patch.setenv("GRADIO_TEMP_DIR", str(folder))
        yield folder


@pytest.fixture(scope="session")
def space_app(uploads, tmp_path_factory):
    """`hub_card/space/app.py`, which no package holds; `visitors.py` and `limits.py` lie beside it, as in a Space."""
    folder = tmp_path_factory.mktemp("space")
    for name, room in PAGE_FILES.items():
        shutil.copyfile(Path(__file__).resolve().parents[2] / "hub_card" / room / name, folder / name)
    path = folder / "app.py"
    spec = importlib.util.spec_from_file_location("space_app", path)
    module = importlib.util.module_from_spec(spec)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(path.parent)
        spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def visitors(space_app):
    """`hub_card/space/visitors.py`."""
    return sys.modules["visitors"]


@pytest.fixture
def serve(space_app):
    """`serve(page)` -> its address; it ends with the test."""
    pages = []

    def start(page):
        pages.append(page)
        return space_app.serve(page, prevent_thread_lock=True, quiet=True)[1]

    yield start
    for page in pages:
        page.close()
