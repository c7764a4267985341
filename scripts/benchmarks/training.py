"""Measure training steps from prepared features, against the published way, which decodes in every step."""

from functools import partial
from typing import Any

import torch
from datasets import Dataset
from torch.utils.data import DataLoader
from transformers import BertForTokenClassification

from .measuring import Run, compare
from .published import PublishedTagger, published_batches, with_pictures
from .work import PUBLISHED_LENGTH, Work, cut, text_only


LEARNING_RATE = 1e-5  # Nothing here depends on it.


def measure_training(work: Work) -> dict[str, Any]:
    baseline, ours, reading = "published way", "IFAformer", "reading prepared features, one process"
    num_labels, number = len(work.processor.labels), len(work.features)
    bert = work.placed(BertForTokenClassification(work.bert_config(num_labels=num_labels))).train()
    padded = []
    for batch in work.batches():
        batch = cut(batch, PUBLISHED_LENGTH)
        padded.append({**text_only(batch), "labels": batch["labels"]})
    published, model = work.placed(PublishedTagger(work)).train(), work.ifaformer(use_whole_image=False).train()
    without_pictures = work.features.remove_columns("pixel_values")
    many = without_pictures.select([index % number for index in range(work.num_tweets)])
    # The published code takes torch's AdamW as it is, and the Trainer takes the fused one.
    runs = {
        baseline: Run(
            number, partial(train_as_published, work, published, optimizer(published, None), published_batches(work))
        ),
        "BertForTokenClassification, texts padded alike": Run(
            number, partial(train_text, bert, optimizer(bert), padded)
        ),
        ours: Run(number, partial(train, work, model, optimizer(model), without_pictures)),
        reading: Run(len(many), partial(read, work, many)),
    }
    comparison = compare(runs, baseline, work.repeats, "tweets")
    rates = {name: comparison["runs"][name]["per_second"]["median"] for name in (ours, reading)}
    return {"comparison": comparison, "reading_times_training": rates[reading] / rates[ours]}


def optimizer(model: torch.nn.Module, fused: bool | None = True) -> torch.optim.Optimizer:
    return torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE, fused=fused)


def step(loss: torch.Tensor, optimizer: torch.optim.Optimizer) -> None:
    loss.backward()
    optimizer.step()
    optimizer.zero_grad()


def train_as_published(
    work: Work,
    model: torch.nn.Module,
    optimizer: torch.optim.Optimizer,
    batches: list[dict[str, torch.Tensor]],
) -> None:
    for batch in with_pictures(work, batches):
        loss, _ = model(**batch)
        step(loss, optimizer)


def train_text(
    model: torch.nn.Module, optimizer: torch.optim.Optimizer, batches: list[dict[str, torch.Tensor]]
) -> None:
    for batch in batches:
        step(model(**batch).loss, optimizer)


def train(work: Work, model: torch.nn.Module, optimizer: torch.optim.Optimizer, features: Dataset) -> None:
    for batch in loader(work, features):
        step(model(**work.on_device(batch)).loss, optimizer)


def read(work: Work, features: Dataset) -> None:
    for batch in loader(work, features):
        work.on_device(batch)


def loader(work: Work, features: Dataset) -> DataLoader:
    return DataLoader(features, work.batch_size, shuffle=True, collate_fn=work.collator)
