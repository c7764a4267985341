import json
from importlib import import_module

import pytest


@pytest.fixture
def run_folder():
    return import_module("modeling_ifaformer.training.run_folder")


PARTS = ("model.safetensors", "optimizer.pt", "scheduler.pt", "rng_state.pth")


def write_checkpoint(folder, step, leave_out=None, state=None):
    checkpoint = folder / f"checkpoint-{step}"
    checkpoint.mkdir(parents=True)
    for name in (*PARTS, "modeling_ifaformer.py"):
        if name != leave_out:
            (checkpoint / name).write_bytes(b"x")
    (checkpoint / "trainer_state.json").write_text(state or json.dumps({"global_step": step}))
    return checkpoint


def test_a_half_written_checkpoint_is_passed_over_and_removed(run_folder, tmp_path):
    whole = write_checkpoint(tmp_path, 9)
    cut_off = write_checkpoint(tmp_path, 100, state='{"global_step": 10')
    without = write_checkpoint(tmp_path, 10)
    (without / "trainer_state.json").unlink()
    (tmp_path / "checkpoint-x").mkdir()
    assert run_folder.checkpoints(tmp_path) == [whole, without, cut_off]
    assert run_folder.last_complete_checkpoint(tmp_path) == whole
    assert run_folder.remove_incomplete_checkpoints(tmp_path) == [without, cut_off]
    assert not without.exists() and whole.exists()


@pytest.mark.parametrize("leave_out", PARTS)
def test_what_training_cannot_go_on_from_is_not_used_and_not_removed(run_folder, tmp_path, leave_out):
    alone = write_checkpoint(tmp_path, 10, leave_out)
    assert not run_folder.is_complete(alone) and not run_folder.remove_incomplete_checkpoints(tmp_path)
    with pytest.raises(ValueError, match="checkpoint-10 lacks the state of optimizer, schedule or random numbers"):
        run_folder.checkpoint_to_resume(tmp_path, "true")
    with pytest.raises(ValueError, match="checkpoint-10 is of an earlier run"):
        run_folder.checkpoint_to_resume(tmp_path, None)
    assert run_folder.checkpoint_to_resume(tmp_path, "true", overwrite=True) is None


def test_where_training_goes_on(run_folder, tmp_path):
    assert run_folder.checkpoint_to_resume(tmp_path, None) is None
    assert run_folder.checkpoint_to_resume(tmp_path, "true") is None
    first, second = write_checkpoint(tmp_path, 1), write_checkpoint(tmp_path, 2)
    assert run_folder.checkpoint_to_resume(tmp_path, "True") == second
    assert run_folder.checkpoint_to_resume(tmp_path, str(first)) == first
    assert run_folder.checkpoint_to_resume(tmp_path, None, overwrite=True) is None
    with pytest.raises(ValueError, match=r"checkpoint-2 is of an earlier run: go on from it \(--resume_from_check"):
        run_folder.checkpoint_to_resume(tmp_path, None)
    with pytest.raises(ValueError, match=r"gone is no whole checkpoint; the last one of .* is .*checkpoint-2"):
        run_folder.checkpoint_to_resume(tmp_path, str(tmp_path / "gone"))
