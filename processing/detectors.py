"""
Object proposals: a picture, and for a zero-shot detector phrases to look for -> objects.

    detector = ObjectDetector.from_pretrained("IDEA-Research/grounding-dino-tiny")
    (objects,) = detector.detect([picture], [label_phrases(["PER", "ORG"])])
"""

import inspect
import math
import os
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image
from transformers import (
    MODEL_FOR_OBJECT_DETECTION_MAPPING,
    AutoConfig,
    AutoImageProcessor,
    AutoModelForObjectDetection,
    AutoModelForZeroShotObjectDetection,
    AutoProcessor,
)


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
    def from_pretrained(
        cls, name_or_path: str | os.PathLike, device: str | torch.device | None = None, **kwargs: Any
    ) -> "ObjectDetector":
        """
        Args:
            name_or_path: checkpoint on the Hub or folder.
            device: cuda where there is one, else cpu, if None.
            **kwargs: for the model's `from_pretrained` (`dtype`, ...).

        Raises:
            ValueError: for a checkpoint that is no detector, or one of a family that is not supported.
            OSError: for a checkpoint that is not there.
        """
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

    @torch.inference_mode()
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
