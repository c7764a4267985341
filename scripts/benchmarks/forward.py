"""Measure forward passes against one of the text tower alone, and the share of the machine's peak that they reach."""

from functools import partial
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode
from transformers import BertForTokenClassification, BertModel

from processing.features.batch_order import largest_first

from .measuring import Run, compare, matrix_product
from .published import PublishedTagger, published_batches, with_pictures
from .work import PUBLISHED_LENGTH, Work, cut, text_only


def measure_forward(work: Work) -> dict[str, Any]:
    baseline = f"BertModel, texts padded to {PUBLISHED_LENGTH}"
    batches = work.batches()
    number = sum(len(batch["input_ids"]) for batch in batches)
    padded = [text_only(cut(batch, PUBLISHED_LENGTH)) for batch in batches]
    for batch in padded:
        batch["attention_mask"] = torch.ones_like(batch["attention_mask"])  # The baseline reads all 40 tokens.
    published = list(with_pictures(work, without_labels(published_batches(work))))
    model, whole = work.ifaformer(use_whole_image=False), work.ifaformer()
    by_size = work.batches(largest_first(work.features.remove_columns("pixel_values")))
    bert = work.placed(BertModel(work.bert_config()))
    num_labels = len(work.processor.labels)
    calls = {
        baseline: partial(run_batches, bert, padded),
        "BertForTokenClassification, the same texts padded alike": partial(
            run_batches, work.placed(BertForTokenClassification(work.bert_config(num_labels=num_labels))), padded
        ),
        "published way": partial(run_batches, work.placed(PublishedTagger(work)), published),
        "IFAformer": partial(run_batches, model, without_labels(batches)),
        "IFAformer, tweets of similar size side by side": partial(run_batches, model, without_labels(by_size)),
        "IFAformer, whole pictures too": partial(run_batches, whole, without_labels(work.batches(whole_image=True))),
    }
    runs = {name: Run(number, call) for name, call in calls.items()}
    tokens = sum(int(batch["attention_mask"].sum()) for batch in batches)
    return {
        "tokens_a_text": tokens / number,
        "crops_a_tweet": {
            kind: sum(int(batch[f"{kind}_crop_mask"].sum()) for batch in batches if f"{kind}_crop_mask" in batch)
            / number
            for kind in ("aux", "rcnn")
        },
        "comparison": compare(runs, baseline, work.repeats, "tweets", cost=True),
        "share_of_peak": share_of_peak(work, model, without_labels(by_size)),
    }


def share_of_peak(work: Work, model: torch.nn.Module, batches: list[dict[str, torch.Tensor]]) -> dict[str, Any]:
    """Compare the operations a second in a forward pass's matrix products with those of a matrix product by itself."""
    with FlopCounterMode(display=False) as counter:
        run_batches(model, batches)
    baseline = "matrix product of 2048"
    runs = {
        baseline: matrix_product(work.device, work.dtype),
        "IFAformer": Run(counter.get_total_flops(), partial(run_batches, model, batches)),
    }
    return compare(runs, baseline, work.repeats, "operations")


@torch.inference_mode()
def run_batches(model: torch.nn.Module, batches: list[dict[str, torch.Tensor]]) -> None:
    for batch in batches:
        model(**batch)


def without_labels(batches: list[dict[str, torch.Tensor]]) -> list[dict[str, torch.Tensor]]:
    return [{name: values for name, values in batch.items() if name != "labels"} for batch in batches]
