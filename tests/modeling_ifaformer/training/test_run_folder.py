import json
from types import SimpleNamespace

import pytest

from modeling_ifaformer.training.run_folder import (
    RESULTS,
    checkpoints,
    is_complete,
    last_complete_checkpoint,
    prepare_folder,
)


def prepare(folder, resume, overwrite=False, process_index=0):
    arguments = SimpleNamespace(output_dir=folder, resume_from_checkpoint=resume, process_index=process_index)
    return prepare_folder(arguments, overwrite)


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
    assert prepare(tmp_path, "true", process_index=1) == whole and cut_off.exists()
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


def test_an_earlier_run_goes_where_it_is_overwritten(tmp_path):
    write_checkpoint(tmp_path, 1)
    (tmp_path / RESULTS).write_text("{}")
    (tmp_path / "notes.txt").touch()
    assert prepare(tmp_path, None, overwrite=True) is None
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]
