"""What is measured on: tweets with pictures, their batches, and towers of full size with random weights."""

import tempfile
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import torch
from datasets import Dataset, concatenate_datasets
from transformers import AutoTokenizer, BertConfig, CLIPImageProcessorPil, CLIPVisionConfig

from modeling_ifaformer import IFAformerConfig, IFAformerForTokenClassification
from processing import IFAformerProcessor
from processing.collator import IFAformerDataCollator
from processing.columns import PICTURE_COLUMNS
from processing.features.prepare import prepare_features
from processing.features.tokenizer_training import train_wordpiece
from processing.labels import label_maps


PUBLISHED_LENGTH = 40  # The published code cuts and pads texts to it.
NUM_CROPS = 3  # The published code takes this number of each kind.
WHOLE_IMAGE = ("pixel_values", "image_mask")


@dataclass
class Work:
    """
    Args:
        rows: texts with their pictures.
        source: options with which a command loads the data set they are from.
        tokenizer: Hub name or folder; None for one learnt from the texts.
        text_config, vision_config: of the towers, instead of BERT-base and CLIP ViT-B/32.
        batch_size: tweets a batch.
        num_batches: that a run of a model takes.
        num_tweets: rows that are prepared and read.
        baseline_tweets: rows of which the slow baseline of the data opens the pictures.
        max_rows: up to which the growth with the rows is measured.
        repeats: rounds of each comparison.
        device, dtype: of the models.
    """

    rows: Dataset
    source: dict[str, str]
    tokenizer: str | None
    text_config: dict[str, Any]
    vision_config: dict[str, Any]
    batch_size: int
    num_batches: int
    num_tweets: int
    baseline_tweets: int
    max_rows: int
    repeats: int
    device: str
    dtype: torch.dtype
    _folder: tempfile.TemporaryDirectory = field(default_factory=tempfile.TemporaryDirectory)

    @cached_property
    def processor(self) -> IFAformerProcessor:
        words = (word for tokens in self.rows["tokens"] for word in tokens)
        learnt = self.tokenizer is None
        tokenizer = train_wordpiece(words) if learnt else AutoTokenizer.from_pretrained(self.tokenizer)
        return IFAformerProcessor(CLIPImageProcessorPil(), tokenizer)

    @cached_property
    def sample(self) -> Dataset:
        """As many rows as the models take, chosen at random."""
        number = self.batch_size * self.num_batches
        shuffled = self.rows.shuffle(seed=0)
        return shuffled.select([index % len(shuffled) for index in range(number)])

    @cached_property
    def features(self) -> Dataset:
        """The features of the sample, with whole pictures."""
        return prepare_features(self.sample, self.processor, self._folder.name)

    @property
    def collator(self) -> IFAformerDataCollator:
        """A collator that leaves pixels as they are, for [`on_device`]."""
        return replace(self.processor.data_collator, normalize_pixels=False)

    def batches(self, order: list[int] | None = None, whole_image: bool = False, **collator: Any) -> list[dict]:
        """The sample's batches on the device, in the given order. The published code has no whole pictures in them."""
        features = self.features if order is None else self.features.select(order)
        collate = replace(self.collator, **collator)
        batches = []
        for start in range(0, len(features), self.batch_size):
            batch = collate([features[index] for index in range(start, min(start + self.batch_size, len(features)))])
            if not whole_image:
                batch = {name: values for name, values in batch.items() if name not in WHOLE_IMAGE}
            batches.append(self.on_device(batch))
        return batches

    def on_device(self, batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        batch = {name: values.to(self.device, non_blocking=True) for name, values in batch.items()}
        return self.processor.normalize_pixels(batch)

    def bert_config(self, **kwargs: Any) -> BertConfig:
        vocab_size = max(BertConfig().vocab_size, len(self.processor.tokenizer))
        return BertConfig(**{"vocab_size": vocab_size, **self.text_config, **kwargs})

    def ifaformer_config(self, **kwargs: Any) -> IFAformerConfig:
        return IFAformerConfig(
            text_config=self.bert_config(), vision_config=CLIPVisionConfig(**self.vision_config), **kwargs
        )

    def ifaformer(self, **kwargs: Any) -> IFAformerForTokenClassification:
        labels = label_maps(self.processor.labels)
        return self.placed(IFAformerForTokenClassification(self.ifaformer_config(**{**labels, **kwargs})))

    def placed(self, model: torch.nn.Module) -> Any:
        """The model on the device in evaluation mode, with weights of the number type that was asked for."""
        return model.to(self.device, self.dtype).eval()


def lend_pictures(texts: Dataset, lenders: Dataset) -> Dataset:
    """The texts with the pictures and crops of the lenders' rows, which repeat. Some rows of the lenders have none."""
    pictures = lenders.select_columns(list(PICTURE_COLUMNS))
    lent = pictures.select([index % len(pictures) for index in range(len(texts))])
    return concatenate_datasets([texts.remove_columns(list(PICTURE_COLUMNS)), lent], axis=1)


def text_only(batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The inputs of a batch that a text model takes."""
    return {name: batch[name] for name in ("input_ids", "attention_mask", "token_type_ids")}


def cut(batch: dict[str, torch.Tensor], length: int) -> dict[str, torch.Tensor]:
    """A batch with texts cut and padded as in the published code. `labels` are 0 where there are none."""
    names = ("input_ids", "attention_mask", "token_type_ids", "labels")
    cut = {name: torch.nn.functional.pad(batch[name], (0, length))[:, :length] for name in names if name in batch}
    if "labels" in cut:
        cut["labels"] = cut["labels"].clamp(min=0)
    return {**batch, **cut}
