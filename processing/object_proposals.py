"""
Object proposals: detectors, the phrases that they look for, and which crops of a picture what they find gives, the
same for preparing a data set and for the pipeline.

    proposer, options = ObjectProposer(device="cpu"), ProposalOptions(aux_detector="IDEA-Research/grounding-dino-tiny")
    phrases = proposer.phrases(options, [text], ["PER", "LOC"])
    (objects,) = proposer.propose(options, "aux", [picture], phrases, max_objects=3)
    crops = encode_crops(picture, [found.box for found in objects])

torch and transformers are imported where a detector is used: nothing else here needs them.
"""

import importlib
import inspect
import io
import math
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from .columns import CROP_KINDS
from .images import full_size
from .problems import check_at_least_one


# Boxes with a shorter side are specks: nothing is seen in so few pixels.
MIN_BOX_SIDE = 4

# A picture that is longer is filled up for the detector: processors scale the long side down to some 1,000 pixels,
# and would leave nothing, or too little to tell sides from channels, of the short one.
MAX_ASPECT = 10
MAX_FILLED_SIDE = 20_000  # A longer one would fill the memory, and nothing is seen in it once it is scaled down.

# The two families of zero-shot detectors, by model type. The first reads a picture's phrases as one text, the second
# each phrase as a text of its own.
GROUNDING_DINO = ("grounding-dino", "mm-grounding-dino")
OWL = ("owlvit", "owlv2")

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


class DetectedObject(NamedTuple):
    """What a detector found in a picture; `box` is (xmin, ymin, xmax, ymax) in pixels of the picture, within it."""

    label: str
    score: float | None  # None where it was not found, but drawn, as in the demo
    box: tuple[float, float, float, float]


