import json

import pytest


@pytest.fixture
def run_folder(script_module):
    return script_module("run_folder")


def write_checkpoint(folder, step, leave_out=None, state=None):
    checkpoint = folder / f"checkpoint-{step}"
    checkpoint.mkdir(parents=True)
    for name in ("model.safetensors", "optimizer.pt", "scheduler.pt", "rng_state.pth"):
        if name != leave_out:
            (checkpoint / name).write_bytes(b"x")
    (checkpoint / "trainer_state.json").write_text(state or json.dumps({"global_step": step}))
    return checkpoint


@pytest.mark.parametrize("leave_out", ["model.safetensors", "optimizer.pt", "scheduler.pt", "rng_state.pth"])
def test_a_half_written_checkpoint_is_passed_over_and_removed(run_folder, tmp_path, leave_out):
    whole = write_checkpoint(tmp_path, 9)
    half = write_checkpoint(tmp_path, 10, leave_out)
    cut_off = write_checkpoint(tmp_path, 100, state='{"global_step": 10')
    (tmp_path / "checkpoint-x").mkdir()
    assert run_folder.checkpoints(tmp_path) == [whole, half, cut_off]
    assert run_folder.last_complete_checkpoint(tmp_path) == whole
    assert run_folder.remove_incomplete_checkpoints(tmp_path) == [half, cut_off]
    assert not half.exists() and whole.exists()


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
