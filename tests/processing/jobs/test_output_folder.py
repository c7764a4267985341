import json

import pytest

from processing.jobs.atomic_files import replacing
from processing.jobs.output_folder import ResumableOutput
from processing.jobs.processes import JobError


def part_writer(text):
    def write(path):
        with replacing(path) as file:
            file.write(text.encode())

    return write


@pytest.fixture(params=["folder", "file"])
def make(request, tmp_path):
    """An output whose parts stay, or one that is put together from them; a new object for each run."""
    if request.param == "folder":
        out = tmp_path / "out"
        return lambda: ResumableOutput(out, work=out / ".parts", parts=out / "data", summary=out / "summary.json")
    out = tmp_path / "o[u]t.txt"
    return lambda: ResumableOutput(out, work=tmp_path / "o[u]t.parts", summary=tmp_path / "o[u]t.report.json")


def finish(output, *names):
    """What a command does at the end."""
    if output.parts == output.work:
        part_writer("".join(output.path(name).read_text() for name in names))(output.output)
    output.finish({"records": [output.record(name) for name in names]})


def test_parts_that_are_there_are_done(make):
    with make() as first:
        assert first.claim({"a": (1, 2)}) == set()
        first.write("2", part_writer("two"), {"of": "two"})
        first.write("0", part_writer("zero"), {"of": "zero"})
    with make() as second:
        assert second.claim({"a": [1, 2]}) == {"0", "2"}
        second.write("1", part_writer("one"), {"of": "one"})
        assert [second.path(name).read_text() for name in "012"] == ["zero", "one", "two"]
        finish(second, *"012")
    assert not second.work.exists()
    summary = json.loads(second.summary.read_bytes())
    assert summary["settings"] == {"a": [1, 2]}
    assert summary["records"] == [{"of": "zero"}, {"of": "one"}, {"of": "two"}]
    assert summary["checksums"].keys() == {path.name for path in second._made()}
    with make() as third:
        assert third.claim({"a": [1, 2]}) is None, "a finished output is finished"
    assert not third.work.exists()


def test_other_settings_are_refused_and_named(make):
    with make() as output:
        output.claim({"a": 1, "b": 1, "rows": "abc"})
        output.write("0", part_writer("zero"), {})
    other = {"a": 2, "b": 1, "rows": "def"}
    message = (
        r"other data or with other settings \(a: 1 before, 2 now; other rows\)\. .*replace this one \(--overwrite"
    )
    with make() as output, pytest.raises(JobError, match=message):
        output.claim(other, contents=("rows",))
    with make() as output:
        assert output.claim({"a": 1, "b": 1, "rows": "abc"}) == {"0"}, "what was there has changed"
        finish(output, "0")
    with make() as output, pytest.raises(JobError, match=message):
        output.claim(other, contents=("rows",))
    assert not output.work.exists() and output.summary.exists()
    with make() as output:
        assert output.claim(other, overwrite=True) == set()
        assert not output.summary.exists() and not output._made()


def test_settings_before_any_part_bind_nobody(make):
    with make() as output:
        output.claim({"a": 1})
    with make() as output:
        assert output.claim({"a": 2}) == set()
    with make() as output:
        output.write("0", part_writer("zero"), {})
        assert output.claim({"a": 2}) == {"0"}


def test_an_output_of_unknown_origin_is_left_alone(make):
    with make() as output:
        output.claim({"a": 1})
        output.write("0", part_writer("mine"), {})
        finish(output, "0")
    output.summary.unlink()
    (there,) = output._made()
    with make() as output, pytest.raises(JobError, match=r"is there already, and nothing says how it was made\. .*"):
        output.claim({"a": 1})
    assert there.read_text() == "mine" and not output.work.exists()
    with make() as output:
        assert output.claim({"a": 1}, overwrite=True) == set()
    assert not there.exists()


