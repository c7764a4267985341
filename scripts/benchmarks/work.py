"""What is measured on: tweets with pictures, their batches, and towers of full size with random weights."""

import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import torch
from datasets import Dataset, concatenate_datasets
from torch.utils.data import DataLoader
from transformers import AutoTokenizer, BertConfig, BertForTokenClassification, CLIPImageProcessorPil, CLIPVisionConfig

from modeling_ifaformer import IFAformerConfig, IFAformerForTokenClassification
from processing import IFAformerProcessor
from processing.columns import PICTURE_COLUMNS
from processing.features.batch_order import largest_first
from processing.features.prepare import prepare_features
from processing.features.tokenizer_training import train_wordpiece
from processing.labels import label_maps


if TYPE_CHECKING:
    from ifaformer_commands.benchmark import BenchmarkArguments


PUBLISHED_LENGTH = 40  # The published code cuts and pads texts to it.
NUM_CROPS = 3  # The published code takes this number of each kind.

Batch = dict[str, torch.Tensor]


class Work:
    """
    The sample of rows that models take, and the models.

    Args:
        options: of the command.
        rows: texts with their pictures.
    """

    def __init__(self, options: "BenchmarkArguments", rows: Dataset):
        self.options = options
        self.rows = rows
        self.device = options.device
        self.dtype = getattr(torch, options.dtype or ("float32" if options.device == "cpu" else "bfloat16"))
        self._folder = tempfile.TemporaryDirectory()
        self.folder = self._folder.name

    @cached_property
    def processor(self) -> IFAformerProcessor:
        name = self.options.tokenizer
        words = (word for tokens in self.rows["tokens"] for word in tokens)
        tokenizer = train_wordpiece(words) if name is None else AutoTokenizer.from_pretrained(name)
        return IFAformerProcessor(CLIPImageProcessorPil(), tokenizer)

    @cached_property
    def sample(self) -> Dataset:
        """As many rows as the models take, chosen at random."""
        return repeated(self.rows.shuffle(seed=0), self.options.batch_size * self.options.num_batches)

    @cached_property
    def whole_features(self) -> Dataset:
        """The features of the sample, with whole pictures."""
        return prepare_features(self.sample, self.processor, self.folder)

    @cached_property
    def features(self) -> Dataset:
        """The features of the sample without whole pictures, which the published code never looks at."""
        return self.whole_features.remove_columns("pixel_values")

    def loader(self, features: Dataset, **options: Any) -> DataLoader:
        """Batches of features, whose pixels are left as they are for [`on_device`]."""
        collator = replace(self.processor.data_collator, normalize_pixels=False)
        return DataLoader(features, self.options.batch_size, collate_fn=collator, **options)

    def read(self, features: Dataset, **options: Any) -> Iterator[Batch]:
        return map(self.on_device, self.loader(features, **options))

    def batches(self, features: Dataset | None = None) -> list[Batch]:
        """Batches on the device, those of the sample without whole pictures if left out."""
        return list(self.read(self.features if features is None else features))

    def padded_texts(self) -> list[Batch]:
        """The texts of the batches, cut and padded as in the published code. `labels` are 0 where there are none."""
        names = ("input_ids", "attention_mask", "token_type_ids", "labels")
        return [
            {
                name: torch.nn.functional.pad(batch[name], (0, PUBLISHED_LENGTH))[:, :PUBLISHED_LENGTH].clamp(min=0)
                for name in names
            }
            for batch in self.batches()
        ]

    def on_device(self, batch: Batch) -> Batch:
        batch = {name: values.to(self.device, non_blocking=True) for name, values in batch.items()}
        return self.processor.data_collator.normalized(batch)

    def bert_config(self, **fields: Any) -> BertConfig:
        vocab_size = max(BertConfig().vocab_size, len(self.processor.tokenizer))
        return BertConfig(**{"vocab_size": vocab_size, **(self.options.text_config or {}), **fields})

    def bert_tagger(self) -> BertForTokenClassification:
        return self.placed(BertForTokenClassification(self.bert_config(num_labels=len(self.processor.labels))))

    def ifaformer_config(self, **fields: Any) -> IFAformerConfig:
        vision_config = CLIPVisionConfig(**(self.options.vision_config or {}))
        labels: dict[str, Any] = label_maps(self.processor.labels)
        return IFAformerConfig(text_config=self.bert_config(), vision_config=vision_config, **labels, **fields)

    def ifaformer(self, **fields: Any) -> IFAformerForTokenClassification:
        return self.placed(IFAformerForTokenClassification(self.ifaformer_config(**fields)))

    def placed(self, model: torch.nn.Module) -> Any:
        """The model on the device in evaluation mode, with weights of the number type that was asked for."""
        return model.to(self.device, self.dtype).eval()


def repeated(rows: Dataset, number: int) -> Dataset:
    """So many rows, which repeat if there are fewer."""
    return rows.select([index % len(rows) for index in range(number)])


def lend_pictures(texts: Dataset, lenders: Dataset) -> Dataset:
    """The texts with the pictures and crops of the lenders' rows, which repeat. Some rows of the lenders have none."""
    lent = repeated(lenders.select_columns(list(PICTURE_COLUMNS)), len(texts))
    return concatenate_datasets([texts.remove_columns(list(PICTURE_COLUMNS)), lent], axis=1)


def by_size(features: Dataset) -> Dataset:
    """Features with tweets of similar size side by side."""
    return features.select(largest_first(features))


@torch.inference_mode()
def run_batches(model: torch.nn.Module, batches: Iterable[Batch]) -> None:
    """Forward passes without a loss."""
    for batch in batches:
        model(**{name: values for name, values in batch.items() if name != "labels"})
