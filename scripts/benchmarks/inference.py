"""Measure tweets a second from prepared features to tags, against the published way from rows to tags."""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from datasets import Dataset
from torch.utils.data import DataLoader

from processing.features.batch_order import largest_first

from .measuring import compare
from .published import PublishedTagger, with_pictures
from .work import Batch, Work, run_batches, without_labels


def measure_inference(work: Work) -> dict[str, Any]:
    baseline = "published way"
    padded = without_labels(work.padded_texts())
    without_pictures = work.features.remove_columns("pixel_values")
    model = work.ifaformer(use_whole_image=False)
    by_size = without_pictures.select(largest_first(without_pictures))
    whole_by_size = work.features.select(largest_first(work.features))
    calls: dict[str, Callable[[], Any]] = {
        baseline: partial(tag_as_published, work, work.placed(PublishedTagger(work)), padded),
        "BertForTokenClassification, texts padded alike": partial(run_batches, work.bert_tagger(), padded),
        "IFAformer": partial(tag, work, model, without_pictures),
        "IFAformer, tweets of similar size side by side": partial(tag, work, model, by_size),
        "IFAformer, the same, whole pictures too": partial(tag, work, work.ifaformer(), whole_by_size),
    }
    runs = {name: (len(work.features), call) for name, call in calls.items()}
    return {"comparison": compare(runs, baseline, work.options.repeats, "tweets")}


@torch.inference_mode()
def tag_as_published(work: Work, model: torch.nn.Module, batches: list[Batch]) -> None:
    for batch in with_pictures(work, batches):
        model(**batch)


@torch.inference_mode()
def tag(work: Work, model: torch.nn.Module, features: Dataset) -> list[torch.Tensor]:
    loader = DataLoader(features, work.options.batch_size, collate_fn=work.collator)
    return [model(**batch).tag_ids.cpu() for batch in without_labels([work.on_device(batch) for batch in loader])]
