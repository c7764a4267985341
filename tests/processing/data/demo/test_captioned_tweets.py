from collections import Counter, defaultdict
from functools import partial

from processing.data.demo.captioned_tweets import DemoCaptions
from processing.data.demo.drawing import DRAWINGS
from processing.data.demo.entity_tweets import plan_tweet
from processing.data.loading import DEMOS, load_data


SIZES = {"num_train": 60, "num_validation": 10, "num_test": 200}


def test_captions_stand_for_pictures(tmp_path, monkeypatch):
    monkeypatch.setitem(DEMOS, "demo_context", partial(DemoCaptions, **SIZES))
    data, report = load_data("demo_context", cache_dir=str(tmp_path))
    assert {split: len(rows) for split, rows in data.items()} == {"train": 60, "validation": 10, "test": 200}
    assert not str(report)
    types = {kind.replace("_", " "): drawing.entity_type for kind, drawing in DRAWINGS.items() if drawing.entity_type}
    decided = 0
    for index, row in enumerate(data["test"]):
        tweet = plan_tweet(0, "test", index)
        assert row["tokens"] == list(tweet.tokens) and row["image"] is None
        assert bool(row["context"]) == (tweet.scene is not None)
        for part in row["context"]:
            assert part["kind"] == "caption"
            deciding = [item.kind.replace("_", " ") for item in tweet.scene.objects if item.deciding]
            named = [kind for kind in types if f"a {kind}" in part["text"]]
            if deciding:
                assert named == deciding and f"B-{types[named[0]]}" in tweet.tags
                decided += 1
    assert decided > 150


def test_the_tweet_does_not_say_what_the_caption_says():
    """By each frequent word of a tweet with a caption, the commonest type of its name is right in few."""
    seen = defaultdict(Counter)
    for index in range(6000):
        tweet = plan_tweet(0, "train", index)
        kinds = [] if tweet.scene is None else [item.kind for item in tweet.scene.objects if item.deciding]
        for kind in kinds:
            for word in {*map(str.lower, tweet.tokens)}:
                seen[word][DRAWINGS[kind].entity_type] += 1
    frequent = [counts for counts in seen.values() if counts.total() > 300]
    assert len(frequent) > 10
    assert max(max(counts.values()) / counts.total() for counts in frequent) < 0.4