class ObjectDetector:
    """
    A detector of transformers with its processor: zero-shot (Grounding DINO, MM Grounding DINO, OWL-ViT, OWLv2), which
    looks for phrases, or of a closed set (DETR, RT-DETR and all that `AutoModelForObjectDetection` loads).
    """

    def __init__(self, model: Any, processor: Any) -> None:
        self.model = model.eval()
        self.processor = processor

    @classmethod
    def from_pretrained(cls, name_or_path: str | os.PathLike, device: Any = None, **kwargs: Any) -> "ObjectDetector":
        """
        Args:
            name_or_path: checkpoint on the Hub or folder.
            device: cuda where there is one, else cpu, if None.
            **kwargs: for the model's `from_pretrained` (`dtype`, ...).

        Raises:
            ValueError: for a checkpoint that is no detector, or one of a family that is not supported.
            OSError: for a checkpoint that is not there.
        """
        import torch
        from transformers import (
            AutoImageProcessor,
            AutoModelForObjectDetection,
            AutoModelForZeroShotObjectDetection,
            AutoProcessor,
        )

        model: Any
        if is_zero_shot_checkpoint(name_or_path):
            model = AutoModelForZeroShotObjectDetection.from_pretrained(name_or_path, **kwargs)
            processor = AutoProcessor.from_pretrained(name_or_path)
        else:
            model = AutoModelForObjectDetection.from_pretrained(name_or_path, **kwargs)
            processor = AutoImageProcessor.from_pretrained(name_or_path)
        if device is None:
            device = "cuda" if torch.cuda.is_available() else "cpu"
        return cls(model.to(device), processor)

    @property
    def is_zero_shot(self) -> bool:
        """Whether it looks for phrases that it is given."""
        return self.model.config.model_type in GROUNDING_DINO + OWL

    def detect(
        self,
        images: Sequence[Image.Image],
        phrases: Sequence[Sequence[str]] | None = None,
        threshold: float = 0.3,
        iou_threshold: float = 0.5,
        max_objects: int = 3,
    ) -> list[list[DetectedObject]]:
        """
        The objects of each picture, best first, in one forward pass.

        Args:
            images: RGB.
            phrases: what to look for in each picture, at least one phrase; None for a closed-set detector.
            threshold: objects score more.
            iou_threshold: of two boxes that overlap more than this, as intersection over union, the better one stays,
                whatever their labels: both would give the same crop.
            max_objects: at most so many for a picture.

        Raises:
            ValueError: for phrases that are missing, empty, or given to a closed-set detector.
        """
        if self.is_zero_shot:
            if phrases is None or len(phrases) != len(images):
                got = "None" if phrases is None else f"{len(phrases)} lists"
                raise ValueError(f"Expected a list of phrases for each of {len(images)} pictures, got {got}.")
            phrases = [[plain for phrase in texts if (plain := plain_phrase(phrase))] for texts in phrases]
            if not all(phrases):
                raise ValueError(f"Picture {phrases.index([])} comes without a phrase to look for: give at least one.")
        elif phrases is not None:
            raise ValueError(f"{type(self.model).__name__} has a closed set of labels and takes no phrases.")

        # A picture too small or too thin for any box is not shown to the model. (Processors also take a side of 1 or 3
        # pixels for the colour channels.)
        large = [index for index, image in enumerate(images) if _is_shown(image)]
        found: list[list[DetectedObject]] = [[] for _ in images]
        if not large:
            return found
        shown = [_filled_up(images[index]) for index in large]
        texts = [phrases[index] for index in large] if phrases is not None else None
        import torch

        with torch.inference_mode():
            results = self._phrase_results(shown, texts, threshold) if texts else self._label_results(shown, threshold)
        for index, (labels, result) in zip(large, results, strict=True):
            scores, boxes = result["scores"].cpu().numpy(), result["boxes"].cpu().numpy()
            boxes = np.clip(boxes.reshape(-1, 4), 0, images[index].size * 2)
            # A comparison with a box or score that is not a number is false, so it goes too.
            usable = np.flatnonzero(((boxes[:, 2:] - boxes[:, :2]) >= MIN_BOX_SIDE).all(axis=1) & (scores >= 0))
            best = usable[non_maximum_suppression(boxes[usable], scores[usable], iou_threshold, max_objects)]
            found[index] = [DetectedObject(labels[i], float(scores[i]), tuple(boxes[i].tolist())) for i in best]
        return found

    def _phrase_results(self, images, phrases, threshold) -> list[tuple[list[str], dict[str, Any]]]:
        config, tokenizer = self.model.config, self.processor.tokenizer
        if config.model_type in OWL:
            text_kwargs = {"padding": "max_length", "max_length": config.text_config.max_position_embeddings}
        else:
            text_kwargs = {"padding": True, "max_length": min(config.max_text_len, tokenizer.model_max_length)}
        inputs = self.processor(images=images, text=phrases, truncation=True, return_tensors="pt", **text_kwargs)
        outputs = self._forward(inputs)
        target_sizes = [(image.height, image.width) for image in images]
        if config.model_type in OWL:
            # The processor fills short lists up with blank phrases, which the model would go on to find.
            for logits, texts in zip(outputs.logits, phrases, strict=True):  # (num_boxes, num_phrases)
                logits[:, len(texts) :] = -math.inf
            results = self.processor.post_process_grounded_object_detection(
                outputs, threshold=threshold, target_sizes=target_sizes, text_labels=phrases
            )
        else:
            results = self.processor.post_process_grounded_object_detection(
                outputs, inputs["input_ids"], threshold=threshold, target_sizes=target_sizes
            )
            # Its labels are loose tokens, often of several phrases. An object is of the phrase that gives its score.
            stop = tokenizer.convert_tokens_to_ids(".")
            for result, logits, input_ids, texts in zip(
                results, outputs.logits, inputs["input_ids"], phrases, strict=True
            ):
                scores, positions = logits.sigmoid().max(dim=-1)  # (num_boxes,)
                phrase_of = (input_ids == stop).cumsum(0) - (input_ids == stop).int()  # (seq_length,), 0 for the first
                of_boxes = phrase_of[positions[scores > threshold].to(phrase_of.device)]
                result["text_labels"] = [texts[index] for index in of_boxes.clamp(max=len(texts) - 1).tolist()]
        return [(result["text_labels"], result) for result in results]

    def _label_results(self, images, threshold) -> list[tuple[list[str], dict[str, Any]]]:
        outputs = self._forward(self.processor(images=images, return_tensors="pt"))
        post_process = self.processor.post_process_object_detection
        kwargs: dict[str, Any] = {"target_sizes": [(image.height, image.width) for image in images]}
        if "use_focal_loss" in inspect.signature(post_process).parameters:  # RT-DETR: sigmoid scores, or softmax
            kwargs["use_focal_loss"] = getattr(self.model.config, "use_focal_loss", True)
        id2label = self.model.config.id2label
        return [
            ([id2label.get(label, str(label)) for label in result["labels"].tolist()], result)
            for result in post_process(outputs, threshold=threshold, **kwargs)
        ]

    def _forward(self, inputs):
        outputs = self.model(**inputs.to(device=self.model.device, dtype=self.model.dtype))
        outputs.logits, outputs.pred_boxes = outputs.logits.float(), outputs.pred_boxes.float()
        return outputs


