import io
import json
import os
import subprocess
import sys
from collections import Counter, defaultdict
from hashlib import sha256

import datasets
import numpy as np
import pytest
from PIL import Image

from processing.data.demo.drawing import DRAWINGS, KINDS, TYPES
from processing.data.demo.entity_tweets import TYPICAL_TWEETS, DemoMNER, plan_tweet
from processing.data.demo.sentences import NAMES, SPLITS
from processing.labels import TWITTER_TAGS, entity_spans
from processing.rows.row_features import ner_features, with_objects


SIZES = {"num_train": 120, "num_validation": 30, "num_test": 40}


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    builder = DemoMNER(cache_dir=str(tmp_path_factory.mktemp("demo")), **SIZES)
    builder.download_and_prepare()
    return builder.as_dataset()


@pytest.fixture(scope="module")
def tweets():
    """The whole default data set, without the painting."""
    return {
        split: [plan_tweet(0, split, index) for index in range(size)]
        for split, size in zip(SPLITS, (18000, 200, 1200), strict=True)
    }


def undecoded(dataset):
    for column in ("image", "aux_crops", "rcnn_crops"):
        feature = datasets.Image(decode=False)
        dataset = dataset.cast_column(column, feature if column == "image" else datasets.List(feature))
    return dataset


def digest(dataset):
    lines = [json.dumps(row, default=lambda value: value.hex(), sort_keys=True) for row in undecoded(dataset)]
    return sha256("\n".join(lines).encode()).hexdigest()


def names(tweet):
    return [(" ".join(tweet.tokens[start:end]), kind) for kind, start, end in entity_spans(tweet.tags)]


def deciding(tweet):
    return [item for item in tweet.scene.objects if item.deciding] if tweet.scene else []


def share(condition, items):
    items = list(items)
    return sum(map(condition, items)) / len(items)


def test_features(prepared):
    assert {split: len(rows) for split, rows in prepared.items()} == {"train": 120, "validation": 30, "test": 40}
    assert prepared["train"].features == with_objects(ner_features(TWITTER_TAGS))
    ids = [row_id for rows in prepared.values() for row_id in rows["id"]]
    assert len(set(ids)) == len(ids) == 190


def test_rows_are_those_planned(prepared):
    for index, row in enumerate(undecoded(prepared["test"])):
        tweet = plan_tweet(0, "test", index)
        assert row["tokens"] == list(tweet.tokens)
        assert [TWITTER_TAGS[tag] for tag in row["ner_tags"]] == list(tweet.tags)
        for crops in ("aux_crops", "rcnn_crops"):
            planned = getattr(tweet.scene, crops) if tweet.scene else ()
            sizes = [(right - left, bottom - top) for left, top, right, bottom in (crop.box for crop in planned)]
            assert [Image.open(io.BytesIO(crop["bytes"])).size for crop in row[crops]] == sizes
            assert row[crops.replace("crops", "objects")] == [
                {"label": crop.object.kind.replace("_", " "), "score": None, "box": list(crop.box)} for crop in planned
            ]


def test_pictures_are_embedded_and_rgb(prepared):
    embedded, decoded = undecoded(prepared["train"]), prepared["train"]
    assert all(row["image"]["path"] is None for row in embedded if row["image"])
    pictures = [
        picture for row in decoded for picture in (row["image"], *row["aux_crops"], *row["rcnn_crops"]) if picture
    ]
    assert len(pictures) > 400
    assert {picture.mode for picture in pictures} == {"RGB"}
    assert {row["image"].size for row in decoded if row["image"]} == {(128, 128)}
    assert all(min(picture.size) >= 16 for picture in pictures)
    # Painted, not blank.
    assert all(high - low > 60 for picture in pictures for low, high in [picture.convert("L").getextrema()])


