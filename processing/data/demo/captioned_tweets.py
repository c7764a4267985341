"""
Demo data for texts with a context: the tweets of `demo`, with a caption in place of the picture.

The caption names what the picture of `demo` would show, in any order: the *deciding object*, which settles the type of
the name, and one to three distractors. The words of the tweet leave the type open as they do there: a reader of the
text alone guesses one name in four right (41 F1), and a reader of text and caption can reach 100. The tweets without a
picture, whose sentence settles the type, have no context, and no tweet has a picture.
"""

import random
from collections.abc import Sequence
from typing import Any

from processing.context import CONTEXT
from processing.labels import TWITTER_TAGS
from processing.rows.row_features import ner_features, with_context, with_objects

from .builder import DemoBuilder
from .drawing import Scene
from .entity_tweets import DemoTweetsConfig, plan_tweet
from .sentences import options


OPENINGS = options("a photo of; a picture of; there is; we see; this shows; an image with; close-up of")


def caption_of(scene: Scene, rng: random.Random) -> str:
    """What a scene shows, in words."""
    objects = [f"a {item.kind.replace('_', ' ')}" for item in scene.objects]
    rng.shuffle(objects)
    *others, last = objects
    return f"{rng.choice(OPENINGS)} {', '.join(others)}{' and ' if others else ''}{last}"


class DemoCaptions(DemoBuilder):
    """Demo tweets with captions and without pictures, for entity recognition; options as in [`DemoTweetsConfig`]."""

    BUILDER_CONFIG_CLASS = DemoTweetsConfig
    DESCRIPTION = "Tweets with captions, where a word of the caption settles the type of an ambiguous name."
    FEATURES = with_context(with_objects(ner_features(TWITTER_TAGS)))

    def _plan(self, split: str, index: int) -> tuple[dict[str, Any], Sequence[Scene]]:
        tweet = plan_tweet(self.config.seed, split, index)
        rng = random.Random(f"{self.config.seed}/{split}/{index}/caption")
        captions = [] if tweet.scene is None else [{"kind": "caption", "text": caption_of(tweet.scene, rng)}]
        return {"tokens": list(tweet.tokens), "ner_tags": list(tweet.tags), CONTEXT: captions}, []
