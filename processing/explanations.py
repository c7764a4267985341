"""
Which picture or crop speaks for an entity: the share of the text, the whole picture and each crop, by two methods.

`attention_shares` asks where the model looks, `occlusion_shares` what changes when it cannot look there. The second is
the one to trust: attention need not be a cause (Jain and Wallace, 2019).
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch

from .collator import TOKEN_PADDING
from .columns import CROP_KINDS, PIXEL_MASKS
from .labels import first_positions
from .problems import Problem


NOT_FOLLOWED = "the text is read in windows, in which explain='attention' cannot be followed; use 'occlusion'"


# Of each row, of each of its entities, the positions of the first tokens of its words.
Positions = Sequence[Sequence[Sequence[int]]]


def source_mask(inputs: Mapping[str, torch.Tensor]) -> torch.Tensor:
    """
    Which sources a batch's rows have, (batch_size, num_sources) bool: the text, the pictures, then the crops of each
    kind, as many as the row of the batch that has most.
    """
    text = torch.ones_like(inputs["input_ids"][:, :1], dtype=torch.bool)
    image = inputs["image_mask"].reshape(len(text), -1) if "image_mask" in inputs else torch.zeros_like(text)
    crops = [inputs[f"{kind}_crop_mask"] for kind in CROP_KINDS if f"{kind}_crop_mask" in inputs]
    return torch.cat([text, image, *crops], dim=1)


def source_names(inputs: Mapping[str, torch.Tensor]) -> list[str]:
    """
    The sources of [`source_mask`] as rows name them: `text`, `image`, `aux_crops 0`, ... The pictures of a model that
    takes several are `image 0`, `image 1`, ...
    """
    images = ["image"]
    if has_several_images(inputs):
        images = [f"image {index}" for index in range(inputs["image_mask"].shape[1])]
    numbers = {kind: inputs[f"{kind}_crop_mask"].shape[1] for kind in CROP_KINDS if f"{kind}_crop_mask" in inputs}
    return ["text", *images, *(f"{kind}_crops {index}" for kind in numbers for index in range(numbers[kind]))]


def has_several_images(inputs: Mapping[str, torch.Tensor]) -> bool:
    """Whether a batch has a list of pictures a row, as models with `max_images` above 1 take it."""
    return "image_mask" in inputs and inputs["image_mask"].ndim == 2


@contextmanager
def eager_attention(model: Any) -> Iterator[None]:
    """The kernel that gives its weights, for as long as the block lasts, whatever happens in it."""
    config = model.config
    earlier = {"": config._attn_implementation}
    earlier |= {name: getattr(config, name)._attn_implementation for name in config.sub_configs}
    model.set_attn_implementation("eager")
    try:
        yield
    finally:
        model.set_attn_implementation(earlier)


@torch.no_grad()
def attention_shares(model: Any, inputs: Mapping[str, torch.Tensor], positions: Positions) -> list[torch.Tensor]:
    """
    The share of an entity's attention on each source: attention rollout (Abnar and Zuidema, 2020) over both towers, in
    one more pass.

    Heads are averaged, and a layer passes on half of what a position holds and half of what it attends to, as in the
    paper. Here a position of either tower attends to both, to the other tower as it was when it lent its keys and
    values. An entity's share is the mean over the first tokens of its words, summed over a source's tokens. The class
    token of the vision tower, which shows nothing, and what stands for absent crops are left out, the rest sums to 1.

    Limits: values and feed-forward layers count for nothing, so a share is where the model looked and not what it made
    of it. A source of many tokens gathers much: the whole picture has more than a crop, so compare crops with crops.
    The half that is passed on alone gives the text a large share.

    Args:
        model: an IFAformer, not of the `mkgformer` variant; its attention kernel is `eager` for the duration of the
            call.
        inputs: a batch for it, with normalised pixels.
        positions: of each row's entities.

    Returns:
        For each row (num_entities, num_sources), the sources as in [`source_mask`], 0 for those that it lacks.

    Raises:
        ValueError: for another model than such an IFAformer, whose layers of attention are not these.
    """
    variant = getattr(model.config, "attention_variant", None)
    if variant is None or variant == "mkgformer":  # whose text has pictures in its feed-forward network
        kind = type(model).__name__ if variant is None else "model of the variant mkgformer"
        raise ValueError(
            f"explain='attention' follows the layers of an IFAformer, and this is a {kind}. Use "
            "explain='occlusion', which works for every model."
        )
    present = source_mask(inputs)
    if not model.config.text_attends_vision:
        of_text = present.new_zeros(present.shape[1], dtype=torch.float)
        of_text[0] = 1
        return [of_text.repeat(len(entities), 1) for entities in positions]
    with eager_attention(model):
        outputs = model(**inputs, output_attentions=True)
    batch_size, seq_length = inputs["input_ids"].shape
    num_visual = outputs.image_attentions[0].shape[2]
    # Of a position of either tower, the shares of the inputs [visual tokens ; text tokens]: (B, N, V + T)
    identity = torch.eye(num_visual + seq_length, device=inputs["input_ids"].device).expand(batch_size, -1, -1)
    vision, text = identity[:, :num_visual], identity[:, num_visual:]
    lent_text, lent_vision, embeddings = text, vision, vision  # A layer lends what comes into it.
    num_run = 0  # layers of the vision tower, see `IFAformerModel`
    for layer, (weights, lender) in enumerate(zip(outputs.attentions, model.config.lending_layers, strict=True)):
        while num_run <= lender:
            lent_vision = vision
            vision = (vision + _attended(outputs.image_attentions[num_run], lent_text, vision)) / 2
            num_run += 1
        attended = _attended(weights, lent_vision if layer else embeddings, text)
        lent_text, text = text, (text + attended) / 2

    of_pictures = _visual_sources(model.config, inputs)
    of_class = of_pictures.new_full((num_visual - len(of_pictures),), -1)
    of_tokens = torch.cat([of_class, of_pictures, of_pictures.new_zeros(seq_length)])
    shares = []
    for row, entities in enumerate(positions):
        of_entities = identity.new_zeros(len(entities), present.shape[1])
        for entity, tokens in enumerate(entities):
            weights = text[row, tokens].mean(dim=0)  # (V + T,)
            of_entities[entity].index_add_(0, of_tokens[of_tokens >= 0], weights[of_tokens >= 0])
        of_entities *= present[row]
        shares.append(of_entities / of_entities.sum(dim=1, keepdim=True))
    return shares


def _attended(weights: torch.Tensor, prefix: torch.Tensor, own: torch.Tensor) -> torch.Tensor:
    """
    What a tower's positions take in, (B, N, V + T), by its weights (B, H, N, P + N) over prefix and own positions; an
    ablation has no prefix.
    """
    weights = weights.float().mean(dim=1)
    length = weights.shape[-1] - own.shape[1]
    return weights[..., :length] @ prefix[:, :length] + weights[..., length:] @ own


def _visual_sources(config: Any, inputs: Mapping[str, torch.Tensor]) -> torch.Tensor:
    """The source of each visual token behind the class tokens, see [`source_mask`], -1 for those of none."""
    patch_size = config.vision_config.patch_size
    deepke = config.attention_variant == "deepke"
    sources = [torch.tensor([], dtype=torch.long)]
    num_images = inputs["image_mask"].shape[1] if has_several_images(inputs) else 1
    if config.use_whole_image and "pixel_values" in inputs:
        num_patches = (inputs["pixel_values"].shape[-1] // patch_size) ** 2
        sources.append(torch.arange(1, 1 + num_images).repeat_interleave(num_patches))
    first = 1 + num_images
    for kind in CROP_KINDS:
        num_patches = (getattr(config, f"{kind}_crop_size") // patch_size) ** 2
        number = inputs[f"{kind}_crop_mask"].shape[1] if f"{kind}_crop_mask" in inputs else 0
        sources.append(torch.arange(first, first + number).repeat_interleave(num_patches))
        if deepke:  # zero images fill up
            absent = getattr(config, f"num_{kind}_crops") - number
            sources.append(torch.full((absent * num_patches,), -1))
        first += number
    return torch.cat(sources).to(inputs["input_ids"].device)


@torch.no_grad()
def occlusion_shares(
    model: Any, inputs: Mapping[str, torch.Tensor], tag_ids: torch.Tensor, positions: Positions
) -> list[torch.Tensor]:
    """
    The share of an entity's score that each source brings: pictures and crops are masked, and the score (the mean over
    its words of the probability of their tags under the CRF) is looked at again, in 2 n + 2 passes for n of them.

    A picture or crop is left out of all (occlusion: Zeiler and Fergus, 2014), and put beside the text alone; its
    effect is the mean of how far the score falls there and rises here. The first by itself overlooks a crop of which
    another shows the same object, the second one that tells something only beside others. (They are the first and the
    last step of a Shapley value, see Covert, Lundberg and Lee, 2021.) The text's share is what is left of the score
    without any picture; the rest is divided among pictures and crops by their effects, those that lower the score get
    0. Where the pictures raise nothing, the text has all.

    Limits: a masked crop is absent, which the model knows from training, not grey; effects of three and more crops
    together are not looked at; an effect of almost nothing is noise of arithmetic.

    Args, and what is returned, are those of [`attention_shares`], for a model with the CRF head; `tag_ids`
    (batch_size, seq_length) are the tags whose probability is looked at.
    """
    mask = source_mask(inputs)
    shares = []
    for row, entities in enumerate(positions):
        present = mask[row].nonzero().flatten()[1:]  # without the text
        number = len(present)
        of_entities = torch.zeros(len(entities), mask.shape[1], device=mask.device)
        of_entities[:, 0] = 1.0
        if number and len(entities):
            each = torch.eye(number, dtype=torch.bool, device=mask.device)
            # (2 n + 2, n): all, none, all but each, each alone
            kept = torch.cat([torch.ones_like(each[:1]), torch.zeros_like(each[:1]), ~each, each])
            variants = torch.zeros(len(kept), mask.shape[1], dtype=torch.bool, device=mask.device)
            variants[:, present] = kept
            scores = _scores(model, inputs, row, variants, tag_ids[row], entities)
            whole, alone, without, only = scores.split([1, 1, number, number])  # (..., num_entities)
            effects = ((whole - without + only - alone) / 2).clamp(min=0)
            brought = ((whole - alone) / whole.clamp(min=1e-12)).clamp(min=0)  # (1, num_entities)
            brought = brought.masked_fill(effects.sum(dim=0, keepdim=True) == 0, 0.0)
            parts = effects / effects.sum(dim=0, keepdim=True).clamp(min=1e-12)
            of_entities[:, present] = (brought * parts).T
            of_entities[:, 0] = 1 - of_entities[:, 1:].sum(dim=1)
        shares.append(of_entities)
    return shares


def _scores(
    model: Any,
    inputs: Mapping[str, torch.Tensor],
    row: int,
    variants: torch.Tensor,
    tag_ids: torch.Tensor,
    entities: Sequence[Sequence[int]],
) -> torch.Tensor:
    """The score of each entity where the sources are masked as in each variant: (num_variants, num_entities)."""
    repeated = {name: values[row].expand(len(variants), *values[row].shape) for name, values in inputs.items()}
    numbers = {"image_mask": 1}  # of sources behind the text, by mask
    numbers |= {name: inputs[name][0].numel() for name in PIXEL_MASKS.values() if name in inputs}
    parts = dict(zip(numbers, variants[:, 1:].split([*numbers.values()], dim=1), strict=True))
    repeated |= {name: part.reshape(-1, *inputs[name].shape[1:]) for name, part in parts.items() if name in inputs}
    logits = model(**repeated).logits
    marginals = model.crf.marginals(logits, repeated["crf_mask"])  # (num_variants, seq_length, num_labels)
    return torch.stack([marginals[:, tokens, tag_ids[tokens]].mean(dim=1) for tokens in map(list, entities)], dim=1)


METHODS: dict[str, Callable[..., list[torch.Tensor]]] = {
    "attention": lambda model, inputs, tag_ids, positions: attention_shares(model, inputs, positions),
    "occlusion": occlusion_shares,
}


def add_shares(
    method: str,
    model: Any,
    inputs: Mapping[str, torch.Tensor],
    tag_ids: torch.Tensor,
    rows: Sequence[Any],
    entities: Sequence[Sequence[dict[str, Any]]],
) -> None:
    """
    Give each entity its `shares`, see [`IFAformerPipeline.__call__`]. A row that the model reads in windows gets a
    problem, and no shares, where the method follows attention.

    Args:
        method: one of `METHODS`.
        model, inputs, tag_ids: as for [`occlusion_shares`].
        rows: of the batch, as [`PipelineRow`].
        entities: of each row.
    """
    window = getattr(model.config, "window_length", None)
    if method == "attention" and window is not None and inputs["input_ids"].shape[1] > window:
        whole = [number for number, row in enumerate(rows) if row.num_tokens <= window]
        for row in rows:
            if row.num_tokens > window:
                details = f"(it has {row.num_tokens} tokens, and {window} are read at once)"
                problem = Problem(NOT_FOLLOWED, "text", details=details)
                row.problems.append(problem)
                row.log(problem)
        if not whole:
            return
        length = max(rows[number].num_tokens for number in whole)
        inputs = {
            name: of[whole, :length] if name in TOKEN_PADDING or name == "input_ids" else of[whole]
            for name, of in inputs.items()
        }
        tag_ids, rows, entities = tag_ids[whole, :length], *([of[i] for i in whole] for of in (rows, entities))
    positions = []
    for row, of_row in zip(rows, entities, strict=True):
        first = {row.offsets[word][0]: position for word, position in first_positions(row.tokens.word_ids).items()}
        positions.append(
            [[first[start] for start in first if entity["start"] <= start < entity["end"]] for entity in of_row]
        )
    shares, names = METHODS[method](model, inputs, tag_ids, positions), source_names(inputs)
    for row, of_row, its_shares, present in zip(rows, entities, shares, source_mask(inputs).tolist(), strict=True):
        # A picture is named by its place in the row, of which some may not be used.
        places = enumerate(row.used_pictures.get("image", ()))
        of_row_names = {f"image {index}": f"image {place}" for index, place in places}
        sources = [of_row_names.get(name, name) for name in names]
        known = {f"{column} {item}": crop for column, crops in row.objects.items() for item, crop in enumerate(crops)}
        for entity, of_entity in zip(of_row, its_shares.tolist(), strict=True):
            entity["shares"] = [
                {"source": source, **known.get(source, {}), "share": share}
                for source, share, is_there in zip(sources, of_entity, present, strict=True)
                if is_there
            ]