def test_missing_picture(prepared):
    missing = [row for row in prepared["train"] if row["image"] is None]
    assert 0 < len(missing) < 30
    for row in missing:
        assert row["image_id"] is None
        assert row["aux_crops"] == row["rcnn_crops"] == row["aux_objects"] == row["rcnn_objects"] == []
        assert any(row["ner_tags"])


def test_same_seed_same_bytes_in_another_process(prepared, tmp_path, repository):
    # A bare package: the real one imports transformers, which takes seconds and has no part in this.
    code = (
        "import sys, types; package = sys.modules['processing'] = types.ModuleType('processing');"
        "package.__path__ = [sys.argv[1] + '/processing'];"
        "sys.path.insert(0, sys.argv[1] + '/tests/processing/data/demo');"
        "from test_entity_tweets import DemoMNER, digest;"
        "stream = DemoMNER(cache_dir=sys.argv[2], num_train=40, num_test=20).as_streaming_dataset();"
        "print(digest(stream['train']), digest(stream['test']))"
    )
    environment = {**os.environ, "PYTHONHASHSEED": "7", "HF_HUB_OFFLINE": "1"}
    command = [sys.executable, "-c", code, str(repository), str(tmp_path)]
    result = subprocess.run(command, env=environment, capture_output=True, text=True, check=True, timeout=600)
    # Fewer rows in that build: a row does not depend on how many there are.
    expected = [digest(prepared[split].select(range(size))) for split, size in (("train", 40), ("test", 20))]
    assert result.stdout.split()[-2:] == expected


def plan_digest(tweets):
    """Of words, tags, objects and crops: what does not depend on the version of Pillow."""
    plans = []
    for tweet in tweets:
        scene = tweet.scene
        parts = [] if scene is None else [scene.objects, scene.aux_crops, scene.rcnn_crops]
        boxes = [[[*crop.box] for crop in part] for part in parts]
        kinds = [[item.kind, item.deciding] for item in parts[0]] if parts else []
        plans.append([tweet.tokens, tweet.tags, boxes, kinds])
    return sha256(json.dumps(plans).encode()).hexdigest()


def test_rows_stay_what_they_were(tweets):
    """What is drawn of seed 0: figures of trained models are about these rows."""
    assert plan_digest(tweets["train"]) == "232181a679b6ad4467a47a7cf420f24b15c30ddf6e9af94e180d9a9c7917efad"
    assert plan_digest(tweets["test"]) == "e6324ebb51ff35c127e2ce8d618468c7d7cd4a7f28eed6165e6937e41abc8681"
    scenes = [tweet.scene for tweet in tweets["test"][:20] if tweet.scene]
    colours = np.mean([np.asarray(scene.paint()) for scene in scenes], axis=(0, 1, 2))
    assert colours == pytest.approx([152.74, 145.28, 145.97], abs=0.3)


def test_another_seed_is_another_data_set(prepared, tmp_path):
    builder = DemoMNER(cache_dir=str(tmp_path), seed=1, num_train=0, num_validation=0, num_test=40)
    builder.download_and_prepare()
    other = builder.as_dataset()
    assert list(other) == ["test"]  # a split without rows is left out
    same = [
        a["tokens"] == b["tokens"] for a, b in zip(undecoded(other["test"]), undecoded(prepared["test"]), strict=True)
    ]
    assert sum(same) == 0
    images = [
        {row["image"]["bytes"] for row in undecoded(rows) if row["image"]}
        for rows in (other["test"], prepared["test"])
    ]
    assert len(images[0]) > 30
    assert not images[0] & images[1]


def test_seeds_do_not_share_a_cache(tmp_path):
    folders = {DemoMNER(cache_dir=str(tmp_path), seed=seed).cache_dir for seed in range(3)}
    assert len(folders) == 3


