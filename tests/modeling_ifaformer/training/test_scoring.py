import pytest
from datasets import Dataset
from PIL import Image

from modeling_ifaformer.checkpoints.trained import load_checkpoint
from modeling_ifaformer.training.scoring import score_checkpoints
from processing.labels import TWITTER_TAGS
from processing.rows import ner_features, re_features


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
