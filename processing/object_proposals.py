"""
Which crops a picture gives: settings, phrases and detectors, the same for preparing a data set and for the pipeline.

    proposer = ObjectProposer(device="cpu")
    options = ProposalOptions(aux_detector="IDEA-Research/grounding-dino-tiny")
    (objects,) = proposer.propose(options, "aux", [picture], [text], ["PER", "LOC"], max_objects=3)
    crops = [encode_crop(crop) for crop in cut_crops(picture, objects)]
"""

import io
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from PIL import Image

from .columns import CROP_KINDS
from .detectors import DetectedObject, ObjectDetector
from .phrases import (
    FindPhrases,
    phrase_finder,
)


# What a kind's detector must be, by `ObjectDetector.is_zero_shot`.
ZERO_SHOT = {"aux": True, "rcnn": False}

JPEG: dict[str, Any] = {"format": "JPEG", "quality": 95, "subsampling": 0}  # 4:4:4


@dataclass
class ProposalOptions:
    """What to look for, and with which detectors."""

    aux_detector: str | None = field(default=None, metadata={"help": "zero-shot detector, Hub name or folder"})
    rcnn_detector: str | None = field(default=None, metadata={"help": "closed-set detector, Hub name or folder"})
    phrases: list[str] | None = field(default=None, metadata={"help": "phrases to look for in every picture"})
    spacy_model: str | None = field(
        default=None,
        metadata={
            "help": "spaCy model that finds the noun phrases of each text; 'none': phrases from the label set; "
            "default: an installed English one, else the label set",
            "none_is_text": True,
        },
    )
    aux_threshold: float = field(default=0.3, metadata={"help": "aux objects score more"})
    rcnn_threshold: float = field(default=0.5, metadata={"help": "rcnn objects score more"})
    iou_threshold: float = field(default=0.5, metadata={"help": "of two boxes overlapping more, the better one stays"})
    max_aux_crops: int = field(default=3, metadata={"help": "at most so many for a picture"})
    max_rcnn_crops: int = field(default=3, metadata={"help": "at most so many for a picture"})

    option_prefix: ClassVar[str] = ""  # how messages name an option

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
        """
        Raises:
            ValueError: for an option out of range.
        """
        prefix = self.option_prefix
        for name in ("aux_threshold", "rcnn_threshold", "iou_threshold"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{prefix}{name} must be from 0 to 1, got {getattr(self, name)}.")
        for name in ("max_aux_crops", "max_rcnn_crops"):
            if getattr(self, name) < 1:
                raise ValueError(f"{prefix}{name} must be at least 1, got {getattr(self, name)}.")
        if self.phrases is not None and not any(phrase.strip(" .") for phrase in self.phrases):
            raise ValueError(f"{prefix}phrases must name at least one, got {self.phrases}.")

    def check_kind(self, kind: str, is_zero_shot: bool) -> None:
        """
        Raises:
            ValueError: for a zero-shot detector where one of a closed set belongs, or the other way round.
        """
        if is_zero_shot != ZERO_SHOT[kind]:
            expected = "a zero-shot detector (Grounding DINO, OWLv2)" if ZERO_SHOT[kind] else "one of a closed set"
            raise ValueError(
                f"{self.option_prefix}{kind}_detector expects {expected}, got {self.detectors[kind]}: give it as the "
                "other one."
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
        The objects of a kind in each picture, best first, in one forward pass.

        Args:
            detector: the kind's.
            images: RGB.
            phrases: of each picture, looked at only where the detector is a zero-shot one.
            max_objects: fewer than the option says.
        """
        return detector.detect(
            images,
            [of_picture or [] for of_picture in phrases] if ZERO_SHOT[kind] else None,
            threshold=self.threshold(kind),
            iou_threshold=self.iou_threshold,
            max_objects=min(self.max_crops(kind), max_objects or self.max_crops(kind)),
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
        The objects of a kind in each picture, best first, in one forward pass. As any detector's, results depend a
        little on what else is in the batch.

        Args:
            options: with a detector of that kind.
            images: RGB.
            texts: the words of each, joined by one space.
            entity_types: what phrases are made of where the texts give none.
            max_objects: fewer than the options say.

        Raises:
            ValueError: for a detector that is not of its kind, or entity types of which no phrase can be made.
            OSError: for a detector that is not there.
            ImportError: for a spaCy model that is named and not installed.
        """
        detector = self._detector(options, kind)
        phrases: Sequence[list[str] | None] = [None] * len(images)
        if ZERO_SHOT[kind]:
            key = (tuple(options.phrases or ()), options.spacy_model, tuple(entity_types))
            if key not in self._find_phrases:
                _, self._find_phrases[key] = phrase_finder(options.phrases, options.spacy_model, entity_types)
            phrases = self._find_phrases[key](texts)
        return options.detect(detector, kind, images, phrases, max_objects)

    def _detector(self, options: ProposalOptions, kind: str) -> ObjectDetector:
        given = options.detectors[kind]
        detector = given if isinstance(given, ObjectDetector) else self._detectors.get(str(given))
        if detector is None:
            detector = self._detectors[str(given)] = ObjectDetector.from_pretrained(given, device=self.device)
        options.check_kind(kind, detector.is_zero_shot)
        return detector


def encode_crop(crop: Image.Image) -> bytes:
    """A crop as data sets store it. The pipeline takes crops the same way, for a model was trained on such pixels."""
    file = io.BytesIO()
    crop.save(file, **JPEG)
    return file.getvalue()
