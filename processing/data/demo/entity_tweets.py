"""
Demo data for multimodal named entity recognition: tweets with pictures, drawn on the fly, nothing downloaded.

What a tweet is made of:

- One name that may be a person, a place, an organisation or a work ("cannot stop thinking about Jordan tonight"). In
  each split every name takes the four types equally often, and the sentence does not tell them apart: the picture's
  *deciding object* does. A person, a place, an emblem, and a film, album, game or book stand for PER, LOC, ORG, MISC.
- Beside it distractors that settle nothing (dog, cup, car, ...), pixel noise, blur, changing light.
- Crops as two detectors would cut them: `aux_crops` (phrase grounding) and `rcnn_crops` (closed set), up to three of
  each, best first. The deciding object is in most lists, not always first; some lists are empty.
- 8 % of the tweets have no picture, and a sentence that settles the type ("flew to Austin for the weekend").
- 10 % of the pictures come with a tweet that holds no name; their objects mean nothing.
- 15 % of the tweets with a name hold a second entity that its words settle ("live from Ohio").

Per 100 tweets that is 83 names only the picture settles, 8 names the sentence settles and 14 second entities. A
reader of the text alone who finds every span guesses one name in four right: (83 / 4 + 8 + 14) / 105 = 41 F1. A reader
of text and picture can reach 100. `plan_tweet` tells later which crop shows the deciding object of a row.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from processing.labels import TWITTER_TAGS
from processing.rows.row_features import ner_features, with_objects

from .builder import DemoBuilder, DemoConfig
from .drawing import KINDS, TYPES, Scene, SceneObject, place_objects, plan_scene
from .sentences import CLOSERS, OPENERS, belongs_to, fill_template, options, shuffled_names, vary_case


NO_PICTURE, NO_ENTITY, SECOND_ENTITY = 0.08, 0.10, 0.15
DECIDING_SIDES = (80, 104)  # pixels; large enough to be seen in the whole picture too

# Sentences that leave the type of {name} open.
OPEN_SENTENCES = options("""
    cannot stop thinking about {name} {when} ; {name} is all over my timeline {when} ;
    {folks} keeps talking about {name} ; feeling so {mood} about {name} {when} ; {name} makes me {mood} {when} ;
    look at {name} {when} ; still not over {name} ; who else is {mood} because of {name} ? ;
    nothing beats {name} {when} ; people sleep on {name} ; this is {name} , in case {folks} asks ;
    {name} never gets old ; why is {name} trending {when} ? ; I will defend {name} until the end ;
    {folks} loves {name} and I get it ; can we talk about {name} {when} ? ; so many memories of {name} ;
    my love for {name} is real {when} ; more {name} please ; {name} > everything else {when} ;
    a little bit of {name} for {folks} ; {folks} sent me this photo of {name} ; hard to explain {name} to {folks} ;
    not ready for {name} {when} ; {name} did not disappoint {when} ; that is so {name} , {folks} says ;
    {name} and nothing else {when} ; unpopular opinion : {name} is overrated ; tell me more about {name} ;
    {name} has changed a lot {when} ; I was wrong about {name} , {mood} now ; if you know {name} , you know ;
    {folks} is {mood} and it is all because of {name}
""")

# Sentences that settle it, for the tweets without a picture.
SETTLED_SENTENCES = {
    "PER": options("""
        {name} signed my book and hugged me {when} ; happy birthday to my cousin {name} , he makes me {mood} ;
        {name} told {folks} that her brother is getting married ; met {name} backstage {when} , what a kind guy ;
        {name} said he is {mood} {when}
"""),
    "LOC": options("""
        flew to {name} for the weekend ; driving through {name} {when} , traffic is awful ;
        our hotel in downtown {name} makes {folks} {mood} ; moved to {name} with {folks} , the streets are lovely ;
        it is raining in {name} {when}
"""),
    "ORG": options("""
        {name} shares fell after the merger {when} ; {name} hired a new CEO and {folks} is {mood} ;
        the {name} board fired 200 employees {when} ; {folks} got a job offer from the company {name} ;
        {name} reported record quarterly profits {when}
"""),
    "MISC": options("""
        just finished watching the movie {name} with {folks} ; stuck on level 9 of the game {name} {when} ;
        the novel {name} made {folks} {mood} until the last chapter ; the soundtrack album {name} is on repeat {when} ;
        season two of the series {name} made me {mood}
