"""The CRF in NumPy gives what the one in torch gives."""

import numpy as np
import pytest
import torch

from modeling_ifaformer.crf import LinearChainCRF
from processing.exported.linear_chain import LinearChain


class Config:
    calibration_temperature = 1.7


def pair(num_tags, seed):
    torch.manual_seed(seed)
    crf = LinearChainCRF(num_tags, Config())
    with torch.no_grad():
        for scores in crf.parameters():
            scores.copy_(torch.randn_like(scores))
    scores = (crf.start_transitions, crf.transitions, crf.end_transitions)
    return crf, LinearChain(*(of.detach().numpy() for of in scores), temperature=1.7)


@pytest.mark.parametrize("seed", range(20))
def test_equal_to_the_crf_of_the_model_with_holes_in_the_mask(seed):
    generator = np.random.default_rng(seed)
    batch_size, length, num_tags = generator.integers(1, 9), generator.integers(1, 30), generator.integers(2, 12)
    crf, chain = pair(num_tags, seed)
    emissions = generator.normal(size=(batch_size, length, num_tags)).astype(np.float32)
    mask = generator.random((batch_size, length)) < generator.random()
    mask[np.arange(batch_size), generator.integers(0, length, batch_size)] = True
    emissions[~mask] = np.nan  # which must not be looked at
    tensors = torch.from_numpy(emissions), torch.from_numpy(mask)
    tags = chain.best_tags(emissions, mask)
    np.testing.assert_array_equal(tags, crf.viterbi_decode(*tensors).numpy())
    with torch.no_grad():
        marginals, likelihoods = crf.marginals(*tensors), crf(tensors[0], torch.from_numpy(tags), tensors[1])
    np.testing.assert_allclose(chain.marginals(emissions, mask), marginals.numpy(), atol=2e-5)
    np.testing.assert_allclose(chain.log_likelihood(emissions, tags, mask), likelihoods.numpy(), atol=2e-4)


def test_ties_are_settled_in_the_same_way():
    crf, chain = pair(5, 0)
    with torch.no_grad():
        for scores in crf.parameters():
            scores.zero_()
    chain = LinearChain(np.zeros(5, np.float32), np.zeros((5, 5), np.float32), np.zeros(5, np.float32))
    emissions = np.random.default_rng(0).integers(0, 2, (30, 12, 5)).astype(np.float32)
    mask = np.ones((30, 12), bool)
    expected = crf.viterbi_decode(torch.from_numpy(emissions), torch.from_numpy(mask))
    np.testing.assert_array_equal(chain.best_tags(emissions, mask), expected.numpy())


def test_a_row_without_a_scored_position_has_no_tags():
    _, chain = pair(4, 0)
    emissions, mask = np.zeros((2, 3, 4), np.float32), np.array([[False] * 3, [True, False, True]])
    tags, marginals = chain.best_tags(emissions, mask), chain.marginals(emissions, mask)
    assert (tags[0] == -100).all() and (marginals[0] == 0).all()
    assert (tags[1] >= 0).tolist() == [True, False, True]