def non_maximum_suppression(
    boxes: np.ndarray, scores: np.ndarray, iou_threshold: float, max_boxes: int | None = None
) -> list[int]:
    """
    Indices of the boxes (num_boxes, 4), as (xmin, ymin, xmax, ymax), that no better kept box overlaps by more than
    `iou_threshold`, at most `max_boxes`, best first; of equal scores (num_boxes,) the first comes first.
    """
    left = np.argsort(-scores, kind="stable")
    areas = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    kept: list[int] = []
    while len(left) and (max_boxes is None or len(kept) < max_boxes):
        best, left = left[0], left[1:]
        kept.append(int(best))
        sides = np.minimum(boxes[best, 2:], boxes[left, 2:]) - np.maximum(boxes[best, :2], boxes[left, :2])
        intersections = sides.clip(min=0).prod(axis=1)
        left = left[intersections <= iou_threshold * (areas[best] + areas[left] - intersections)]
    return kept


def is_zero_shot_checkpoint(name_or_path: str | os.PathLike) -> bool:
    """
    Whether the checkpoint is a zero-shot detector and not one of a closed set, by its configuration alone. One that is
    neither, or of a family that is not supported, is a ValueError; one that is not there an OSError.
    """
    from transformers import MODEL_FOR_OBJECT_DETECTION_MAPPING, AutoConfig

    config = AutoConfig.from_pretrained(name_or_path)
    if config.model_type in GROUNDING_DINO + OWL:
        return True
    if type(config) in MODEL_FOR_OBJECT_DETECTION_MAPPING:
        return False
    raise ValueError(
        f"{name_or_path}: expected a zero-shot detector (model type {', '.join(GROUNDING_DINO + OWL)}) or one that "
        f"AutoModelForObjectDetection loads (detr, rt_detr, ...), got model type {config.model_type!r}."
    )


def _is_shown(image: Image.Image) -> bool:
    shortest, longest = sorted(image.size)
    return shortest >= MIN_BOX_SIDE and longest <= max(MAX_FILLED_SIDE, MAX_ASPECT * shortest)


def _filled_up(image: Image.Image) -> Image.Image:
    """The picture, with black to its right or below where it is longer than `MAX_ASPECT`: boxes hold for both."""
    shortest = math.ceil(max(image.size) / MAX_ASPECT)
    if min(image.size) >= shortest:
        return image
    filled = Image.new("RGB", (max(image.width, shortest), max(image.height, shortest)))
    filled.paste(image, (0, 0))
    return filled


def plain_phrase(phrase: str) -> str:
    """Lower case, without the full stops that part phrases in Grounding DINO's text, blanks as one space."""
    return " ".join(phrase.lower().replace(".", " ").split())


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
        if self.phrases is not None and not any(map(plain_phrase, self.phrases)):
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

    def __init__(self, device: Any = None) -> None:
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

    def detector(self, options: ProposalOptions, kind: str) -> ObjectDetector:
        """
        The detector of a kind, loaded where it is not yet; raises as [`propose`], with the name of the option.
        """
        given = options.detectors[kind]
        detector = given if isinstance(given, ObjectDetector) else self._detectors.get(str(given))
        if detector is None:
            try:
                detector = self._detectors[str(given)] = ObjectDetector.from_pretrained(given, device=self.device)
            except (ImportError, OSError) as error:
                reason = " ".join(str(error).split())
                raise type(error)(f"{kind}_detector {given} does not load: {reason}") from error
        options.check_kind(kind, detector.is_zero_shot)
        return detector

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
        detector = self.detector(options, kind)
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
