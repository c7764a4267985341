"""
The published way of DeepKE's multimodal NER (`IFA_model.py`, `modules/train.py` and `modules/dataset.py`).

It opens every picture anew in every epoch and gives it to the image processor by itself. It pads texts to 40 tokens,
attends to absent crops too, runs the vision tower's last layer in full, and decodes the tags row by row in every step.
"""

from collections.abc import Iterator
from io import BytesIO
from typing import Any

import torch
from datasets import Dataset
from PIL import Image
from torch import nn
from torchcrf import CRF
from transformers.models.clip.modeling_clip import CLIPVisionEmbeddings

from modeling_ifaformer import IFAformerModel
from processing import IFAformerProcessor

from .work import NUM_CROPS, Batch, Work


class PublishedTagger(nn.Module):
    """The published model: this project's towers in the `deepke` variant with pytorch-crf on top."""

    def __init__(self, work: Work):
        super().__init__()
        config = work.ifaformer_config(attention_variant="deepke", attn_implementation="eager")
        self.ifaformer = IFAformerModel(config)
        embeddings: Any = self.ifaformer.vision_model.embeddings
        # CLIP's own convolution, where ours is a matrix product.
        embeddings.patch_embedding = CLIPVisionEmbeddings(embeddings.config).patch_embedding
        self.dropout = nn.Dropout(0.1)
        num_labels = len(work.processor.labels)
        self.classifier = nn.Linear(self.ifaformer.text_model.config.hidden_size, num_labels)
        self.crf = CRF(num_labels, batch_first=True)

    def forward(
        self, labels: torch.Tensor | None = None, **inputs: torch.Tensor
    ) -> tuple[torch.Tensor | None, list[list[int]]]:
        # With the hidden states, the last vision layer is not cut short.
        outputs = self.ifaformer(**inputs, output_hidden_states=True)
        emissions = self.classifier(self.dropout(outputs.last_hidden_state)).float()
        mask = inputs["attention_mask"].bool()
        loss = None if labels is None else -self.crf(emissions, labels, mask, reduction="mean")
        return loss, self.crf.decode(emissions, mask)


def open_pictures(rows: Dataset, processor: IFAformerProcessor) -> dict[str, torch.Tensor]:
    """
    Open every picture and call the image processor one by one, for the whole picture too, which is not looked at.

    Returns:
        `aux_pixel_values` (rows, 3, 3, size, size), `rcnn_pixel_values`; zeros for absent crops.
    """
    size = processor.image_processor.crop_size["height"]
    crop_sizes = {"aux": processor.aux_crop_size, "rcnn": processor.rcnn_crop_size}
    crops: dict[str, list[torch.Tensor]] = {kind: [] for kind in crop_sizes}
    for row in rows:
        if row["image"] is not None:
            _pixels(row["image"], size, processor)
        for kind, crop_size in crop_sizes.items():
            stacked = torch.zeros(NUM_CROPS, 3, crop_size, crop_size)
            for number, crop in enumerate(row[f"{kind}_crops"][:NUM_CROPS]):
                stacked[number] = _pixels(crop, crop_size, processor)
            crops[kind].append(stacked)
    return {f"{kind}_pixel_values": torch.stack(stacks) for kind, stacks in crops.items()}


def _pixels(picture: Any, size: int, processor: IFAformerProcessor) -> torch.Tensor:
    with Image.open(BytesIO(picture["bytes"]) if picture["bytes"] else picture["path"]) as opened:
        image = opened.convert("RGB")  # as the published code does, without the checks of ours
    return processor.image_processor(
        image,
        size={"shortest_edge": size},
        crop_size={"height": size, "width": size},
        return_tensors="pt",
    )["pixel_values"][0]


def with_pictures(work: Work, batches: list[Batch]) -> Iterator[Batch]:
    """The batches of the sample with their pictures, which are opened when a batch is asked for."""
    for number, batch in enumerate(batches):
        first = number * work.options.batch_size
        pictures = open_pictures(work.sample.select(range(first, first + len(batch["input_ids"]))), work.processor)
        yield batch | {name: values.to(work.device) for name, values in pictures.items()}
