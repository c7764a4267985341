from itertools import pairwise
from types import SimpleNamespace

import pytest
import torch
from datasets import Dataset
from PIL import Image

from modeling_ifaformer.checkpoints.trained import load_checkpoint
from modeling_ifaformer.crf import LinearChainCRF
from modeling_ifaformer.training.scoring import calibrate, logits_and_answers, score_checkpoints
from processing.labels import TWITTER_TAGS
from processing.pipeline_ifaformer import IFAformerPipeline
from processing.rows import ner_features, re_features
from processing.rows.row_features import with_context
from processing.scoring.calibration import ScoredAnswers, entity_scores
from processing.scoring.entity_metrics import entity_metrics


PICTURES = ("image", "aux_crops")


@pytest.fixture
def rows() -> Dataset:
    tokens = [["Jordan", "met", "Paris"], ["RT", "Chelsea", "playing"], ["the", "team", "of", "York"]]
    tags = [["B-PER", "O", "B-LOC"], ["O", "B-ORG", "O"], ["O", "O", "O", "B-LOC"]]
    return Dataset.from_list(
        [
            {
                "id": str(index),
                "image_id": None,
                "tokens": tokens[index],
                "ner_tags": tags[index],
                "image": Image.new("RGB", (30, 30), (80 * index, 200, 0)),
                "aux_crops": [Image.new("RGB", (16, 16), (0, 80 * index, 200))],
                "rcnn_crops": [],
            }
            for index in range(3)
        ],
        features=ner_features(TWITTER_TAGS),
    )


def test_each_model_variant_and_protocol(rows, checkpoint, tmp_path):
    seeing, blind = load_checkpoint(checkpoint), load_checkpoint(checkpoint)
    blind[0].config.text_attends_vision = False
    scores = score_checkpoints(
        {"seeing": seeing, "blind": blind},
        rows,
        protocols=("word", "published"),
        shuffle_seed=0,
        batch_size=2,
        cache_dir=str(tmp_path),
    )
    names = [
        f"seeing{variant} [{protocol}]"
        for variant in ("", " (pictures shuffled)")
        for protocol in ("word", "published")
    ]
    assert list(scores) == [*names, "blind [word]", "blind [published]"]
    assert all(result["support"] == 4 for result in scores.values())
    differences = scores.differences(num_resamples=50)
    assert {name: difference["to"] for name, difference in differences.items()} == {
        "seeing (pictures shuffled) [word]": "seeing [word]",
        "blind [word]": "seeing [word]",
        "seeing (pictures shuffled) [published]": "seeing [published]",
        "blind [published]": "seeing [published]",
    }
    for name, difference in differences.items():
        assert difference["f1"] == pytest.approx(scores[name]["f1"] - scores[difference["to"]]["f1"])
    alone = score_checkpoints({"seeing": seeing}, rows, batch_size=3, cache_dir=str(tmp_path))
    assert alone == {"seeing": scores["seeing [word]"]} and alone.differences() == {}
    analyses = scores.errors(rows.select([0]))
    assert list(analyses) == ["seeing", "seeing (pictures shuffled)", "blind"]
    assert analyses["blind"].counts["training words"]["every word seen"]["gold"] == 2, "Jordan and Paris"
    assert "training words" not in alone.errors()["seeing"].counts


def test_the_precision_of_the_scores(rows, checkpoint, tmp_path):
    for precision, expected in (("no", torch.float32), ("bf16", torch.bfloat16)):
        model, processor = load_checkpoint(checkpoint)
        found = []
        model.classifier.register_forward_hook(lambda *of_call, found=found: found.append(of_call[-1].dtype))
        options = {"shuffle_seed": 0, "cache_dir": str(tmp_path), "mixed_precision": precision}
        score_checkpoints({"a": (model, processor)}, rows, **options)
        assert found == [expected] * 2, "the second time pictures are shuffled"


def test_what_is_refused(rows, checkpoint, relation_checkpoint, tmp_path):
    tagger, extractor = load_checkpoint(checkpoint), load_checkpoint(relation_checkpoint)
    with pytest.raises(ValueError, match=r"^The checkpoints are of different tasks: score each task by itself"):
        score_checkpoints({"a": tagger, "b": extractor}, rows)
    with pytest.raises(ValueError, match=r"^Relations are scored in one way; the protocol published is for entities"):
        score_checkpoints({"b": extractor}, rows, protocols=("word", "published"))
    features = re_features(["None", "x"])
    others = Dataset.from_dict({name: [] for name in features}, features=features)
    with pytest.raises(ValueError, match=r"^b: The rows have the relations None, x; the processor has None, <b>peer"):
        score_checkpoints({"b": extractor}, others, cache_dir=str(tmp_path))


