"""Measure training steps from prepared features, against the published way, which decodes in every step."""

from collections import deque
from collections.abc import Iterable
from typing import Any

import torch
from datasets import Dataset
from torch.utils.data import DataLoader

from .measuring import compare
from .published import PublishedTagger, with_pictures
from .work import Batch, Work, repeated


LEARNING_RATE = 1e-5  # Nothing here depends on it.


def measure_training(work: Work) -> dict[str, Any]:
    baseline, ours, reading = "published way", "IFAformer", "reading prepared features, one process"
    padded, number = work.padded_texts(), len(work.features)
    features = work.features.remove_columns("pixel_values")
    many = repeated(features, work.options.num_tweets)
    bert, model = work.bert_tagger().train(), work.ifaformer(use_whole_image=False).train()
    published = work.placed(PublishedTagger(work)).train()
    # The published code takes torch's AdamW as it is, and the Trainer takes the fused one.
    plain, of_bert, of_model = optimizer(published, None), optimizer(bert, True), optimizer(model, True)
    runs = {
        baseline: (number, lambda: train(published, plain, with_pictures(work, padded))),
        "BertForTokenClassification, texts padded alike": (number, lambda: train(bert, of_bert, padded)),
        ours: (number, lambda: train(model, of_model, read(work, features))),
        reading: (len(many), lambda: deque(read(work, many), maxlen=0)),
    }
    comparison = compare(runs, baseline, work.options.repeats, "tweets")
    rates = {name: comparison["runs"][name]["per_second"]["median"] for name in (ours, reading)}
    return {"comparison": comparison, "reading_times_training": rates[reading] / rates[ours]}


def optimizer(model: torch.nn.Module, fused: bool | None) -> torch.optim.Optimizer:
    return torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE, fused=fused)


def train(model: torch.nn.Module, optimizer: torch.optim.Optimizer, batches: Iterable[Batch]) -> None:
    for batch in batches:
        model(**batch)[0].backward()  # the loss
        optimizer.step()
        optimizer.zero_grad()


def read(work: Work, features: Dataset) -> Iterable[Batch]:
    loader = DataLoader(features, work.options.batch_size, shuffle=True, collate_fn=work.collator)
    return map(work.on_device, loader)
