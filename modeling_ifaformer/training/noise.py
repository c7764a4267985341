"""
Noise in the batches of a training, the agreement of two readings of the same tweets with other noise, and adversarial
noise in the word embeddings. The settings are those of [`IFAformerTrainingArguments`].

What is random in it is drawn with torch's generator, in step with dropout, rather than where rows are read: a run that
is resumed then draws what an uninterrupted one draws.
"""

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from transformers import TrainingArguments

from processing.columns import PIXEL_MASKS

from .arguments import noise_of


def with_noise(
    batch: Mapping[str, Any], arguments: TrainingArguments, processor: Any, context_mask: torch.Tensor | None = None
) -> dict[str, Any]:
    """
    A collated batch with the noise that the arguments ask for; plain `TrainingArguments` ask for none.

    Args:
        context_mask: which tokens are of a context, see [`drop_contexts`]. Without it, no context is left out.
    """
    batch = dict(batch)
    if (share := noise_of(arguments, "mask_probability")) > 0:
        batch = mask_tokens(batch, processor, share)
    if (probability := noise_of(arguments, "modality_dropout")) > 0:
        batch = drop_modalities(batch, probability)
    if (probability := noise_of(arguments, "context_dropout")) > 0 and context_mask is not None:
        batch = drop_contexts(batch, context_mask, probability)
    if (probability := noise_of(arguments, "swap_probability")) > 0:
        batch = swap_unrelated(batch, processor, probability)
    return batch


def mask_tokens(batch: Mapping[str, Any], processor: Any, probability: float) -> dict[str, Any]:
    """
    A collated batch with that share of its tokens replaced by the mask token, so that a model in training leans on the
    context of a name as well. Special tokens and entity markers stay.
    """
    tokenizer, input_ids = processor.tokenizer, batch["input_ids"]
    kept = [token for token in (*tokenizer.all_special_ids, *processor.marker_ids) if token is not None]
    is_masked = torch.rand(input_ids.shape, device=input_ids.device) < probability
    is_masked &= ~torch.isin(input_ids, torch.tensor(kept, device=input_ids.device))
    return {**batch, "input_ids": input_ids.masked_fill(is_masked, tokenizer.mask_token_id)}


def drop_modalities(batch: Mapping[str, Any], probability: float) -> dict[str, Any]:
    """
    A collated batch in which each tweet has lost its whole picture with that probability, and, drawn apart, all of its
    crops. A batch without pictures draws nothing. A model in training then learns what each part says by itself, and
    what a text says alone: it does not lean on parts that a user may not have, and its scores know of what is absent.
    """
    masks = {name: batch[name] for name in PIXEL_MASKS.values() if name in batch}
    if masks:
        size, device = len(batch["input_ids"]), batch["input_ids"].device
        has_image, has_crops = torch.rand(2, size, device=device) >= probability
        for name, mask in masks.items():
            kept = has_image if name == "image_mask" else has_crops
            masks[name] = mask & (kept if mask.ndim == 1 else kept[:, None])
    return {**batch, **masks}


def drop_contexts(batch: Mapping[str, Any], context_mask: torch.Tensor, probability: float) -> dict[str, Any]:
    """
    A collated batch in which each tweet has lost its context with that probability: no token attends to it then.
    `context_mask` (batch_size, seq_length) is True for tokens of a context.
    """
    attention_mask = batch["attention_mask"]
    is_dropped = torch.rand(len(attention_mask), 1, device=attention_mask.device) < probability
    return {**batch, "attention_mask": attention_mask.masked_fill(is_dropped & context_mask, 0)}


def swap_unrelated(batch: Mapping[str, Any], processor: Any, probability: float) -> dict[str, Any]:
    """
    A collated batch in which head and tail have changed places, with that probability, in each pair without relation.
    Nobody says which of two unrelated entities is the head, and data such as MNRE name the first of them: a model that
    never saw the other order finds a relation wherever the tail comes first.
    """
    head, head_end, tail, tail_end = processor.marker_ids
    labels, input_ids = batch["labels"], batch["input_ids"]
    unrelated = labels == processor.relations.index(processor.negative_relation)
    is_swapped = (unrelated & (torch.rand(len(labels), device=labels.device) < probability)).unsqueeze(1)
    swapped = input_ids
    for one, other in ((head, tail), (head_end, tail_end), (tail, head), (tail_end, head_end)):
        swapped = swapped.masked_fill(is_swapped & (input_ids == one), other)
    return {**batch, "input_ids": swapped}


def first_half_twice(batch: Mapping[str, Any]) -> dict[str, Any]:
    """A collated batch with the first half of its rows, rounded up, once more behind it."""
    return {name: torch.cat([values, values[: (len(values) + 1) // 2]]) for name, values in batch.items()}


def disagreement(logits: torch.Tensor, crf_mask: torch.Tensor | None, crf: Any) -> torch.Tensor:
    """
    How far two readings of the same tweets are apart: R-Drop (Liang et al., 2021;
    [arXiv 2106.14448](https://arxiv.org/abs/2106.14448)), the mean of the Kullback-Leibler divergences in both
    directions. It is between the probabilities of the relations or, as in ITA (Wang et al., 2022;
    [arXiv 2112.06482](https://arxiv.org/abs/2112.06482)), between those of the tags of each word under the CRF, summed
    over a tweet's words. The result is the mean over the tweets.

    Args:
        logits: of a batch that [`first_half_twice`] gives, (batch_size, seq_length, number of tags) or (batch_size,
            number of relations).
        crf_mask: the words of an entity model, (batch_size, seq_length).
        crf: its CRF, None for relations.
    """
    number = (len(logits) + 2) // 3  # of the rows that are there twice
    twice = [slice(number), slice(len(logits) - number, None)]
    if crf is None:
        first, second = (logits[rows].float().log_softmax(dim=-1) for rows in twice)
        is_word = None
    else:
        assert crf_mask is not None
        marginals = crf(logits, mask=crf_mask, marginals=True).clamp_min(1e-6)  # whose logarithm has a gradient
        first, second = (marginals[rows].log() for rows in twice)
        is_word = crf_mask[:number].unsqueeze(-1)
    apart = (first.exp() - second.exp()) * (first - second)
    if is_word is not None:
        apart = apart.masked_fill(~is_word, 0.0)
    return apart.sum() / (2 * number)


@contextmanager
def moved_along_gradient(weight: torch.nn.Parameter, epsilon: float) -> Iterator[None]:
    """
    Within it, word embeddings are moved by the length `epsilon`, the Euclidean norm over all of them, in the direction
    of the gradient that they have when it begins, in which the loss grows fastest: the fast gradient method (FGM;
    Miyato et al., 2017; [arXiv 1605.07725](https://arxiv.org/abs/1605.07725)), here with one direction for a whole
    batch. Afterwards they are as before. A gradient that is zero or no number, as in float16, moves nothing.
    """
    assert weight.grad is not None
    kept = weight.detach().clone()
    length = torch.linalg.vector_norm(weight.grad, dtype=torch.float32).item()
    if 0 < length < math.inf:  # which is false for a length that is no number
        with torch.no_grad():
            weight.add_(weight.grad, alpha=epsilon / length)
    try:
        yield
    finally:
        with torch.no_grad():
            weight.copy_(kept)
