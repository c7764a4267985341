import json
from types import SimpleNamespace

import pytest
from filelock import FileLock, Timeout

from modeling_ifaformer.training.run_folder import (
    LOCK,
    RESULTS,
    SETTINGS,
    check_settings,
    checkpoints,
    claim_folder,
    find_start,
    is_complete,
    last_complete_checkpoint,
    release,
    released,
    remove_stale,
)
from processing.jobs.checksums import write_checksums


def prepare(folder, resume, overwrite=False):
    """The checkpoint to go on from, with what is stale removed."""
    arguments = SimpleNamespace(output_dir=folder, resume_from_checkpoint=resume)
    before = sorted(folder.rglob("*"))
    checkpoint, stale = find_start(arguments, overwrite)
    assert sorted(folder.rglob("*")) == before
    remove_stale(stale)
    return checkpoint


PARTS = ("model.safetensors", "optimizer.pt", "scheduler.pt", "rng_state.pth")


def write_checkpoint(folder, step, leave_out=None, state=None):
    checkpoint = folder / f"checkpoint-{step}"
    checkpoint.mkdir(parents=True)
    for name in (*PARTS, "modeling_ifaformer.py"):
        if name != leave_out:
            (checkpoint / name).write_bytes(b"x")
    (checkpoint / "trainer_state.json").write_text(state or json.dumps({"global_step": step}))
    return checkpoint


def test_a_half_written_checkpoint_is_passed_over_and_removed(tmp_path):
    whole = write_checkpoint(tmp_path, 9)
    cut_off = write_checkpoint(tmp_path, 100, state='{"global_step": 10')
    without = write_checkpoint(tmp_path, 10)
    (without / "trainer_state.json").unlink()
    (tmp_path / "checkpoint-x").mkdir()
    assert checkpoints(tmp_path) == [whole, without, cut_off]
    assert last_complete_checkpoint(tmp_path) == whole
    assert prepare(tmp_path, "true") == whole
    assert not without.exists() and not cut_off.exists() and whole.exists()


@pytest.mark.parametrize("leave_out", PARTS)
def test_what_training_cannot_go_on_from_is_not_used_and_not_removed(tmp_path, leave_out):
    alone = write_checkpoint(tmp_path, 10, leave_out)
    assert not is_complete(alone)
    with pytest.raises(ValueError, match="checkpoint-10 lacks the state of the optimizer, the schedule or the random"):
        prepare(tmp_path, "true")
    with pytest.raises(ValueError, match="checkpoint-10 belongs to an earlier run"):
        prepare(tmp_path, None)
    assert alone.exists()
    assert prepare(tmp_path, "true", overwrite=True) is None and not alone.exists()


def test_where_training_goes_on(tmp_path):
    assert prepare(tmp_path, None) is None
    assert prepare(tmp_path, "true") is None
    first, second = write_checkpoint(tmp_path, 1), write_checkpoint(tmp_path, 2)
    assert prepare(tmp_path, "True") == second
    assert prepare(tmp_path, str(first)) == first
    with pytest.raises(ValueError, match=r"checkpoint-2 belongs to an earlier run. Go on from it \(resume_from_check"):
        prepare(tmp_path, None)
    with pytest.raises(ValueError, match=r"gone, which is no whole checkpoint. The last one in .* is .*checkpoint-2"):
        prepare(tmp_path, str(tmp_path / "gone"))


def flip_a_bit(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def test_a_damaged_checkpoint_is_passed_over(tmp_path, caplog):
    first, second = write_checkpoint(tmp_path, 1), write_checkpoint(tmp_path, 2)
    for path in (first, second):
        write_checksums(path)
    flip_a_bit(second / "optimizer.pt")
    assert prepare(tmp_path, "true") == first and second.exists()
    assert "checkpoint-2 is passed over: the content of optimizer.pt is not what was written there" in caplog.text
    with pytest.raises(ValueError, match=r"cannot go on from .*checkpoint-2: the content of optimizer.pt"):
        prepare(tmp_path, str(second))
    (first / "trainer_state.json").write_text("{")  # a whole one would have been JSON
    with pytest.raises(ValueError, match=r"all checkpoints are damaged: checkpoint-1, checkpoint-2\. Name another"):
        prepare(tmp_path, "true")
    assert first.exists() and second.exists()
    assert prepare(tmp_path, "true", overwrite=True) is None


def test_two_trainings_do_not_share_a_folder(tmp_path):
    at_work = pytest.raises(ValueError, match=r"Another training is at work in .*\. Wait until it has ended, or name")
    with FileLock(tmp_path / LOCK), at_work:  # as another process would hold it
        claim_folder(tmp_path)
    claims = [claim_folder(tmp_path), claim_folder(tmp_path)]  # The same process may plan anew.
    with released(claims), pytest.raises(Timeout):
        FileLock(tmp_path / LOCK).acquire(timeout=0)
    with FileLock(tmp_path / LOCK).acquire(timeout=0):
        pass


def test_a_claim_that_came_to_nothing_leaves_no_folder(tmp_path):
    above, below, used = tmp_path / "new" / "runs", tmp_path / "new" / "runs" / "seed-1", tmp_path / "used"
    own = tmp_path / "own"
    own.mkdir()
    claims = [claim_folder(folder) for folder in (above, below, used, own)]
    (used / "model").touch()
    release(claims)
    assert sorted(tmp_path.rglob("*")) == [own, used, used / "model"], "an empty folder from before stays"
    # Where another process has claimed it since, that one's lock stays.
    (used / LOCK).touch()
    release(claims)
    assert (used / LOCK).exists()


def test_an_earlier_run_goes_where_it_is_overwritten(tmp_path):
    write_checkpoint(tmp_path, 1)
    (tmp_path / RESULTS).write_text("{}")
    (tmp_path / "notes.txt").touch()
    assert prepare(tmp_path, None, overwrite=True) is None
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


def test_a_run_from_before_an_option_goes_on_without_it_alone(tmp_path):
    (tmp_path / SETTINGS).write_text(json.dumps({"seed": 1}))
    for without in (
        {},
        {"agreement": 0.0, "adversarial_epsilon": 0.0, "lora": None, "context_dropout": 0.0, "swap_probability": 0.0},
        {"of_a_newer_library": 7},
    ):
        check_settings(tmp_path, {"seed": 1, **without}, ())
    values = {"agreement": 1.0, "adversarial_epsilon": 0.5, "lora": {"r": 8}, "context_dropout": 0.3}
    for name, value in {**values, "swap_probability": 0.5}.items():
        with pytest.raises(ValueError, match=rf"begun with other settings \({name}: "):
            check_settings(tmp_path, {"seed": 1, name: value}, ())
    (tmp_path / SETTINGS).write_text(json.dumps({"seed": 1, "agreement": 1.0}))
    check_settings(tmp_path, {"seed": 1, "agreement": 1.0}, ())
    with pytest.raises(ValueError, match="begun with other settings"):
        check_settings(tmp_path, {"seed": 1, "agreement": 0.0}, ())