TAGS = ["O", "B-PER", "B-LOC"]


class EntitySplit:
    """Rows of six words, each of them one token, with tags that are drawn at a temperature."""

    processor = SimpleNamespace(relations=None)

    def __init__(self, crf, temperature, num_rows=3000):
        self.logits = 2 * torch.randn(num_rows, 6, len(TAGS))
        self.logits[..., 0] += 1
        self.mask = torch.arange(6) < torch.randint(1, 7, (num_rows, 1))
        self.answers = crf.viterbi_decode(self.logits, self.mask)
        crf.config.calibration_temperature = temperature
        tags = torch.distributions.Categorical(crf.marginals(self.logits, self.mask) + 1e-9).sample()
        crf.config.calibration_temperature = 1.0
        words = [list(range(length)) for length in self.mask.sum(dim=1).tolist()]
        gold = [[TAGS[tag] for tag in row[: len(of)]] for row, of in zip(tags.tolist(), words, strict=True)]
        self.of_rows = {"word_ids": words, "word_labels": gold, "id2label": dict(enumerate(TAGS))}

    def scored(self, answers, probabilities):
        return entity_scores(answers, probabilities, **self.of_rows)

    def score(self, answers):
        return entity_metrics(answers, **self.of_rows)

    @property
    def predictions(self):
        return SimpleNamespace(predictions=(self.logits.numpy(), self.answers.numpy()))


@pytest.mark.parametrize("known", [0.7, 1.6])
def test_scores_of_entities_become_the_share_that_is_right(known):
    torch.manual_seed(0)
    config = SimpleNamespace(num_labels=len(TAGS), calibration_temperature=1.0, thresholds=None)
    model = SimpleNamespace(config=config, crf=LinearChainCRF(len(TAGS), config))
    splits = {name: EntitySplit(model.crf, known) for name in ("validation", "test")}
    predictions = {name: split.predictions for name, split in splits.items()}
    metrics = {name: split.score(split.answers.numpy()) for name, split in splits.items()}
    results = calibrate(model, splits, predictions, metrics)
    assert config.calibration_temperature == results["temperature"] == pytest.approx(known, rel=0.1)
    errors = results["test"]["calibration_error"]
    assert errors["before"] > 0.05 > 0.02 > errors["after"]
    assert config.thresholds == results["thresholds"]
    assert results["validation"]["thresholded_f1"] >= metrics["validation"]["f1"]


def test_scores_of_relations_become_the_share_that_is_right():
    torch.manual_seed(0)
    logits = 3 * torch.randn(20_000, 4)
    gold = torch.distributions.Categorical(logits=logits / 2).sample().numpy()
    logits, answers = logits_and_answers(logits, None)

    class RelationSplit:
        processor = SimpleNamespace(relations=["a", "b", "c", "d"])

        def scored(self, answers, probabilities):
            return ScoredAnswers(answers.astype(str), probabilities, answers == gold)

    model = SimpleNamespace(config=SimpleNamespace(calibration_temperature=1.0))
    predictions = SimpleNamespace(predictions=(logits.numpy(), answers.numpy()), label_ids=gold)
    results = calibrate(model, {"validation": RelationSplit()}, {"validation": predictions}, {"validation": {}})
    assert model.config.calibration_temperature == results["temperature"] == pytest.approx(2, rel=0.03)
    errors = results["validation"]["calibration_error"]
    assert errors["before"] > 0.1 > 0.02 > errors["after"] and "thresholds" not in results


def test_a_model_that_finds_nothing_keeps_its_scores():
    config = SimpleNamespace(num_labels=len(TAGS), calibration_temperature=1.0, thresholds=None)
    model = SimpleNamespace(config=config, crf=LinearChainCRF(len(TAGS), config))
    split = EntitySplit(model.crf, 1.0, num_rows=2)
    split.answers = torch.where(split.mask, 0, -100)
    metrics = split.score(split.answers.numpy())
    results = calibrate(model, {"validation": split}, {"validation": split.predictions}, {"validation": metrics})
    nothing = {"calibration_error": {"before": None, "after": None}, "thresholded_f1": 0.0}
    assert results == {"temperature": 1.0, "thresholds": {}, "validation": nothing}


