"""
Which crops a picture gives: settings, phrases and detectors, the same for preparing a data set and for the pipeline.

    proposer, options = ObjectProposer(device="cpu"), ProposalOptions(aux_detector="IDEA-Research/grounding-dino-tiny")
    phrases = proposer.phrases(options, [text], ["PER", "LOC"])
    (objects,) = proposer.propose(options, "aux", [picture], phrases, max_objects=3)
    crops = encode_crops(picture, [found.box for found in objects])
"""

import importlib
import io
import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from PIL import Image

from .columns import CROP_KINDS
from .detectors import DetectedObject, ObjectDetector, plain_phrase
from .images import full_size
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


class PhraseFinder:
    """
    A function from texts to the phrases to look for in the picture of each: those that are given, or a text's noun
    phrases (lower-cased, in order of first occurrence, without pronouns), or what the entity types suggest.

    Args:
        given: phrases for every picture, which win.
        spacy_model: finds noun phrases; an installed one if None, and none at all where that is absent or "none".
        entity_types: what to look for where there are no noun phrases.

    Attributes:
        settings: where the phrases come from.

    Raises:
        ImportError: without spaCy or the model that is named; it says how to install it.
        ValueError: for a model that finds no noun phrases, and for no entity types where they are needed.
    """

    def __init__(self, given: Sequence[str] | None, spacy_model: str | None, entity_types: Sequence[str]) -> None:
        self.nlp: Any = None
        self.phrases = label_phrases(entity_types) if given is None else list(given)
        self.settings: dict[str, Any] = {"label set" if given is None else "given": self.phrases}
        if given is not None:
            return
        if not self.phrases:
            raise ValueError("The labels name no entity types: say what to look for by phrases.")
        spacy_model = installed_spacy_model() if spacy_model is None else spacy_model
        if spacy_model is None or spacy_model == "none":
            return
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
        self.settings = {"noun phrases": f"{spacy_model} {self.nlp.meta.get('version')}", "else": self.phrases}

    def __call__(self, texts: Iterable[str]) -> list[list[str]]:
        if self.nlp is None:
            return [self.phrases for _ in texts]
        found = []
        for document in self.nlp.pipe(texts):
            chunks = (plain_phrase(chunk.text) for chunk in document.noun_chunks if chunk.root.pos_ != "PRON")
            phrases = dict.fromkeys(chunk for chunk in chunks if any(letter.isalpha() for letter in chunk))
            found.append(list(phrases) or self.phrases)
        return found


def tag_types(tags: Iterable[str]) -> list[str]:
    """The entity types of tags such as B-PER, each once, in order."""
    return list(dict.fromkeys(match[1] for tag in tags if (match := re.match(r"[BI]-(.+)", tag))))


def types_of_relations(relations: Iterable[str]) -> list[str]:
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

    def __post_init__(self) -> None:
        for name in ("aux_threshold", "rcnn_threshold", "iou_threshold"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} must be from 0 to 1, got {getattr(self, name)}.")
        check_at_least_one(max_aux_crops=self.max_aux_crops, max_rcnn_crops=self.max_rcnn_crops)
        if self.phrases is not None and not any(phrase.strip(" .") for phrase in self.phrases):
            raise ValueError(f"phrases must name at least one, got {self.phrases}.")

    @property
    def detectors(self) -> dict[str, Any]:
        """The detectors given, by kind."""
        given = {kind: getattr(self, f"{kind}_detector") for kind in CROP_KINDS}
        return {kind: detector for kind, detector in given.items() if detector is not None}

    def check_kind(self, kind: str, is_zero_shot: bool) -> None:
        """A zero-shot detector where one of a closed set belongs, or the reverse, is a ValueError."""
        if is_zero_shot != ZERO_SHOT[kind]:
            expected = "a zero-shot detector (Grounding DINO, OWLv2)" if ZERO_SHOT[kind] else "one of a closed set"
            raise ValueError(
                f"{kind}_detector expects {expected}, got {self.detectors[kind]}. Give it as the other detector."
            )


class ObjectProposer:
    """Finds objects for crops with detectors that it loads once, on first use; a pickled copy loads them anew."""

    def __init__(self, device: str | torch.device | None = None) -> None:
        self.device = device
        self._detectors: dict[str, ObjectDetector] = {}
        self._phrase_finders: dict[tuple, PhraseFinder] = {}

    def __getstate__(self) -> dict[str, Any]:
        return vars(ObjectProposer(self.device))

    def phrases(self, options: ProposalOptions, texts: Sequence[str], entity_types: Sequence[str]) -> list[list[str]]:
        """What the options say to look for in the picture of each text, see [`PhraseFinder`]."""
        key = (tuple(options.phrases or ()), options.spacy_model, tuple(entity_types))
        if key not in self._phrase_finders:
            self._phrase_finders[key] = PhraseFinder(options.phrases, options.spacy_model, entity_types)
        return self._phrase_finders[key](texts)

    def propose(
        self,
        options: ProposalOptions,
        kind: str,
        images: Sequence[Image.Image],
        phrases: Sequence[list[str] | None],
        max_objects: int | None = None,
    ) -> list[list[DetectedObject]]:
        """
        The objects of a kind in each RGB picture, best first, in one forward pass; their boxes are in pixels of its
        [`full_size`]. As any detector's, results depend a little on what else is in the batch.

        Args:
            options: with a detector of that kind.
            phrases: what to look for in each picture; not looked at where the detector is one of a closed set.
            max_objects: fewer than the options say.

        Raises:
            ValueError: for a detector that is not of its kind.
            OSError: for a detector that is not there.
        """
        given = options.detectors[kind]
        detector = given if isinstance(given, ObjectDetector) else self._detectors.get(str(given))
        if detector is None:
            detector = self._detectors[str(given)] = ObjectDetector.from_pretrained(given, device=self.device)
        options.check_kind(kind, detector.is_zero_shot)
        max_crops = getattr(options, f"max_{kind}_crops")
        found = detector.detect(
            images,
            [of_picture or [] for of_picture in phrases] if ZERO_SHOT[kind] else None,
            threshold=getattr(options, f"{kind}_threshold"),
            iou_threshold=options.iou_threshold,
            max_objects=min(max_crops, max_objects or max_crops),
        )
        return [
            [detected._replace(box=_scaled(detected.box, image.size, full_size(image))) for detected in of_image]
            for image, of_image in zip(images, found, strict=True)
        ]


def _scaled(
    box: Sequence[float], size: tuple[int, int], to_size: tuple[int, int]
) -> tuple[float, float, float, float]:
    """A box in a picture of one size, in the same picture of another size."""
    across, down = (new / old for old, new in zip(size, to_size, strict=True))
    xmin, ymin, xmax, ymax = box
    return xmin * across, ymin * down, xmax * across, ymax * down


def encode_crops(image: Image.Image, boxes: Iterable[Sequence[float]]) -> list[bytes]:
    """
    The part of the picture in each box, as a data set stores it; pixels that a box cuts are whole in the crop. Boxes
    are in pixels of the [`full_size`]. The pipeline takes crops the same way, for a model was trained on such pixels.
    """
    crops = []
    for box in boxes:
        xmin, ymin, xmax, ymax = _scaled(box, full_size(image), image.size)
        corner = (min(math.ceil(xmax), image.width), min(math.ceil(ymax), image.height))
        file = io.BytesIO()
        image.crop((max(math.floor(xmin), 0), max(math.floor(ymin), 0), *corner)).save(file, **JPEG)
        crops.append(file.getvalue())
    return crops
