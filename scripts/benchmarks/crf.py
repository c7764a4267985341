"""Measure decoding and likelihood of the CRF against pytorch-crf's."""

from typing import Any

import torch
from torchcrf import CRF

from modeling_ifaformer.crf import LinearChainCRF

from .measuring import compare
from .work import Work


CRF_BATCH_SIZE = 256


def measure_crf(work: Work) -> dict[str, Any]:
    """Compare them on random emissions, for texts as long as those of the rows."""
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
    baseline, name = "pytorch-crf", "IFAformer"
    decoding = {
        baseline: lambda: theirs.decode(emissions.detach(), mask),
        name: lambda: ours.viterbi_decode(emissions, mask),
    }
    likelihood = {
        baseline: lambda: theirs(emissions, tags, mask, reduction="mean").backward(),
        name: lambda: ours(emissions, tags, mask).mean().backward(),
    }
    return {
        part: compare(
            {name: (CRF_BATCH_SIZE, call) for name, call in calls.items()},
            baseline,
            5 * work.options.repeats,
            "texts",
        )
        for part, calls in (("viterbi", decoding), ("likelihood_and_gradient", likelihood))
    }
