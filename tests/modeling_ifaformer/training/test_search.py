import json

import pytest

from modeling_ifaformer.training import Search


def test_the_best_trial_s_options_are_trained_with(train, tmp_path):
    # With the first rate of the head, nothing is learnt.
    space = {"head_learning_rate": [1e-9, 0.05], "text_learning_rate": {"low": 1e-9, "high": 2e-9, "log": True}}
    options = {"eval_strategy": "steps", "eval_steps": 6, "seed": 1, "learning_rate": 1e-9}
    (run,) = train(search=Search(3, space), **options)
    found = json.loads((tmp_path / "out" / "search.json").read_text())
    assert [trial["number"] for trial in found["trials"]] == [0, 1, 2]
    values = [trial["objective"] for trial in found["trials"]]
    assert found["best"]["objective"] == max(values) > min(values)
    assert all(1e-9 <= trial["values"]["text_learning_rate"] <= 2e-9 for trial in found["trials"])
    assert {name: run.results["arguments"]["training"][name] for name in space} == found["best"]["values"]
    assert found["best"]["values"]["head_learning_rate"] == 0.05

    # A search that goes on keeps its trials.
    train(search=Search(4, space), resume_from_checkpoint="true", **options)
    trials = json.loads((tmp_path / "out" / "search.json").read_text())["trials"]
    assert trials[:3] == found["trials"] and len(trials) == 4


@pytest.mark.parametrize(
    ("trials", "space", "message"),
    [
        (-1, None, "must be 1 or more, got -1"),
        (0, {"weight_decay": [0.1]}, "must be 1 or more, got 0"),
        (1, {"text_model": ["a"]}, "text_model is no training option"),
        (1, {"weight_decay": {"low": 2, "high": 1}}, "weight_decay needs numbers low < high"),
        (1, {"weight_decay": {"low": "a", "high": "b"}}, "weight_decay needs numbers low < high"),
        (1, {"weight_decay": {"low": 0, "high": 1, "log": True}}, "with log above 0"),
        (1, {"weight_decay": [[1]]}, "weight_decay needs a list of choices"),
        (1, {"weight_decay": 1}, "weight_decay needs a list of choices"),
    ],
)
def test_a_search_that_makes_no_sense(trials, space, message):
    with pytest.raises(ValueError, match=message):
        Search(trials, space)


def test_a_search_without_optuna_says_how_to_install_it(monkeypatch):
    monkeypatch.setattr("modeling_ifaformer.training.search.is_optuna_available", lambda: False)
    with pytest.raises(ValueError, match=r"pip install -e \.\[search\]$"):
        Search(1)
