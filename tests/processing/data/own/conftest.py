import pytest


@pytest.fixture
def write(tmp_path):
    """Content to a file, and its rows."""

    def write(content, name):
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode("utf-8"))
        return path

    return write
