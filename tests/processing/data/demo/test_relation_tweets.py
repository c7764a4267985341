from collections import Counter, defaultdict
from functools import partial

import datasets
import pytest

from processing.data.demo.drawing import DRAWINGS
from processing.data.demo.relation_tweets import OBJECTS, RELATIONS, DemoRelations, plan_relation
from processing.data.demo.sentences import NAMES, SPLITS
from processing.data.loading import DEMOS, load_data
from processing.labels import NO_RELATION
from processing.rows.row_features import label_names, re_features, with_objects


SIZES = {"num_train": 60, "num_validation": 10, "num_test": 20}


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    builder = DemoRelations(cache_dir=str(tmp_path_factory.mktemp("demo")), **SIZES)
    builder.download_and_prepare()
    return builder.as_dataset()


@pytest.fixture(scope="module")
def tweets():
    """The whole default data set, without the painting."""
    return {
        split: [plan_relation(0, split, index) for index in range(size)]
        for split, size in zip(SPLITS, (6000, 200, 400), strict=True)
    }


def name(tweet, entity):
    start, end = getattr(tweet, entity)
    return " ".join(tweet.tokens[start:end]).lower()


def deciding_types(tweet):
    return sorted(DRAWINGS[item.kind].entity_type for item in tweet.scene.objects if item.deciding)


def words_between(tweet):
    first, second = sorted((tweet.head, tweet.tail))
    return tuple(word.lower() for word in tweet.tokens[first[1] : second[0]])


def leftmost_type(tweet):
    item = min((item for item in tweet.scene.objects if item.deciding), key=lambda item: item.box)
    return DRAWINGS[item.kind].entity_type


def accuracy_of_guesses(tweets, key):
    """In test, of the commonest relation that the same key had in train, of a reader who sees nothing else."""
    seen = defaultdict(Counter)
    for tweet in tweets["train"]:
        seen[key(tweet)][tweet.relation] += 1
    commonest = {value: counts.most_common(1)[0][0] for value, counts in seen.items()}
    return sum(commonest.get(key(tweet)) == tweet.relation for tweet in tweets["test"]) / len(tweets["test"])


def test_rows_are_those_planned(prepared):
    assert {split: len(rows) for split, rows in prepared.items()} == {"train": 60, "validation": 10, "test": 20}
    assert prepared["train"].features == with_objects(re_features(RELATIONS))
    for index, row in enumerate(prepared["test"]):
        tweet = plan_relation(0, "test", index)
        assert (row["id"], row["tokens"]) == (f"test-{index}", list(tweet.tokens))
        assert RELATIONS[row["relation"]] == tweet.relation
        for entity in ("head", "tail"):
            start, end = getattr(tweet, entity)
            assert row[entity] == {"name": " ".join(tweet.tokens[start:end]), "start": start, "end": end}
        for crops in ("aux_crops", "rcnn_crops"):
            planned = getattr(tweet.scene, crops)
            sizes = [(crop.box[2] - crop.box[0], crop.box[3] - crop.box[1]) for crop in planned]
            assert [crop.size for crop in row[crops]] == sizes
            objects = row[crops.replace("crops", "objects")]
            assert [found["box"] for found in objects] == [list(crop.box) for crop in planned]
            assert [found["label"] for found in objects] == [crop.object.kind.replace("_", " ") for crop in planned]
        assert row["image"].size == (128, 128) and row["image"].mode == "RGB"


def test_streaming_equals_prepared(prepared, tmp_path):
    stream = DemoRelations(cache_dir=str(tmp_path), **SIZES).as_streaming_dataset()
    columns = ["id", "tokens", "head", "tail", "relation"]
    assert list(stream["test"].select_columns(columns)) == list(prepared["test"].select_columns(columns))
    encoded = datasets.Image(decode=False)
    one, other = (rows.cast_column("image", encoded) for rows in (stream["test"], prepared["test"]))
    assert [row["image"] for row in one] == list(other["image"])


def test_by_name(monkeypatch, tmp_path):
    monkeypatch.setitem(DEMOS, "demo_re", partial(DEMOS["demo_re"], **SIZES))  # the whole takes long to paint
    data, report = load_data("demo_re", cache_dir=str(tmp_path))
    assert not report and set(data["test"][0]["image"]) == {"bytes", "path"}
    assert label_names(data["train"], "relation") == list(RELATIONS) and RELATIONS[0] == NO_RELATION


def test_entities_are_names_and_differ(tweets):
    known = {name.lower() for name in NAMES}
    for tweet in tweets["train"]:
        assert {name(tweet, "head"), name(tweet, "tail")} <= known
        assert name(tweet, "head") != name(tweet, "tail")
        assert tweet.head[1] <= tweet.tail[0] or tweet.tail[1] <= tweet.head[0]
    before = sum(tweet.head < tweet.tail for tweet in tweets["train"])
    assert 0.45 < before / len(tweets["train"]) < 0.55


def test_the_two_deciding_objects_tell_the_relation(tweets):
    relation_of = {tuple(sorted(pair)): relation for relation, pairs in OBJECTS.items() for pair in pairs}
    assert len(relation_of) == sum(map(len, OBJECTS.values())) == 10  # every pair of types, each with one relation
    assert {tuple(deciding_types(tweet)) for tweet in tweets["train"]} == set(relation_of)
    for tweet in tweets["train"]:
        assert relation_of[tuple(deciding_types(tweet))] == tweet.relation
        others = [item for item in tweet.scene.objects if not item.deciding]
        assert all(DRAWINGS[item.kind].entity_type is None for item in others)


def test_relations_are_balanced(tweets):
    for split, most in (("train", 1.1), ("test", 1.6)):
        counts = Counter(tweet.relation for tweet in tweets[split])
        assert set(counts) == set(RELATIONS) and max(counts.values()) < most * min(counts.values()), split
    assert len({name(tweet, "head") for tweet in tweets["train"][:40]}) > 20  # in no order
    assert all(relation.count("/") == 3 for relation in RELATIONS[1:])


@pytest.mark.parametrize(
    ("key", "most"),
    [
        (lambda tweet: name(tweet, "head"), 0.22),
        (lambda tweet: name(tweet, "tail"), 0.22),
        (words_between, 0.22),
        (lambda tweet: (tweet.head < tweet.tail, len(tweet.tokens)), 0.22),
        (leftmost_type, 0.5),
    ],
    ids=["head", "tail", "words between", "order and length", "one object"],
)
def test_words_alone_are_near_chance_and_one_object_is_not_enough(tweets, key, most):
    assert accuracy_of_guesses(tweets, key) < most


def test_both_objects_are_enough(tweets):
    assert accuracy_of_guesses(tweets, lambda tweet: tuple(deciding_types(tweet))) == 1


def test_splits_share_no_sentence(tweets):
    sentences = {split: {" ".join(tweet.tokens).lower() for tweet in rows} for split, rows in tweets.items()}
    assert not sentences["train"] & (sentences["validation"] | sentences["test"])
    assert all(len(sentences[split]) > 0.98 * len(tweets[split]) for split in SPLITS)


def test_crops_show_the_deciding_objects(tweets):
    shown = [{crop.object for crop in (*tweet.scene.aux_crops, *tweet.scene.rcnn_crops)} for tweet in tweets["train"]]
    both = sum(
        {item for item in tweet.scene.objects if item.deciding} <= objects
        for tweet, objects in zip(tweets["train"], shown, strict=True)
    )
    assert 0.9 < both / len(shown) < 1
