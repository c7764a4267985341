import json

import pytest

from modeling_ifaformer.training import Search, noise


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
    assert run.results["search"] == {"trials": 3, "options": list(found["best"]["values"])}

    # A search that goes on keeps its trials.
    train(search=Search(4, space), resume_from_checkpoint="true", **options)
    trials = json.loads((tmp_path / "out" / "search.json").read_text())["trials"]
    assert trials[:3] == found["trials"] and len(trials) == 4


def test_noise_can_be_searched(train, monkeypatch, tmp_path):
    drawn = []
    monkeypatch.setattr(noise, "mask_tokens", lambda batch, processor, share: drawn.append(share) or batch)
    options = {"eval_strategy": "steps", "eval_steps": 2, "max_steps": 2, "save_strategy": "no"}
    train(search=Search(3, {"mask_probability": {"low": 0.1, "high": 0.4}}), mask_probability=1, **options)
    found = json.loads((tmp_path / "out" / "search.json").read_text())
    values = [trial["values"]["mask_probability"] for trial in found["trials"]]
    assert len(set(values)) == 3 and drawn[::2] == drawn[1::2] == [
        *values,
        found["best"]["values"]["mask_probability"],
    ]


@pytest.mark.parametrize(
    ("space", "message"),
    [
        ({"swap_probability": [0.0, 0.5]}, "swap_probability is for models for relations"),
        ({"label_smoothing_factor": {"low": 0.0, "high": 0.1}}, "label_smoothing_factor is 0.1, but an entity model"),
    ],
)
def test_a_search_that_does_not_suit_the_model_is_refused_before_it_begins(train, tmp_path, space, message):
    with pytest.raises(ValueError, match=message):
        train(search=Search(1, space))
    assert not list((tmp_path / "out").glob("search*"))


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
        (1, {"swap_probability": {"low": 0.2, "high": 0.7}}, r"swap_probability must be between 0 and 0\.5, got 0\.7"),
        (1, {"per_device_train_batch_size": [8, 0]}, "per_device_train_batch_size must be at least 1, got 0"),
    ],
)
def test_a_search_that_makes_no_sense(trials, space, message):
    with pytest.raises(ValueError, match=message):
        Search(trials, space)


def test_a_search_without_optuna_says_how_to_install_it(monkeypatch):
    monkeypatch.setattr("modeling_ifaformer.training.search.is_optuna_available", lambda: False)
    with pytest.raises(ValueError, match=r"pip install -e \.\[search\]$"):
        Search(1)