def test_streaming_equals_prepared(prepared, tmp_path):
    stream = DemoMNER(cache_dir=str(tmp_path), **SIZES).as_streaming_dataset()
    assert set(stream) == set(SPLITS)
    assert stream["train"].features == prepared["train"].features
    for split in ("validation", "test"):
        assert digest(stream[split]) == digest(prepared[split])
    assert next(iter(stream["test"]))["image"].mode == "RGB"
    assert not any(tmp_path.rglob("*.arrow"))


def test_chunks_cover_every_row_once(tmp_path):
    builder = DemoMNER(cache_dir=str(tmp_path), num_train=250, num_validation=0, num_test=0)
    (split,) = builder._split_generators(None)
    assert len(split.gen_kwargs["chunks"]) == 3
    assert [index for chunk in split.gen_kwargs["chunks"] for index in chunk] == list(range(250))


def test_refuses_negative_sizes_and_unknown_splits(tmp_path):
    with pytest.raises(ValueError, match="must not be negative"):
        DemoMNER(cache_dir=str(tmp_path), num_test=-1)
    with pytest.raises(ValueError, match="not in tuple"):
        plan_tweet(0, "dev", 0)


def test_splits_share_no_sentence(tweets):
    sentences = {split: {" ".join(tweet.tokens).lower() for tweet in rows} for split, rows in tweets.items()}
    other_seed = {" ".join(plan_tweet(1, "train", index).tokens).lower() for index in range(400)}
    assert not sentences["train"] & sentences["validation"]
    assert not (sentences["train"] | sentences["validation"] | other_seed) & sentences["test"]
    # Nor does any of them say the same thing over and over.
    assert all(len(sentences[split]) > 0.98 * len(tweets[split]) for split in SPLITS)


def test_tags_align_and_are_well_formed(tweets):
    for tweet in tweets["train"]:
        assert len(tweet.tokens) == len(tweet.tags) > 0
        assert set(tweet.tags) <= set(TWITTER_TAGS)
        for previous, tag in zip(("O", *tweet.tags), tweet.tags, strict=False):
            assert not tag.startswith("I-") or previous[1:] == tag[1:]
        assert all(token and not any(mark in token for mark in " {}") for token in tweet.tokens)
        assert not any(token[0] in "#@" and len(token) > 1 for token in tweet.tokens)
        assert len(names(tweet)) <= 2


def test_two_word_names_take_continuation_tags(tweets):
    assert sum(" " not in name for name in NAMES) >= 40
    assert sum(" " in name for name in NAMES) >= 15
    tags = Counter(tag for tweet in tweets["train"] for tag in tweet.tags)
    assert all(tags[tag] > 50 for tag in TWITTER_TAGS)


def test_the_deciding_object_tells_the_type(tweets):
    for tweet in tweets["train"]:
        if tweet.scene is None or not names(tweet):
            assert not deciding(tweet)
            continue
        (item,) = deciding(tweet)
        (name, entity_type), *_ = names(tweet)
        assert name.lower() in {name.lower() for name in NAMES}
        assert DRAWINGS[item.kind].entity_type == entity_type
        # No other object of the picture speaks for a type.
        assert all(DRAWINGS[other.kind].entity_type is None for other in tweet.scene.objects if other is not item)


def test_typical_tweets_are_the_first_of_their_type(tweets):
    found = {}
    for index, tweet in enumerate(tweets["test"]):
        lists = (tweet.scene.aux_crops, tweet.scene.rcnn_crops) if tweet.scene else ((),)
        settle = [len(crops) > 1 and any(crop.object.deciding for crop in crops) for crops in lists]
        if len(names(tweet)) == 1 and all(settle):
            found.setdefault(names(tweet)[0][1], index)
    assert found == TYPICAL_TWEETS