def test_files_that_are_cut_off(make):
    """Parts and records that are not what was written are made anew; of all other files it is said."""
    with make() as output:
        output.claim({"a": 1})
        for part in "012":
            output.write(part, part_writer(part * 3), {"of": part})
    for path in (output.path("0"), output.work / "1.record"):
        path.write_bytes(path.read_bytes()[:-2])
    with make() as output:
        assert output.claim({"a": 1}) == {"2"}
        for part in "01":
            output.write(part, part_writer(part * 3), {"of": part})
    settings = output.work / "settings.json"
    whole = settings.read_bytes()
    for size in range(len(whole) - 2):
        settings.write_bytes(whole[:size])
        with make() as output, pytest.raises(JobError, match=r"settings\.json is damaged: .* Name another output"):
            output.claim({"a": 1})
    settings.write_bytes(whole)
    with make() as output:
        assert output.claim({"a": 1}) == set("012")
        finish(output, *"012")
    for path in (output._made()[0], output.summary):
        whole = path.read_bytes()
        for size in range(len(whole) - 2):
            path.write_bytes(whole[:size])
            with make() as output, pytest.raises(JobError, match=r"is damaged|is not what was written"):
                output.claim({"a": 1})
        path.write_bytes(whole)
    output.summary.write_text("[]")
    with make() as output:
        assert output.claim({"a": 1}, overwrite=True) == set()


def test_one_run_at_a_time(make):
    first, second = make(), make()
    first.claim({"a": 1})
    for overwrite in (False, True):
        with pytest.raises(JobError, match=r"Another run is at work on .*\. Wait"):
            second.claim({"a": 1}, overwrite=overwrite)
    with first:
        pass
    with second:
        assert second.claim({"a": 1}) == set()


def test_what_a_kill_leaves_half_written_is_removed(make):
    with make() as output:
        output.claim({"a": 1})
        output.write("0", part_writer("zero"), {})
    left = [path.with_name(f".{path.name}.7.tmp") for path in (output.path("1"), output.output, output.summary)]
    for path in left:
        path.write_text("half")
    other = output.output.with_name(".other.txt.7.tmp")
    other.write_text("somebody else's")
    output.path("1").write_text("one")  # the record comes after the part
    with make() as output:
        assert output.claim({"a": 1}) == {"0"}
    assert not [path for path in left if path.exists()] and other.exists()


def test_parts_of_unknown_settings_are_not_gone_on_with(tmp_path):
    output = ResumableOutput(tmp_path / "out", work=tmp_path / "out.parts", summary=tmp_path / "summary.json")
    with output:
        output.claim({"a": 1})
        output.write("0", part_writer("zero"), {})
        (output.work / "settings.json").unlink()  # a kill while an output was being cleared away
        output._lock.release()
        assert output.claim({"a": 1}) == set()
        assert not output.path("0").exists()


def test_what_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("x")
    output = ResumableOutput(tmp_path / "file", work=tmp_path / "file" / ".parts", summary=tmp_path / "summary.json")
    with output, pytest.raises(JobError, match=r"Cannot write .*file: .*same command goes on"):
        output.claim({})

    def full(path):
        raise OSError("no room")

    with ResumableOutput(tmp_path / "out", work=tmp_path / "out.parts", summary=tmp_path / "summary.json") as output:
        output.claim({})
        with pytest.raises(JobError, match=r"Cannot write .*out: no room\..*same command goes on"):
            output.write("0", full, {})
        assert output.claim({}) == set()


def test_parts_that_are_json_files(tmp_path):
    work, summary = tmp_path / "out.parts", tmp_path / "summary.json"
    with ResumableOutput(tmp_path / "out.json", work=work, summary=summary, ending=".json") as output:
        output.claim({"a": 1})
        output.write("0", part_writer('"zero"'), {"of": "zero"})
    with output:
        assert output.claim({"a": 1}) == {"0"}
        assert (output.path("0").read_text(), output.record("0")) == ('"zero"', {"of": "zero"})
        assert list(output.finish({"rows": 1})) == ["rows", "checksums", "settings"], (
            "what people look for comes first"
        )
