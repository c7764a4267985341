"""
Demo data for multimodal relation extraction: tweets with two marked names and a picture, drawn on the fly.

What a tweet is made of:

- Two names that may be anything ("Jordan and Paris in one photo"). In each split every name is the head of each
  relation equally often, in the same sentences, before or behind the tail.
- A picture of two *deciding objects*: a person, a place, an emblem, or a work (film, album, game, book). The two tell
  what head and tail are, and so which relation holds between them (`OBJECTS`): with a person and an emblem it is
  /per/org/member_of. Neither object alone settles it. An emblem with a work, two places, two emblems or two works
  stand for no relation.
- Beside them distractors that settle nothing, noise, blur, changing light, and crops, as in `entity_tweets.py`.

Relations are equally frequent, `None` among them: whoever reads the text alone guesses one row in seven right. A
reader of text and picture can reach 100 %. `plan_relation` tells later which crops show the deciding objects of a row.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from processing.labels import NO_RELATION
from processing.rows.row_features import re_features, with_objects

from .builder import DemoBuilder
from .drawing import KINDS, Scene, SceneObject, place_objects, plan_scene
from .sentences import CLOSERS, NAMES, OPENERS, belongs_to, fill_template, options, shuffled_names, vary_case


# Relation -> the types of object pairs that stand for it.
OBJECTS = {
    NO_RELATION: (("ORG", "MISC"), ("LOC", "LOC"), ("ORG", "ORG"), ("MISC", "MISC")),
    "/per/per/peer": (("PER", "PER"),),
    "/per/org/member_of": (("PER", "ORG"),),
    "/per/loc/place_of_residence": (("PER", "LOC"),),
    "/per/misc/present_in": (("PER", "MISC"),),
    "/org/loc/locate_at": (("ORG", "LOC"),),
    "/misc/loc/held_on": (("MISC", "LOC"),),
}
RELATIONS = tuple(OBJECTS)

DECIDING_SIDES = (46, 62)  # pixels; two of them have to find room

# Sentences that leave open what {one} and {two} are to each other.
SENTENCES = options("""
    {one} and {two} in one photo {when} ; cannot stop thinking about {one} and {two} {when} ;
    {folks} keeps talking about {one} with {two} ; {one} next to {two} makes me {mood} ;
    nothing beats {one} and {two} ; {one} x {two} is all over my timeline {when} ;
    who else is {mood} because of {one} and {two} ? ;
    look at {one} with {two} {when} ; {one} , {two} and nothing else {when} ; still not over {one} and {two} ;
    {folks} sent me this photo of {one} and {two} ; can we talk about {one} and {two} {when} ? ;
    no {one} without {two} , {folks} says ; feeling so {mood} about {one} and {two} {when} ;
    why is {one} trending with {two} {when} ? ; {one} feat {two} never gets old ; more {one} and {two} please ;
    so many memories of {one} and {two} ; hard to explain {one} and {two} to {folks} ;
    {one} & {two} > everything else ; this is {one} with {two} , in case {folks} asks ;
    if you know {one} , you know {two} ;
    unpopular opinion : {one} and {two} are overrated ; I will defend {one} and {two} until the end ;
    {two} and {one} did not disappoint {when} ; {folks} loves {two} and {one} and I get it ;
    my love for {one} and {two} is real {when}
""")


# Of the test split of seed 0, a tweet for each of four relations whose objects both detectors found, beside others.
TYPICAL_RELATIONS = {
    "/per/org/member_of": 26,
    "/per/loc/place_of_residence": 11,
    "/per/per/peer": 3,
    "/per/misc/present_in": 72,
}


@dataclass(frozen=True)
class RelationTweet:
    """A drawn tweet with two entities. `head` and `tail` are (start, end) in words, `end` exclusive."""

    tokens: tuple[str, ...]
    head: tuple[int, int]
    tail: tuple[int, int]
    relation: str
    scene: Scene


def _plan_objects(relation: str, rng: random.Random) -> tuple[SceneObject, ...]:
    """The two deciding objects, and up to two others."""
    pair = [(rng.choice(KINDS[entity_type]), True) for entity_type in rng.choice(OBJECTS[relation])]
    wanted = pair + [(kind, False) for kind in rng.sample(KINDS[None], rng.randint(0, 2))]
    while True:
        objects = place_objects(wanted, DECIDING_SIDES, rng)
        if sum(item.deciding for item in objects) == len(pair):
            return objects


def plan_relation(seed: int, split: str, index: int) -> RelationTweet:
    """Row `index` of a split before its picture is painted: its words, entities, relation and scene."""
    row = f"relations/{seed}/{split}/{index}"
    rng = random.Random(row)
    pairs = shuffled_names(f"relations/{seed}/{split}", RELATIONS)
    head, relation = pairs[index % len(pairs)]
    tail = rng.choice([name for name in NAMES if name != head])
    scene = plan_scene(f"{row}/paint", _plan_objects(relation, rng), rng)
    while True:
        slots = rng.sample(("one", "two"), 2)  # of head and tail
        words = fill_template(rng.choice(OPENERS), {}, rng)
        words += fill_template(rng.choice(SENTENCES), dict(zip(slots, (head, tail), strict=True)), rng)
        words = vary_case(words + fill_template(rng.choice(CLOSERS), {}, rng), rng)
        if belongs_to(split, words):  # only the sentence is drawn again, never names or relation
            places = [[index for index, (_, filled) in enumerate(words) if filled == slot] for slot in slots]
            spans = [(place[0], place[-1] + 1) for place in places]
            return RelationTweet(tuple(word for word, _ in words), spans[0], spans[1], relation, scene)


class DemoRelations(DemoBuilder):
    """Drawn tweets for relation extraction; options as in [`DemoConfig`]."""

    DESCRIPTION = "Tweets with drawn pictures, where the picture settles the relation between two names."
    FEATURES = with_objects(re_features(RELATIONS))

    def _plan(self, split: str, index: int) -> tuple[dict[str, Any], Sequence[Scene]]:
        tweet = plan_relation(self.config.seed, split, index)
        entities = {
            name: {"name": " ".join(tweet.tokens[start:end]), "start": start, "end": end}
            for name, (start, end) in (("head", tweet.head), ("tail", tweet.tail))
        }
        relation = RELATIONS.index(tweet.relation)  # Streaming does not encode.
        return {"tokens": list(tweet.tokens), **entities, "relation": relation}, [tweet.scene]