def test_names_without_a_picture_stand_in_telling_sentences(tweets):
    clues = {
        "PER": "signed birthday brother backstage said",
        "LOC": "flew traffic hotel streets raining",
        "ORG": "shares CEO board company profits",
        "MISC": "movie game novel album series",
    }
    clues = {entity_type: set(words.lower().split()) for entity_type, words in clues.items()}
    missing = [tweet for tweet in tweets["train"] if tweet.scene is None]
    for tweet in missing:
        words = {token.lower() for token in tweet.tokens}
        assert [kind for kind in TYPES if words & clues[kind]] == [names(tweet)[0][1]]
    assert {names(tweet)[0][1] for tweet in missing} == set(TYPES)


def test_types_are_balanced(tweets):
    for split, rows in tweets.items():
        counts = Counter(names(tweet)[0][1] for tweet in rows if deciding(tweet))
        assert set(counts) == set(TYPES)
        assert max(counts.values()) < 1.35 * min(counts.values()), split
    kinds = Counter(item.kind for tweet in tweets["train"] for item in deciding(tweet))
    assert set(kinds) == {kind for entity_type in TYPES for kind in KINDS[entity_type]}
    assert all(len(KINDS[entity_type]) >= 3 for entity_type in TYPES)


def test_every_name_takes_every_type_in_train(tweets):
    types = {split: defaultdict(Counter) for split in SPLITS}
    for split, rows in tweets.items():
        for tweet in rows:
            if deciding(tweet):
                name, entity_type = names(tweet)[0]
                types[split][name.lower()][entity_type] += 1
    assert set(types["train"]) == {name.lower() for name in NAMES} >= set(types["test"])
    assert all(set(counts) == set(TYPES) for counts in types["train"].values())
    # A name's commonest type in train is no help in test.
    guesses = [
        (counts.most_common(1)[0][0], entity_type, number)
        for name, counts in types["train"].items()
        for entity_type, number in types["test"][name].items()
    ]
    total = sum(number for *_, number in guesses)
    assert sum(number for guess, entity_type, number in guesses if guess == entity_type) < 0.35 * total


def test_shares(tweets):
    rows = tweets["train"]
    pictured = [tweet for tweet in rows if tweet.scene]
    decided = [tweet for tweet in pictured if deciding(tweet)]
    assert share(lambda tweet: tweet.scene is None, rows) == pytest.approx(0.08, abs=0.02)
    assert share(lambda tweet: not names(tweet), pictured) == pytest.approx(0.10, abs=0.02)
    assert share(lambda tweet: len(names(tweet)) == 2, [tweet for tweet in rows if names(tweet)]) == pytest.approx(
        0.15, abs=0.03
    )
    shown = []
    for crops in ("aux_crops", "rcnn_crops"):
        lists = [getattr(tweet.scene, crops) for tweet in pictured]
        assert share(lambda crops: not crops, lists) == pytest.approx(0.07, abs=0.03)
        assert max(map(len, lists)) == 3
        shown.append([[crop.object.deciding for crop in getattr(tweet.scene, crops)] for tweet in decided])
    assert share(lambda pair: any(pair[0]) or any(pair[1]), zip(*shown, strict=True)) > 0.96
    places = Counter(found.index(True) for found in shown[0] if any(found))
    assert places[0] > places[1] > places[2] > 40


def test_crops_hold_their_object(tweets):
    for tweet in tweets["test"]:
        for crop in (*tweet.scene.aux_crops, *tweet.scene.rcnn_crops) if tweet.scene else ():
            left, top, right, bottom = crop.box
            inner = crop.object.box
            assert 0 <= left <= inner[0] < inner[2] <= right <= 128
            assert 0 <= top <= inner[1] < inner[3] <= bottom <= 128
            assert crop.object in tweet.scene.objects


def test_text_alone_cannot_do_well(tweets):
    """The module docstring's bound: all spans found, right where words settle the type, one in four elsewhere."""
    entities = sum(len(names(tweet)) for tweet in tweets["test"])
    open_names = sum(bool(deciding(tweet)) for tweet in tweets["test"])
    assert (entities - open_names + open_names / len(TYPES)) / entities == pytest.approx(0.41, abs=0.03)
