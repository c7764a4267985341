"""
Which crops a picture gives: settings, phrases and detectors, the same for preparing a data set and for the pipeline.

    proposer = ObjectProposer(device="cpu")
    options = ProposalOptions(aux_detector="IDEA-Research/grounding-dino-tiny")
    (objects,) = proposer.propose(options, "aux", [picture], [text], ["PER", "LOC"], max_objects=3)
    crops = encode_crops(picture, objects)
"""

import importlib
import io
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from PIL import Image

from .columns import CROP_KINDS
from .detectors import DetectedObject, ObjectDetector, cut_crops, plain_phrase
from .problems import check_at_least_one


# What an entity of a type looks like. Names themselves cannot be looked for: a detector knows no names.
ENTITY_PHRASES = {
    "PER": ("a person", "a face"),
    "ORG": ("a logo", "a sports team", "a uniform"),
    "LOC": ("a building", "a landscape", "a landmark"),
    "MISC": ("a poster", "a screen", "a trophy"),
}
TYPE_ALIASES = {
    "PERSON": "PER",
    "ORGANIZATION": "ORG",
    "ORGANISATION": "ORG",
    "LOCATION": "LOC",
    "GPE": "LOC",
    "OTHER": "MISC",
}
SPACY_MODELS = ("en_core_web_sm", "en_core_web_md", "en_core_web_lg", "en_core_web_trf")


def label_phrases(entity_types: Iterable[str]) -> list[str]:
    """What entities of these types look like, to look for it in a picture: PER -> "a person", "a face"."""
    phrases: list[str] = []
    for entity_type in entity_types:
        name = entity_type.upper()
        name = TYPE_ALIASES.get(name, name)
        word = name.lower().replace("_", " ").strip()
        phrases.extend(ENTITY_PHRASES.get(name, (f"{'an' if word[:1] in tuple('aeiou') else 'a'} {word}",)))
    return list(dict.fromkeys(phrases))


def installed_spacy_model() -> str | None:
    """An English spaCy model that is installed, the smallest first, or None."""
    try:
        spacy = importlib.import_module("spacy")
    except ImportError:
        return None
    return next((name for name in SPACY_MODELS if spacy.util.is_package(name)), None)


class NounPhrases:
    """
    A function from texts to the noun phrases of each: lower-cased, in order of first occurrence, without pronouns;
    `fallback` for a text that has none. Without spaCy or the model it is an ImportError that says how to install it,
    with a model that finds no noun phrases a ValueError.
    """

    def __init__(self, spacy_model: str, fallback: Sequence[str]) -> None:
        try:
            spacy = importlib.import_module("spacy")
        except ImportError as error:
            raise ImportError(
                "Noun phrases need spaCy: `pip install spacy`, then "
                f"`python -m spacy download {spacy_model}`; or give the phrases yourself."
            ) from error
        try:
            self.nlp = spacy.load(spacy_model, exclude=["ner"])
        except OSError as error:
            raise ImportError(
                f"No spaCy model {spacy_model!r}: `python -m spacy download {spacy_model}`, or name a folder."
            ) from error
        if not any(self.nlp.has_pipe(name) for name in ("parser", "transition_parser")):
            raise ValueError(
                f"spaCy model {spacy_model!r} has no parser, so it finds no noun phrases; got pipes "
                f"{self.nlp.pipe_names}. Name another, such as {SPACY_MODELS[0]}."
            )
        self.fallback = list(fallback)

    def __call__(self, texts: Iterable[str]) -> list[list[str]]:
        found = []
        for document in self.nlp.pipe(texts):
            chunks = (plain_phrase(chunk.text) for chunk in document.noun_chunks if chunk.root.pos_ != "PRON")
            phrases = dict.fromkeys(chunk for chunk in chunks if any(letter.isalpha() for letter in chunk))
            found.append(list(phrases) or self.fallback)
        return found