def test_contexts_left_out(rows, checkpoint, tmp_path):
    contexts = [[{"kind": "caption", "text": "the team"}]] * 3
    with_contexts = Dataset.from_dict({**rows[:], "context": contexts}, features=with_context(rows.features))
    reads, blind = load_checkpoint(checkpoint), load_checkpoint(checkpoint)
    reads[1].max_context_length = 6
    models = {"reads": reads, "blind": blind}
    scores = score_checkpoints(models, with_contexts, without_context=True, cache_dir=str(tmp_path))
    assert [*scores] == ["reads", "reads (context left out)", "blind"]
    assert scores["reads (context left out)"] == scores["blind"]
    assert [*score_checkpoints(models, rows, without_context=True, cache_dir=str(tmp_path))] == ["reads", "blind"]


def test_entities_below_the_thresholds_are_left_out(rows, checkpoint, tmp_path):
    (model, processor), plain = load_checkpoint(checkpoint), load_checkpoint(checkpoint)
    model.config.calibration_temperature = plain[0].config.calibration_temperature = 1.7
    tagger = IFAformerPipeline(model=model, processor=processor)
    tweets = [{"tokens": row["tokens"], **{name: row[name] for name in PICTURES}} for row in rows]
    scores = sorted(entity["score"] for entities in tagger(tweets) for entity in entities)
    # No score is near the threshold, so that it does not matter that the batches differ.
    below, above = max(pairwise(scores), key=lambda pair: pair[1] - pair[0])
    model.config.thresholds = dict.fromkeys(("PER", "LOC", "ORG", "MISC"), (below + above) / 2)
    options = {"with_thresholds": True, "cache_dir": str(tmp_path)}
    found = score_checkpoints({"a": (model, processor), "b": plain}, rows, shuffle_seed=0, **options)
    assert [*found] == ["a", "a (with its thresholds)", "a (pictures shuffled)", "b", "b (pictures shuffled)"]
    differences = found.differences(num_resamples=10).items()
    compared = {name: of["to"] for name, of in differences}
    assert compared.pop("b") == "a" and compared == {name: name[0] for name in found if len(name) > 1}
    assert found["a"] == found["b"]
    (_, all_tags), (split, kept) = found.answers["a"], found.answers["a (with its thresholds)"]
    counts, fewer = split.counts(all_tags).sum(axis=0), split.counts(kept).sum(axis=0)
    assert (counts[1], fewer[1]) == (len(scores), len(scores) - scores.index(below) - 1)
    assert 0 < fewer[1] == sum(map(len, tagger(tweets, threshold="best")))
    model.config.thresholds = {"PERSON": 0.5}
    with pytest.raises(ValueError, match=r"^a: threshold names PERSON, but the models know only"):
        score_checkpoints({"a": (model, processor)}, rows, **options)


def test_a_row_that_cannot_be_read_has_no_entity_to_leave_out(rows, checkpoint, tmp_path):
    model, processor = load_checkpoint(checkpoint)
    rows = Dataset.from_list([{**rows[0], "tokens": [], "ner_tags": []}, *rows], features=rows.features)
    model.config.thresholds = dict.fromkeys(("PER", "LOC", "ORG", "MISC"), 1.0)
    found = score_checkpoints({"a": (model, processor)}, rows, with_thresholds=True, cache_dir=str(tmp_path))
    split, kept = found.answers["a (with its thresholds)"]
    assert len(kept) == len(split.features) and split.counts(kept)[:, 1].sum() == 0


def test_relations_have_no_thresholds(relation_checkpoint, tmp_path):
    model, processor = load_checkpoint(relation_checkpoint)
    model.config.thresholds = {"PER": 0.5}
    row = {"id": "0", "image_id": "", "tokens": ["Jordan", "met", "Paris"], "relation": "None"}
    row |= {"head": {"name": "Jordan", "start": 0, "end": 1}, "tail": {"name": "Paris", "start": 2, "end": 3}}
    row |= {"image": None, "aux_crops": [], "rcnn_crops": []}
    rows = Dataset.from_list([row], features=re_features(processor.relations))
    found = score_checkpoints({"r": (model, processor)}, rows, with_thresholds=True, cache_dir=str(tmp_path))
    assert [*found] == ["r"]
