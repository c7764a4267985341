import json

import pytest

from modeling_ifaformer.training import plan_runs


def test_plans(make_arguments, tmp_path):
    assert [run.start for run in plan_runs(make_arguments())] == [
        "There is no whole checkpoint; training starts at the beginning."
    ]
    runs = plan_runs(make_arguments(resume_from_checkpoint="true"), seeds=[1, 2])
    assert [(run.arguments.seed, run.arguments.output_dir) for run in runs] == [
        (seed, str(tmp_path / "out" / f"seed-{seed}")) for seed in (1, 2)
    ]
    with pytest.raises(ValueError, match=r"seeds must be seeds that differ, got \[1, 1\]"):
        plan_runs(make_arguments(), seeds=[1, 1])
    with pytest.raises(ValueError, match="resume_from_checkpoint is true or false, got x"):
        plan_runs(make_arguments(resume_from_checkpoint="x"), seeds=[1, 2])


def test_a_plan_that_fails_leaves_no_claim(make_arguments, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "results.json").write_text("{}")
    for seeds in (None, [1, 2]):
        with pytest.raises(ValueError, match="belongs to an earlier run"):
            plan_runs(make_arguments(), seeds=seeds)
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["results.json"]


def test_one_run_does_not_take_the_folder_of_several(make_arguments, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "results.json").write_text(json.dumps({"seeds": [3, 5], "runs": {}}))
    with pytest.raises(ValueError, match="holds the runs of the seeds 3, 5"):
        plan_runs(make_arguments(resume_from_checkpoint="true"))
