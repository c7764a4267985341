import errno

import pytest

from processing.jobs.cache_errors import cache_errors


def refused(path):
    return PermissionError(errno.EACCES, "Permission denied", path)


@pytest.mark.parametrize(
    "path",
    [
        "/x/c",
        "/x/c/a/b.arrow",
        b"/x/c/a",
        "/x",
        "/x/c.lock",
        "/x/c_builder.lock",
        "/x/c.incomplete/a.arrow",
        None,
    ],
)
def test_of_the_cache(path):
    with pytest.raises(OSError, match=r"^.Errno 13. /x/c cannot be written. Allow it"), cache_errors("/x/c"):
        raise refused(path)


@pytest.mark.parametrize("path", ["/x/c-data/train.jsonl", "/x/c2", "/y/train.jsonl", "/x/d.lock", "/x/cd/c.lock"])
def test_of_a_file_that_is_read(path):
    with pytest.raises(PermissionError, match="Permission denied: '/"), cache_errors("/x/c"):
        raise refused(path)


def test_a_full_disk_that_datasets_tells_in_its_own_words():
    with pytest.raises(OSError, match=r"^.Errno 28. There is no space left in /x/c"), cache_errors("/x/c"):
        raise OSError("Not enough disk space. Needed: Unknown size")
    with pytest.raises(OSError, match=r"^.Errno 28. There is no space left in /x/c"), cache_errors("/x/c"):
        try:
            raise OSError(errno.ENOSPC, "No space left on device")
        finally:
            raise ValueError("I/O operation on closed file")
    with pytest.raises(ValueError, match="a row"), cache_errors("/x/c"):
        raise ValueError("a row")
