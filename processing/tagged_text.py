"""What the pipeline returns for a row: plain lists and dicts, which a notebook shows as text, picture and boxes."""

from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Self

from .columns import as_list
from .images import MAX_MEGAPIXELS
from .problems import Problem
from .rendering import STYLE, tweet_html


NO_ENTITIES = "No names found."


class WithPictures:
    """
    A result that a notebook shows with the pictures of its row.

    Attributes:
        pictures: lists of the row's pictures as they were given, by column: of `image`, `aux_crops` and `rcnn_crops`
            those that the model saw, with None in the place of another `image`. Empty where the row is not held by
            the caller.
        used_pictures: by column, the places of those in the row's lists.
        max_megapixels: the largest picture that is read, as the model's processor has it.
    """

    pictures: Mapping[str, Sequence[Any]] = MappingProxyType({})
    used_pictures: Mapping[str, Sequence[int]] = MappingProxyType({})
    max_megapixels: float = MAX_MEGAPIXELS

    def show_pictures(self, columns: Mapping[str, Any]) -> None:
        """Point to the pictures in the columns of the row."""
        shown = {}
        for column, places in {"image": [0], **self.used_pictures}.items():
            pictures = as_list(columns.get(column))
            if column == "image":  # where a picture that was not used keeps its place, by which crops name theirs
                shown[column] = [picture if place in places else None for place, picture in enumerate(pictures)]
            else:
                shown[column] = [pictures[place] for place in places if place < len(pictures)]
        self.pictures = shown


class Entities(WithPictures, list):
    """
    A list of the entities of a text, which are dicts.

    Attributes:
        text: what the offsets point into.
        crops: what is known of where crops were cut, by column.
        found_problems: as in [`TaggedRow`].
    """

    def __init__(
        self,
        entities: Iterable[Mapping[str, Any]] = (),
        text: str | None = None,
        crops: Mapping[str, Any] | None = None,
        found_problems: Sequence[Problem] = (),
    ):
        super().__init__(entities)
        self.text, self.crops, self.found_problems = text, crops or {}, list(found_problems)

    def _repr_html_(self) -> str:
        return with_style(
            tweet_html(
                self.text,
                self,
                self.pictures,
                self.crops,
                nothing="" if self else NO_ENTITIES,
                max_megapixels=self.max_megapixels,
            )
        )


class TaggedRow(WithPictures, dict):
    """
    A dict with what a pipeline found in a row.

    Attributes:
        found_problems: what is wrong with the row; as sentences they are the dict's `problems`.
        left_out: the types of the entities, and the names of the relations, whose score is below the threshold.
        is_tagged: False where the model could not be asked, for a reason that is the last of the problems.
        confidence: how sure the model is of the answer as a whole, from 0 to 1; None where it could not be asked. For
            entities it is P(tags | tweet) ** (1 / n), with the most likely tags of n words under the CRF: the maximum
            normalized log-probability of Shen et al., 2018, https://arxiv.org/abs/1707.05928, as a probability. For a
            relation it is its score (least confidence; Lewis and Gale, 1994).
    """

    found_problems: Sequence[Problem] = ()
    left_out: Sequence[str] = ()
    is_tagged: bool = True
    confidence: float | None = None

    def with_problems(self, problems: Sequence[Problem], is_tagged: bool) -> Self:
        """The same dict, with what is wrong with its row as values and, where anything is, as `problems`."""
        self.found_problems, self.is_tagged = list(problems), is_tagged
        if problems:
            self["problems"] = [str(problem) for problem in problems]
        return self

    def article(self) -> str:
        """The row as HTML, see [`tweet_html`], for a page that has the `STYLE` of it."""
        raise NotImplementedError

    def _repr_html_(self) -> str:
        """The row as HTML, which a notebook shows."""
        return with_style(self.article())


class TaggedText(TaggedRow):
    """A dict with `text`, `entities`, and where there are any `crops`, `relations` and `problems`."""

    def article(self) -> str:
        entities = self["entities"]
        relations = [
            {**relation, **{name: entities[relation[name]]["word"] for name in ("head", "tail")}}
            for relation in self.get("relations", [])
        ]
        return tweet_html(
            self["text"],
            entities,
            self.pictures,
            self.get("crops", {}),
            problems=self.get("problems", []),
            relations=relations,
            nothing=NO_ENTITIES if self.is_tagged and not entities else "",
            max_megapixels=self.max_megapixels,
        )


class TaggedRelation(TaggedRow):
    """
    A dict with `relation`, `score`, `head` and `tail`, absent where no relation could be given; in a report `text`
    too, and where there are any `crops` and `problems`.

    Attributes:
        text, crops: those of [`Entities`].
        holds: False for the negative relation, which says that there is none.
    """

    text: str | None = None
    crops: Mapping[str, Any] = MappingProxyType({})
    holds: bool = True

    def article(self) -> str:
        entities, relations, nothing = [], [], ""
        if self.is_tagged:
            entities = [{"entity_group": name, **self[name]} for name in ("head", "tail")]
            words = {name: self[name]["word"] for name in ("head", "tail")}
            relations = [{**self, **words}] if self.holds else []
            nothing = "" if self.holds else f"No relation found, {self['score']:.2f}."
            first, second = sorted(entities, key=lambda entity: (entity["start"], entity["end"]))
            if not first["start"] < first["end"] <= second["start"] < second["end"]:
                entities = []  # one within the other: the line below the text names them
        return tweet_html(
            self.text,
            entities,
            self.pictures,
            self.crops,
            problems=self.get("problems", []),
            relations=relations,
            nothing=nothing,
            max_megapixels=self.max_megapixels,
        )


def with_style(article: str) -> str:
    """HTML with its own `STYLE`, for a page that is not ours."""
    return f"<style>{STYLE}</style>{article}"
