import numpy as np
import pytest
from transformers import EvalPrediction

from modeling_ifaformer.training.metrics import feature_metrics


def test_entities_of_words(make_processor):
    """In the deepke scheme continuations and special tokens have labels too, which are no words."""
    for scheme in ("word", "deepke"):
        processor = make_processor(tags=["O", "B-PER", "I-PER"], label_scheme=scheme)
        index = {label: number for number, label in enumerate(processor.labels)}
        other = {name: index[name] if scheme == "deepke" else -100 for name in ("[CLS]", "X", "[SEP]")}
        gold = [other["[CLS]"], index["B-PER"], other["X"], index["I-PER"], index["O"], index["B-PER"], other["[SEP]"]]
        answers = [other["[CLS]"], index["B-PER"], other["X"], index["I-PER"], index["B-PER"], index["O"], -100]
        padded = [*gold[:2], *[-100] * 5]
        scores = feature_metrics(processor)(
            EvalPrediction(predictions=np.array([answers, padded]), label_ids=np.array([gold, padded]))
        )
        assert scores == {
            "precision": pytest.approx(2 / 3),
            "recall": pytest.approx(2 / 3),
            "f1": pytest.approx(2 / 3),
        }


def test_relations(make_processor):
    processor = make_processor(relations=["None", "peer", "in"])
    prediction = EvalPrediction(predictions=np.array([0, 1, 2, 2]), label_ids=np.array([0, 1, 1, 0]))
    scores = feature_metrics(processor)(prediction)
    assert scores["accuracy"] == 0.5 and scores["precision"] == pytest.approx(1 / 3) and scores["recall"] == 0.5
