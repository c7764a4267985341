"""Demo data for texts with several pictures: the tweets of `demo` with two pictures each."""

import random
from collections.abc import Sequence
from typing import Any

from processing.labels import TWITTER_TAGS
from processing.rows.row_features import ner_features, with_objects, with_several_images

from .drawing import KINDS, Scene, place_objects, plan_scene
from .entity_tweets import DECIDING_SIDES, DemoMNER


class DemoPictures(DemoMNER):
    """
    The same tweets with two pictures each, the first or the second of which shows the deciding object. The other one
    shows objects that settle nothing. Who sees the first alone guesses the type of every other name.
    """

    DESCRIPTION = "Tweets with two drawn pictures, one of which settles the type of an ambiguous name."
    FEATURES = with_objects(with_several_images(ner_features(TWITTER_TAGS)))

    def _plan(self, split: str, index: int) -> tuple[dict[str, Any], Sequence[Scene]]:
        answers, scenes = super()._plan(split, index)
        if not scenes:
            return answers, scenes
        row = f"{self.config.seed}/{split}/{index}/other"
        rng = random.Random(row)
        wanted = [(kind, False) for kind in rng.sample(KINDS[None], rng.randint(1, 3))]
        other = plan_scene(f"{row}/paint", place_objects(wanted, DECIDING_SIDES, rng), rng)
        return answers, rng.sample([*scenes, other], 2)
