from processing.jobs.checksums import CHECKSUMS, damaged_files, write_checksums


def test_what_the_disk_changed_is_named(tmp_path):
    (tmp_path / "below").mkdir()
    for name in ("weights", "state", "below/part"):
        (tmp_path / name).write_bytes(b"as it was written")
    assert damaged_files(tmp_path) == [], "nothing is known of the files"
    write_checksums(tmp_path)
    assert damaged_files(tmp_path) == []
    (tmp_path / "below" / "part").write_bytes(b"as it was writtem")
    (tmp_path / "state").unlink()
    (tmp_path / "one more").touch()
    assert sorted(damaged_files(tmp_path)) == ["below/part", "state"]
    write_checksums(tmp_path)
    assert damaged_files(tmp_path) == []
    (tmp_path / CHECKSUMS).write_text("{")
    assert damaged_files(tmp_path) == [CHECKSUMS]
    (tmp_path / CHECKSUMS).write_text("[]")
    assert damaged_files(tmp_path) == [CHECKSUMS]