# Texts -> the phrases to look for in the picture of each, None for a detector of a closed set.
FindPhrases = Callable[[Sequence[str]], Sequence[list[str] | None]]


def phrase_finder(
    given: Sequence[str] | None, spacy_model: str | None, entity_types: Sequence[str]
) -> tuple[dict[str, Any], FindPhrases]:
    """
    Where grounding phrases come from, for settings; and a function from texts to the phrases of each.

    Args:
        given: phrases for every picture, which win.
        spacy_model: finds noun phrases; an installed one if None, the entity types if that is none or "none".
        entity_types: what to look for where a text gives no noun phrase; none at all are a ValueError.
    """
    if given is not None:
        return {"given": given}, lambda texts: [list(given) for _ in texts]
    phrases = label_phrases(entity_types)
    if not phrases:
        raise ValueError("The labels name no entity types: say what to look for by phrases.")
    if spacy_model is None:
        spacy_model = installed_spacy_model()
    if spacy_model is None or spacy_model == "none":
        return {"label set": phrases}, lambda texts: [phrases for _ in texts]
    noun_phrases = NounPhrases(spacy_model, phrases)
    meta = noun_phrases.nlp.meta
    return {"noun phrases": f"{spacy_model} {meta.get('version')}", "else": phrases}, noun_phrases


def tag_types(tags: Iterable[str]) -> list[str]:
    """The entity types of tags such as B-PER, each once, in order."""
    return list(dict.fromkeys(match[1] for tag in tags if (match := re.match(r"[BI]-(.+)", tag))))


def relation_types(relations: Iterable[str]) -> list[str]:
    """The entity types that relations such as /per/org/member_of name, each once, in order."""
    return list(dict.fromkeys(part for name in relations if name[:1] == "/" for part in name.split("/")[1:3]))


# What a kind's detector must be, by `ObjectDetector.is_zero_shot`.
ZERO_SHOT = {"aux": True, "rcnn": False}

JPEG: dict[str, Any] = {"format": "JPEG", "quality": 95, "subsampling": 0}  # 4:4:4


@dataclass
class ProposalOptions:
    """
    What to look for in pictures, and with which detectors.

    Attributes:
        aux_detector: a zero-shot detector, by its name on the Hub or its folder, or an `ObjectDetector`.
        rcnn_detector: a detector of a closed set of labels, given in the same way.
        phrases: what the zero-shot detector looks for in every picture.
        spacy_model: finds the noun phrases of each text, which the zero-shot detector looks for otherwise; None: an
            installed English one. Without one, or with "none", it looks for what the labels name.
        aux_threshold, rcnn_threshold: objects have a score above this.
        iou_threshold: of two boxes whose intersection over union is above this, the one with the higher score stays.
        max_aux_crops, max_rcnn_crops: the largest number of crops for a picture.
    """

    aux_detector: str | ObjectDetector | None = None
    rcnn_detector: str | ObjectDetector | None = None
    phrases: list[str] | None = None
    spacy_model: str | None = None
    aux_threshold: float = 0.3
    rcnn_threshold: float = 0.5
    iou_threshold: float = 0.5
    max_aux_crops: int = 3
    max_rcnn_crops: int = 3

    @property
    def detectors(self) -> dict[str, Any]:
        """The detectors given, by kind."""
        given = {kind: getattr(self, f"{kind}_detector") for kind in CROP_KINDS}
        return {kind: detector for kind, detector in given.items() if detector is not None}

    def threshold(self, kind: str) -> float:
        return getattr(self, f"{kind}_threshold")

    def max_crops(self, kind: str) -> int:
        return getattr(self, f"max_{kind}_crops")

    def check(self) -> None:
        """An option out of range is a ValueError."""
        for name in ("aux_threshold", "rcnn_threshold", "iou_threshold"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} must be from 0 to 1, got {getattr(self, name)}.")
        check_at_least_one(max_aux_crops=self.max_aux_crops, max_rcnn_crops=self.max_rcnn_crops)
        if self.phrases is not None and not any(phrase.strip(" .") for phrase in self.phrases):
            raise ValueError(f"phrases must name at least one, got {self.phrases}.")

    def check_kind(self, kind: str, is_zero_shot: bool) -> None:
        """A zero-shot detector where one of a closed set belongs, or the reverse, is a ValueError."""
        if is_zero_shot != ZERO_SHOT[kind]:
            expected = "a zero-shot detector (Grounding DINO, OWLv2)" if ZERO_SHOT[kind] else "one of a closed set"
            raise ValueError(
                f"{kind}_detector expects {expected}, got {self.detectors[kind]}. Give it as the other detector."
            )

    def detect(
        self,
        detector: ObjectDetector,
        kind: str,
        images: Sequence[Image.Image],
        phrases: Sequence[list[str] | None],
        max_objects: int | None = None,
    ) -> list[list[DetectedObject]]:
        """
        The objects of a kind in each RGB picture, best first, in one forward pass, at most `max_objects`. Phrases are
        looked at only where the kind's detector is a zero-shot one.
        """
        max_crops = self.max_crops(kind)
        return detector.detect(
            images,
            [of_picture or [] for of_picture in phrases] if ZERO_SHOT[kind] else None,
            threshold=self.threshold(kind),
            iou_threshold=self.iou_threshold,
            max_objects=min(max_crops, max_objects or max_crops),
        )


