"""Measure the models: forward passes, tagging and training steps, and the CRF alone."""

from collections import deque
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode
from torchcrf import CRF
from transformers import BertModel

from modeling_ifaformer.crf import LinearChainCRF

from .measuring import Call, compare, matrix_product
from .published import PublishedTagger, with_pictures
from .work import PUBLISHED_LENGTH, Batch, Work, by_size, repeated, run_batches


PUBLISHED, IFAFORMER = "published way", "IFAformer"
CRF_BATCH_SIZE = 256
LEARNING_RATE = 1e-5  # Nothing here depends on it.


def measure_forward(work: Work) -> dict[str, Any]:
    """Forward passes against one of the text tower alone, and the share of the machine's peak that they reach."""
    baseline = f"BertModel, texts padded to {PUBLISHED_LENGTH}"
    batches, padded, sorted_batches = work.batches(), work.padded_texts(), work.batches(by_size(work.features))
    # The baseline reads all 40 tokens.
    padded_in_full = [{**batch, "attention_mask": torch.ones_like(batch["attention_mask"])} for batch in padded]
    # FlopCounterMode would look for the gradients of parameters that are passed to modules.
    model = work.ifaformer(use_whole_image=False).requires_grad_(False)
    passes = {
        baseline: (work.placed(BertModel(work.bert_config())), padded_in_full),
        "BertForTokenClassification, the same texts padded alike": (work.bert_tagger(), padded_in_full),
        PUBLISHED: (work.placed(PublishedTagger(work)), list(with_pictures(work, padded))),
        IFAFORMER: (model, batches),
        "IFAformer, tweets of similar size side by side": (model, sorted_batches),
        "IFAformer, whole pictures too": (work.ifaformer(), work.batches(work.whole_features)),
    }
    number, repeats = len(work.sample), work.options.repeats
    runs = {name: (number, partial(run_batches, *of_model)) for name, of_model in passes.items()}
    one_pass = partial(run_batches, model, sorted_batches)
    with FlopCounterMode(display=False) as operations:
        one_pass()
    product = "matrix product of 2048"
    products: dict[str, tuple[float, Call]] = {
        product: matrix_product(work.device, work.dtype),
        IFAFORMER: (operations.get_total_flops(), one_pass),
    }
    crop_masks = {kind: [batch.get(f"{kind}_crop_mask") for batch in batches] for kind in ("aux", "rcnn")}
    return {
        "tokens_a_text": sum(int(batch["attention_mask"].sum()) for batch in batches) / number,
        "crops_a_tweet": {
            kind: sum(int(mask.sum()) for mask in masks if mask is not None) / number
            for kind, masks in crop_masks.items()
        },
        "comparison": compare(runs, baseline, repeats, "tweets"),
        "share_of_peak": compare(products, product, repeats, "operations"),
    }


def measure_inference(work: Work) -> dict[str, Any]:
    """Tweets a second from prepared features to tags, against the published way from rows to tags."""
    padded, published, bert = work.padded_texts(), work.placed(PublishedTagger(work)), work.bert_tagger()
    model, of_whole = work.ifaformer(use_whole_image=False), work.ifaformer()
    features, whole = by_size(work.features), by_size(work.whole_features)
    calls: dict[str, Call] = {
        PUBLISHED: lambda: run_batches(published, with_pictures(work, padded)),
        "BertForTokenClassification, texts padded alike": lambda: run_batches(bert, padded),
        IFAFORMER: lambda: run_batches(model, work.read(work.features)),
        "IFAformer, tweets of similar size side by side": lambda: run_batches(model, work.read(features)),
        "IFAformer, the same, whole pictures too": lambda: run_batches(of_whole, work.read(whole)),
    }
    runs = {name: (len(work.sample), call) for name, call in calls.items()}
    return {"comparison": compare(runs, PUBLISHED, work.options.repeats, "tweets")}


