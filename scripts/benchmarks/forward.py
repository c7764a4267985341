"""Measure forward passes against one of the text tower alone, and the share of the machine's peak that they reach."""

from functools import partial
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode
from transformers import BertModel

from processing.features.batch_order import largest_first

from .measuring import TimedCall, compare, matrix_product
from .published import PublishedTagger, with_pictures
from .work import PUBLISHED_LENGTH, Work, run_batches, without_labels


def measure_forward(work: Work) -> dict[str, Any]:
    baseline = f"BertModel, texts padded to {PUBLISHED_LENGTH}"
    batches, padded = without_labels(work.batches()), without_labels(work.padded_texts())
    # The baseline reads all 40 tokens.
    padded_in_full = [{**batch, "attention_mask": torch.ones_like(batch["attention_mask"])} for batch in padded]
    model = work.ifaformer(use_whole_image=False)
    by_size = without_labels(work.batches(largest_first(work.features.remove_columns("pixel_values"))))
    passes = {
        baseline: (work.placed(BertModel(work.bert_config())), padded_in_full),
        "BertForTokenClassification, the same texts padded alike": (work.bert_tagger(), padded_in_full),
        "published way": (work.placed(PublishedTagger(work)), list(with_pictures(work, padded))),
        "IFAformer": (model, batches),
        "IFAformer, tweets of similar size side by side": (model, by_size),
        "IFAformer, whole pictures too": (work.ifaformer(), without_labels(work.batches(whole_image=True))),
    }
    number = len(work.sample)
    runs = {name: (number, partial(run_batches, *of_model)) for name, of_model in passes.items()}
    with FlopCounterMode(display=False) as operations:
        run_batches(model, by_size)
    product = "matrix product of 2048"
    products: dict[str, TimedCall] = {
        product: matrix_product(work.device, work.dtype),
        "IFAformer": (operations.get_total_flops(), partial(run_batches, model, by_size)),
    }
    repeats = work.options.repeats
    return {
        "tokens_a_text": sum(int(batch["attention_mask"].sum()) for batch in batches) / number,
        "crops_a_tweet": {
            kind: sum(int(batch[f"{kind}_crop_mask"].sum()) for batch in batches if f"{kind}_crop_mask" in batch)
            / number
            for kind in ("aux", "rcnn")
        },
        "comparison": compare(runs, baseline, repeats, "tweets"),
        "share_of_peak": compare(products, product, repeats, "operations"),
    }