class ObjectProposer:
    """Finds objects for crops with detectors that it loads once, on first use; a pickled copy loads them anew."""

    def __init__(self, device: str | torch.device | None = None) -> None:
        self.device = device
        self._detectors: dict[str, ObjectDetector] = {}
        self._find_phrases: dict[tuple, FindPhrases] = {}

    def __getstate__(self) -> dict[str, Any]:
        return {"device": self.device, "_detectors": {}, "_find_phrases": {}}

    def propose(
        self,
        options: ProposalOptions,
        kind: str,
        images: Sequence[Image.Image],
        texts: Sequence[str],
        entity_types: Sequence[str],
        max_objects: int | None = None,
    ) -> list[list[DetectedObject]]:
        """
        The objects of a kind in each RGB picture, best first, in one forward pass. As any detector's, results depend a
        little on what else is in the batch.

        Args:
            options: with a detector of that kind.
            texts: the words of each, joined by one space.
            entity_types: what phrases are made of where the texts give none.
            max_objects: fewer than the options say.

        Raises:
            ValueError: for a detector that is not of its kind, or entity types of which no phrase can be made.
            OSError: for a detector that is not there.
            ImportError: for a spaCy model that is named and not installed.
        """
        given = options.detectors[kind]
        detector = given if isinstance(given, ObjectDetector) else self._detectors.get(str(given))
        if detector is None:
            detector = self._detectors[str(given)] = ObjectDetector.from_pretrained(given, device=self.device)
        options.check_kind(kind, detector.is_zero_shot)
        phrases: Sequence[list[str] | None] = [None] * len(images)
        if ZERO_SHOT[kind]:
            key = (tuple(options.phrases or ()), options.spacy_model, tuple(entity_types))
            if key not in self._find_phrases:
                _, self._find_phrases[key] = phrase_finder(options.phrases, options.spacy_model, entity_types)
            phrases = self._find_phrases[key](texts)
        return options.detect(detector, kind, images, phrases, max_objects)


def encode_crops(image: Image.Image, objects: Sequence[DetectedObject]) -> list[bytes]:
    """The picture's crops as a data set stores them."""
    return [encode_crop(crop) for crop in cut_crops(image, objects)]


def encode_crop(crop: Image.Image) -> bytes:
    """A crop as data sets store it. The pipeline takes crops the same way, for a model was trained on such pixels."""
    file = io.BytesIO()
    crop.save(file, **JPEG)
    return file.getvalue()