def measure_training(work: Work) -> dict[str, Any]:
    """Training steps from prepared features, against the published way, which decodes in every step."""
    reading = "reading prepared features, one process"
    padded, number = work.padded_texts(), len(work.sample)
    many = repeated(work.features, work.options.num_tweets)
    # The published code takes torch's AdamW as it is, and the Trainer takes the fused one.
    train_published = training(work.placed(PublishedTagger(work)), fused=None)
    train_bert = training(work.bert_tagger(), fused=True)
    train = training(work.ifaformer(use_whole_image=False), fused=True)
    train_bf16 = training(work.ifaformer(use_whole_image=False), fused=True, bf16=True)
    runs: dict[str, tuple[float, Call]] = {
        PUBLISHED: (number, lambda: train_published(with_pictures(work, padded))),
        "BertForTokenClassification, texts padded alike": (number, lambda: train_bert(padded)),
        IFAFORMER: (number, lambda: train(work.read(work.features, shuffle=True))),
        f"{IFAFORMER}, bfloat16 products": (number, lambda: train_bf16(work.read(work.features, shuffle=True))),
        reading: (len(many), lambda: deque(work.read(many, shuffle=True), maxlen=0)),
    }
    comparison = compare(runs, PUBLISHED, work.options.repeats, "tweets")
    rates = {name: comparison["runs"][name]["per_second"]["median"] for name in (IFAFORMER, reading)}
    return {"comparison": comparison, "reading_times_training": rates[reading] / rates[IFAFORMER]}


def training(model: torch.nn.Module, fused: bool | None, bf16: bool = False) -> Callable[[Iterable[Batch]], None]:
    """What trains the model by a step for each batch, as `train.py --bf16 true` does with `bf16`."""
    device = next(model.parameters()).device.type
    optimizer = torch.optim.AdamW(model.train().parameters(), lr=LEARNING_RATE, fused=fused)

    def train(batches: Iterable[Batch]) -> None:
        for batch in batches:
            with torch.autocast(device, torch.bfloat16, enabled=bf16):
                loss = model(**batch)[0]
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()

    return train


def measure_crf(work: Work) -> dict[str, Any]:
    """Decoding and likelihood against pytorch-crf's, on random emissions for texts as long as those of the rows."""
    generator = torch.Generator().manual_seed(0)
    num_tags = len(work.processor.labels)
    texts = work.rows["tokens"]
    lengths = torch.tensor([len(texts[index % len(texts)]) for index in range(CRF_BATCH_SIZE)])
    shape = (CRF_BATCH_SIZE, int(lengths.max()))
    emissions = torch.randn(*shape, num_tags, generator=generator).to(work.device).requires_grad_()
    mask = (torch.arange(shape[1]) < lengths[:, None]).to(work.device)
    tags = torch.randint(num_tags, shape, generator=generator).to(work.device)
    ours, theirs = LinearChainCRF(num_tags).to(work.device), CRF(num_tags, batch_first=True).to(work.device)
    theirs.load_state_dict(ours.state_dict())
    baseline, repeats = "pytorch-crf", 5 * work.options.repeats
    decoding: dict[str, tuple[float, Call]] = {
        baseline: (CRF_BATCH_SIZE, lambda: theirs.decode(emissions.detach(), mask)),
        IFAFORMER: (CRF_BATCH_SIZE, lambda: ours.viterbi_decode(emissions, mask)),
    }
    likelihood: dict[str, tuple[float, Call]] = {
        baseline: (CRF_BATCH_SIZE, lambda: theirs(emissions, tags, mask, reduction="mean").backward()),
        IFAFORMER: (CRF_BATCH_SIZE, lambda: ours(emissions, tags, mask).mean().backward()),
    }
    return {
        "viterbi": compare(decoding, baseline, repeats, "texts"),
        "likelihood_and_gradient": compare(likelihood, baseline, repeats, "texts"),
    }
