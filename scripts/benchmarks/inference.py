"""Measure tweets a second from prepared features to tags, against the published way from rows to tags."""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from datasets import Dataset
from torch.utils.data import DataLoader
from transformers import BertForTokenClassification

from processing.features.batch_order import largest_first

from .forward import run_batches, without_labels
from .measuring import Run, compare
from .published import PublishedTagger, published_batches, with_pictures
from .work import PUBLISHED_LENGTH, Work, cut, text_only


def measure_inference(work: Work) -> dict[str, Any]:
    baseline = "published way"
    num_labels = len(work.processor.labels)
    bert = work.placed(BertForTokenClassification(work.bert_config(num_labels=num_labels)))
    padded = [text_only(cut(batch, PUBLISHED_LENGTH)) for batch in work.batches()]
    without_pictures = work.features.remove_columns("pixel_values")
    model = work.ifaformer(use_whole_image=False)
    by_size = without_pictures.select(largest_first(without_pictures))
    whole_by_size = work.features.select(largest_first(work.features))
    calls: dict[str, Callable[[], Any]] = {
        baseline: partial(tag_as_published, work, work.placed(PublishedTagger(work)), published_batches(work)),
        "BertForTokenClassification, texts padded alike": partial(run_batches, bert, padded),
        "IFAformer": partial(tag, work, model, without_pictures),
        "IFAformer, tweets of similar size side by side": partial(tag, work, model, by_size),
        "IFAformer, the same, whole pictures too": partial(tag, work, work.ifaformer(), whole_by_size),
    }
    runs = {name: Run(len(work.features), call) for name, call in calls.items()}
    return {"comparison": compare(runs, baseline, work.repeats, "tweets")}


@torch.inference_mode()
def tag_as_published(work: Work, model: torch.nn.Module, batches: list[dict[str, torch.Tensor]]) -> None:
    for batch in with_pictures(work, without_labels(batches)):
        model(**batch)


@torch.inference_mode()
def tag(work: Work, model: torch.nn.Module, features: Dataset) -> list[torch.Tensor]:
    loader = DataLoader(features, work.batch_size, collate_fn=work.collator)
    return [model(**batch).tag_ids.cpu() for batch in without_labels([work.on_device(batch) for batch in loader])]