"""),
}

# A second entity: its tail and its name both tell the type.
SECOND_TAILS = {
    "PER": options("says @ {other}; with my idol {other}"),
    "LOC": options("live from {other}; greetings from {other}"),
    "ORG": options("via {other}; according to {other}"),
    "MISC": options("after the {other}; before the {other}"),
}
SECOND_NAMES = {
    "PER": options("Rihanna; Obama; Beyonce; Messi; Taylor Swift; Justin Bieber"),
    "LOC": options("Ohio; Canada; Tokyo; Berlin; New Zealand; South Africa"),
    "ORG": options("Reuters; NASA; UNICEF; FIFA; Red Cross; European Union"),
    "MISC": options("Oscars; Grammys; Olympics; Emmys; World Cup; Super Bowl"),
}


# Of the test split of seed 0, the first tweet of each type whose only name is settled by a crop among others, for both
# detectors.
TYPICAL_TWEETS = {"PER": 3, "LOC": 1, "ORG": 4, "MISC": 13}


@dataclass(frozen=True)
class Tweet:
    """A drawn tweet: its words, a tag for each of them, and its picture before it is painted, None without one."""

    tokens: tuple[str, ...]
    tags: tuple[str, ...]
    scene: Scene | None


def _plan_objects(entity_type: str | None, rng: random.Random) -> tuple[SceneObject, ...]:
    """The deciding object, if the tweet has a name, and one to three others that overlap it little."""
    wanted = [(kind, False) for kind in rng.sample(KINDS[None], rng.randint(1, 3))]
    if entity_type is not None:
        wanted.insert(0, (rng.choice(KINDS[entity_type]), True))
    elif rng.random() < 0.5:  # a person beside a tweet without a name means nothing
        wanted.insert(0, (rng.choice(KINDS[rng.choice(TYPES)]), False))
    return place_objects(wanted, DECIDING_SIDES, rng)


def plan_tweet(seed: int, split: str, index: int) -> Tweet:
    """Row `index` of a split before its picture is painted: its words, tags and scene."""
    row = f"{seed}/{split}/{index}"
    rng = random.Random(row)
    pairs = shuffled_names(f"{seed}/{split}", TYPES)
    name, entity_type = pairs[index % len(pairs)]
    scene, has_name = None, True
    if rng.random() < NO_PICTURE:
        bodies = SETTLED_SENTENCES[entity_type]
    else:
        has_name, bodies = rng.random() >= NO_ENTITY, OPEN_SENTENCES
        scene = plan_scene(f"{row}/paint", _plan_objects(entity_type if has_name else None, rng), rng)
    while True:
        types = {"name": entity_type}  # of the name in each slot
        body = rng.choice(bodies)
        words = fill_template(rng.choice(OPENERS), {}, rng)
        if has_name:
            words += fill_template(body, {"name": name}, rng)
            if rng.random() < SECOND_ENTITY:
                other = types["other"] = rng.choice(TYPES)
                tail = rng.choice(SECOND_TAILS[other])
                words += fill_template(tail, {"other": rng.choice(SECOND_NAMES[other])}, rng)
        else:
            words += fill_template(body.replace("{name}", "{thing}"), {}, rng)
        words = vary_case(words + fill_template(rng.choice(CLOSERS), {}, rng), rng)
        if belongs_to(split, words):  # only the sentence is drawn again, never name or type
            tokens, slots = zip(*words, strict=True)
            tags = [
                "O" if slot is None else f"{'I' if slot == previous else 'B'}-{types[slot]}"
                for previous, slot in pairwise((None, *slots))
            ]
            return Tweet(tokens, tuple(tags), scene)


@dataclass
class DemoTweetsConfig(DemoConfig):
    """
    Options as in [`DemoConfig`]. With fewer training rows, a model learns the texts of tweets without pictures by
    heart. With fewer test rows, scores differ by more than two points by chance alone.
    """

    num_train: int = 18000
    num_test: int = 1200


class DemoMNER(DemoBuilder):
    """Drawn tweets for entity recognition; options as in [`DemoTweetsConfig`]."""

    BUILDER_CONFIG_CLASS = DemoTweetsConfig
    DESCRIPTION = "Tweets with drawn pictures, where the picture settles the type of an ambiguous name."
    FEATURES = with_objects(ner_features(TWITTER_TAGS))

    def _plan(self, split: str, index: int) -> tuple[dict[str, Any], Sequence[Scene]]:
        tweet = plan_tweet(self.config.seed, split, index)
        scenes = [] if tweet.scene is None else [tweet.scene]
        return {"tokens": list(tweet.tokens), "ner_tags": list(tweet.tags)}, scenes
