import pytest
import yaml
from huggingface_hub import EvalResultEntry, parse_eval_result_entries

from hub_card.eval_results import eval_results
from hub_card.model_facts import ModelFacts


SCORES = {"precision": 0.81121, "recall": 0.82232, "f1": 0.83343, "support": 7}


@pytest.mark.parametrize(
    ("architecture", "task", "counted"),
    [
        ("IFAformerForTokenClassification", "named-entity-recognition", "whole entities"),
        ("IFAformerForRelationExtraction", "relation-extraction", "relations but the negative one"),
    ],
)
def test_the_hub_reads_the_result(architecture, task, counted):
    facts = ModelFacts({"test": SCORES}, {"architectures": [architecture]}, dataset_id="me/tweets")
    ((path, text),) = eval_results(facts).items()
    assert path == f".eval_results/{task}.yaml"
    notes = f"F1 on the test split, the micro average over all {counted}"
    assert parse_eval_result_entries(yaml.safe_load(text)) == [EvalResultEntry("me/tweets", task, 0.8334, notes=notes)]


def test_nothing_without_a_data_set_on_the_hub_or_a_test_split():
    assert eval_results(ModelFacts({"test": SCORES})) == {}
    assert eval_results(ModelFacts({"validation": SCORES}, dataset_id="me/tweets")) == {}
