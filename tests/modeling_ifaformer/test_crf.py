"""The CRF against enumeration of all tag sequences and against pytorch-crf itself."""

import itertools
import math
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch.overrides import TorchFunctionMode
from torchcrf import CRF

import modeling_ifaformer.crf
from modeling_ifaformer.crf import LinearChainCRF


NUM_TAGS = 4
# Whole row; left-aligned; late start; holes; late start, holes and open end; one position.
MASK = torch.tensor(
    [
        [1, 1, 1, 1, 1, 1],
        [1, 1, 1, 0, 0, 0],
        [0, 0, 1, 1, 1, 1],
        [1, 0, 1, 1, 0, 1],
        [0, 1, 0, 1, 0, 0],
        [0, 0, 0, 1, 0, 0],
    ]
).bool()


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


def make_crf(num_tags: int = NUM_TAGS, config=None) -> LinearChainCRF:
    """Transitions large enough to matter: pytorch-crf draws them from [-0.1, 0.1]."""
    crf = LinearChainCRF(num_tags, config)
    for parameter in crf.parameters():
        torch.nn.init.normal_(parameter)
    return crf


def pytorch_crf(crf: LinearChainCRF) -> CRF:
    plain = CRF(crf.num_tags, batch_first=True)
    plain.load_state_dict(crf.state_dict())
    return plain


def make_batch(mask: torch.Tensor = MASK, num_tags: int = NUM_TAGS) -> tuple[torch.Tensor, torch.Tensor]:
    """Emissions, and tags that are -100 where nothing is scored."""
    emissions = torch.randn(*mask.shape, num_tags) * 2
    return emissions, torch.randint(0, num_tags, mask.shape).masked_fill(~mask, -100)


def random_mask(batch_size: int, seq_length: int) -> torch.Tensor:
    mask = torch.rand(batch_size, seq_length) < 0.6
    mask[torch.arange(batch_size), torch.randint(0, seq_length, (batch_size,))] = True
    return mask


def path_score(crf: LinearChainCRF, emissions: torch.Tensor, path: tuple[int, ...]) -> float:
    """The definition, in float64. emissions: (length, num_tags)."""
    start, end, transitions = (
        p.double().tolist() for p in (crf.start_transitions, crf.end_transitions, crf.transitions)
    )
    score = start[path[0]] + end[path[-1]]
    score += sum(row[tag] for row, tag in zip(emissions.double().tolist(), path, strict=True))
    return score + sum(transitions[a][b] for a, b in itertools.pairwise(path))


def enumerated(crf: LinearChainCRF, emissions: torch.Tensor) -> dict[tuple[int, ...], float]:
    return {
        path: path_score(crf, emissions, path)
        for path in itertools.product(range(crf.num_tags), repeat=len(emissions))
    }


def log_sum_exp(scores) -> float:
    return math.log(math.fsum(map(math.exp, scores)))


def compacted(emissions: torch.Tensor, mask: torch.Tensor, tags: torch.Tensor | None = None):
    """Left-aligned copies, built row by row with boolean indexing: what pytorch-crf asks for."""
    dense_emissions, dense_mask = torch.zeros_like(emissions), torch.zeros_like(mask)
    dense_tags = torch.zeros(mask.shape, dtype=torch.long)
    for row, scored in enumerate(mask):
        length = int(scored.sum())
        dense_emissions[row, :length], dense_mask[row, :length] = emissions[row, scored], True
        if tags is not None:
            dense_tags[row, :length] = tags[row, scored]
    return dense_emissions, dense_tags, dense_mask


def unscored_positions_spoiled(emissions: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    return emissions.masked_fill(~mask.unsqueeze(-1), math.nan)


class TestAgainstEnumeration:
    @pytest.mark.parametrize("row", range(len(MASK)))
    def test_likelihood_path_and_marginals(self, row):
        crf, mask = make_crf(), MASK[row : row + 1]
        emissions, tags = make_batch(mask)
        paths = enumerated(crf, emissions[0, mask[0]])
        partition = log_sum_exp(paths.values())

        log_likelihood = crf(emissions, tags, mask).item()
        assert log_likelihood == pytest.approx(paths[tuple(tags[0, mask[0]].tolist())] - partition, abs=1e-4)

        predicted = crf.viterbi_decode(emissions, mask)
        assert tuple(predicted[0, mask[0]].tolist()) == max(paths, key=paths.get)
        assert (predicted[~mask] == -100).all()

        marginals = crf.marginals(emissions, mask)[0]
        for place, position in enumerate(mask[0].nonzero().flatten().tolist()):
            expected = [
                sum(math.exp(score - partition) for path, score in paths.items() if path[place] == tag)
                for tag in range(NUM_TAGS)
            ]
            assert marginals[position].tolist() == pytest.approx(expected, abs=1e-5)
        assert (marginals[~mask[0]] == 0).all()

    def test_likelihoods_of_all_paths_sum_to_one(self):
        crf, mask = make_crf(3), torch.tensor([[0, 1, 1, 0, 1]]).bool()
        emissions = torch.randn(1, 5, 3)
        total = 0.0
        for path in itertools.product(range(3), repeat=3):
            tags = torch.full((1, 5), -100).masked_scatter(mask, torch.tensor(path))
            total += crf(emissions, tags, mask).exp().item()
        assert total == pytest.approx(1, abs=1e-5)

    def test_one_tag_is_certain(self):
        crf = make_crf(1)
        emissions, tags = make_batch(num_tags=1)
        assert crf(emissions, tags, MASK).tolist() == pytest.approx([0] * len(MASK), abs=1e-5)
        assert torch.equal(crf.viterbi_decode(emissions, MASK), tags)
        torch.testing.assert_close(crf.marginals(emissions, MASK), MASK.unsqueeze(-1).float())


class TestTemperature:
    @pytest.mark.parametrize("temperature", [0.5, 1.7])
    @pytest.mark.parametrize("row", range(len(MASK)))
    def test_all_tags_of_a_row_are_tempered(self, row, temperature):
        crf, mask = make_crf(config=SimpleNamespace(calibration_temperature=temperature)), MASK[row : row + 1]
        emissions, tags = make_batch(mask)
        paths = {path: score / temperature for path, score in enumerated(crf, emissions[0, mask[0]]).items()}
        partition = log_sum_exp(paths.values())
        expected = paths[tuple(tags[0, mask[0]].tolist())] - partition
        assert crf(emissions, tags, mask).item() == pytest.approx(expected, abs=1e-4)
        marginals = crf.marginals(emissions, mask)[0, mask[0]]
        for place, of_tags in enumerate(marginals.tolist()):
            for tag, probability in enumerate(of_tags):
                expected = sum(math.exp(score - partition) for path, score in paths.items() if path[place] == tag)
                assert probability == pytest.approx(expected, abs=1e-5)

    def test_tags_stay_and_one_changes_no_bit(self):
        plain, (emissions, tags) = make_crf(), make_batch()
        for temperature in (0.3, 1.0, 3.0):
            crf = make_crf(config=SimpleNamespace(calibration_temperature=temperature))
            crf.load_state_dict(plain.state_dict())
            assert torch.equal(crf.viterbi_decode(emissions, MASK), plain.viterbi_decode(emissions, MASK))
            assert torch.equal(crf.marginals(emissions, MASK), plain.marginals(emissions, MASK)) == (temperature == 1)
            assert torch.equal(crf(emissions, tags, MASK), plain(emissions, tags, MASK)) == (temperature == 1)


class TestAgainstPytorchCRF:
    def test_forward(self):
        crf, (emissions, tags) = make_crf(), make_batch()
        dense_emissions, dense_tags, dense_mask = compacted(emissions, MASK, tags)
        expected = pytorch_crf(crf)(dense_emissions, dense_tags, mask=dense_mask, reduction="none")
        torch.testing.assert_close(crf(emissions, tags, MASK), expected)

    def test_gradients(self):
        crf, (emissions, tags) = make_crf(), make_batch()
        plain, reference = pytorch_crf(crf), emissions.clone().requires_grad_()
        emissions.requires_grad_()
        dense_emissions, dense_tags, dense_mask = compacted(reference, MASK, tags)
        plain(dense_emissions, dense_tags, mask=dense_mask).backward()
        crf(emissions, tags, MASK).sum().backward()
        torch.testing.assert_close(emissions.grad, reference.grad)
        assert (emissions.grad[~MASK] == 0).all() and (emissions.grad[MASK] != 0).all()
        for name, parameter in crf.named_parameters():
            torch.testing.assert_close(parameter.grad, plain.get_parameter(name).grad)
            assert parameter.grad.abs().sum() > 0

    # Integer scores make many ties. Scores near 10,000 are rounded, so that paths tie which differ before rounding.
    @pytest.mark.parametrize("kind", ["random", "tied", "all equal", "rounded"])
    def test_decode(self, kind):
        num_tags, mask = 5, random_mask(64, 12)
        crf, emissions = make_crf(num_tags), torch.randn(64, 12, num_tags)
        if kind in ("tied", "all equal"):
            high = 3 if kind == "tied" else 1
            emissions = torch.randint(0, high, emissions.shape).float()
            for parameter in crf.parameters():
                parameter.data = torch.randint(0, high, parameter.shape).float()
        elif kind == "rounded":
            emissions = 1e4 + emissions * 1e-3
            for parameter in crf.parameters():
                parameter.data *= 1e-3
        dense_emissions, _, dense_mask = compacted(emissions, mask)
        expected = pytorch_crf(crf).decode(dense_emissions, mask=dense_mask)
        predicted = crf.viterbi_decode(emissions, mask)
        assert predicted.dtype == torch.int64
        assert [row[scored].tolist() for row, scored in zip(predicted, mask, strict=True)] == expected
        assert (predicted[~mask] == -100).all()
        assert crf.decode(emissions, mask) == expected

    def test_parameters_keep_their_names(self):
        shapes = {name: parameter.shape for name, parameter in CRF(NUM_TAGS).named_parameters()}
        crf = LinearChainCRF(NUM_TAGS)
        assert {name: parameter.shape for name, parameter in crf.named_parameters()} == shapes
        assert crf.batch_first


class TestMarginals:
    def test_sum_to_one_where_scored(self):
        crf, mask = make_crf(13), random_mask(16, 40)
        marginals = crf.marginals(torch.randn(16, 40, 13) * 5, mask)
        assert marginals.dtype == torch.float32
        torch.testing.assert_close(marginals.sum(dim=-1), mask.float())

    def test_are_the_gradient_of_the_log_partition(self):
        crf, (emissions, tags) = make_crf(), make_batch()
        emissions.requires_grad_()
        # The gradient of the tags' own score is their indicator; what is left is that of -log Z.
        (gradient,) = torch.autograd.grad(crf(emissions, tags, MASK).sum(), emissions)
        indicator = torch.nn.functional.one_hot(tags.clamp(min=0), NUM_TAGS) * MASK.unsqueeze(-1)
        torch.testing.assert_close(crf.marginals(emissions, MASK), indicator - gradient, atol=1e-5, rtol=1e-4)

    def test_a_forbidden_tag_has_none(self):
        crf, (emissions, _) = make_crf(), make_batch()
        emissions[..., 2] = -math.inf
        marginals = crf.marginals(emissions, MASK)
        assert (marginals[..., 2] == 0).all()
        torch.testing.assert_close(marginals.sum(dim=-1), MASK.float())


class TestUnscoredPositions:
    def test_have_no_influence(self):
        crf, (emissions, tags) = make_crf(), make_batch()
        spoiled = unscored_positions_spoiled(emissions, MASK).requires_grad_()
        log_likelihood = crf(spoiled, tags.masked_fill(~MASK, 10_000), MASK)
        torch.testing.assert_close(log_likelihood, crf(emissions, tags, MASK))
        log_likelihood.sum().backward()
        assert spoiled.grad.isfinite().all()
        assert torch.equal(crf.viterbi_decode(spoiled, MASK), crf.viterbi_decode(emissions, MASK))
        torch.testing.assert_close(crf.marginals(spoiled, MASK), crf.marginals(emissions, MASK))

    def test_padding_columns_change_nothing(self):
        crf, (emissions, tags) = make_crf(), make_batch()
        longer = torch.nn.functional.pad(emissions, (0, 0, 0, 5))
        longer_mask = torch.nn.functional.pad(MASK, (0, 5))
        longer_tags = torch.nn.functional.pad(tags, (0, 5), value=-100)
        torch.testing.assert_close(crf(longer, longer_tags, longer_mask), crf(emissions, tags, MASK))
        for method, fill in ((crf.viterbi_decode, -100), (crf.marginals, 0)):
            result = method(longer, longer_mask)
            torch.testing.assert_close(result[:, :6], method(emissions, MASK))
            assert (result[:, 6:] == fill).all()

    def test_empty_rows_that_nobody_checked(self, monkeypatch):
        monkeypatch.setattr(LinearChainCRF, "_validate", lambda *args: None)
        crf, (emissions, _) = make_crf(), make_batch()
        mask = MASK.clone()
        mask[[0, 3]] = False
        kept = [1, 2, 4, 5]
        for method, fill in ((crf.viterbi_decode, -100), (crf.marginals, 0)):
            result = method(emissions, mask)
            assert (result[[0, 3]] == fill).all()
            torch.testing.assert_close(result[kept], method(emissions[kept], mask[kept]))

    def test_without_a_mask_all_is_scored(self):
        crf, (emissions, _) = make_crf(), make_batch()
        tags, mask = torch.zeros_like(MASK).long(), torch.ones_like(MASK)
        assert torch.equal(crf(emissions, tags), crf(emissions, tags, mask))
        for method in (crf.viterbi_decode, crf.marginals):
            assert torch.equal(method(emissions), method(emissions, mask))
        assert crf.decode(emissions) == crf.decode(emissions, mask)

    def test_an_empty_batch_is_fine(self):
        crf, emissions, mask = make_crf(), torch.zeros(0, 6, NUM_TAGS), torch.zeros(0, 6).bool()
        assert crf.viterbi_decode(emissions, mask).shape == (0, 6)
        assert crf.marginals(emissions, mask).shape == (0, 6, NUM_TAGS)
        assert crf(emissions, torch.zeros(0, 6).long(), mask).shape == (0,)


class Watch(TorchFunctionMode):
    """Notes, at each step of a recursion, whether a state (such as autocast) was on."""

    def __init__(self, is_on):
        super().__init__()
        self.is_on, self.seen = is_on, []

    def __torch_function__(self, func, types, args=(), kwargs=None):
        if getattr(func, "__name__", "") in ("iadd", "amax", "logsumexp"):
            self.seen.append(self.is_on())
        return func(*args, **(kwargs or {}))


class TestPrecision:
    @pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
    def test_emissions_of_another_precision(self, dtype):
        crf, (emissions, tags) = make_crf(), make_batch()
        half, exact = emissions.to(dtype), emissions.to(dtype).float()
        for result, expected in (
            (crf(half, tags, MASK), crf(exact, tags, MASK)),
            (crf.marginals(half, MASK), crf.marginals(exact, MASK)),
            (crf.viterbi_decode(half, MASK), crf.viterbi_decode(exact, MASK)),
        ):
            torch.testing.assert_close(result, expected, rtol=0, atol=0)

    def test_decoding_rounds_to_float32(self):
        crf = make_crf()
        for parameter in crf.parameters():
            torch.nn.init.zeros_(parameter)
        # Larger by less than a float32 can hold: the tags tie, and the first wins.
        emissions = (1 + 1e-12 * torch.arange(NUM_TAGS).double()).expand(*MASK.shape, -1)
        assert (crf.viterbi_decode(emissions, MASK)[MASK] == 0).all()

    def test_half_precision_parameters(self):
        """Of a model that was converted as a whole: scores of some hundred would be off by one in bfloat16."""
        half, (emissions, tags) = make_crf().bfloat16(), make_batch()
        crf, emissions = make_crf(), emissions * 50
        crf.load_state_dict(half.state_dict())
        for result, expected in (
            (half(emissions, tags, MASK), crf(emissions, tags, MASK)),
            (half.marginals(emissions, MASK), crf.marginals(emissions, MASK)),
            (half.viterbi_decode(emissions, MASK), crf.viterbi_decode(emissions, MASK)),
        ):
            torch.testing.assert_close(result, expected, rtol=0, atol=0)
        half(emissions, tags, MASK).sum().backward()
        assert all(parameter.grad.abs().sum() > 0 for parameter in half.parameters())

    def test_autocast(self):
        crf, classifier, hidden = make_crf(), torch.nn.Linear(8, NUM_TAGS), torch.randn(*MASK.shape, 8)
        tags = make_batch()[1]
        with torch.autocast("cpu", torch.bfloat16):
            emissions = classifier(hidden)
            assert emissions.dtype == torch.bfloat16
            results = [crf(emissions, tags, MASK), crf.marginals(emissions, MASK), crf.viterbi_decode(emissions, MASK)]
        exact = emissions.float()
        expected = [crf(exact, tags, MASK), crf.marginals(exact, MASK), crf.viterbi_decode(exact, MASK)]
        torch.testing.assert_close(results, expected, rtol=0, atol=0)

    def test_autocast_is_off_inside(self):
        crf, (emissions, tags) = make_crf(), make_batch()
        for call in (
            lambda: crf(emissions, tags, MASK),
            lambda: crf.marginals(emissions, MASK),
            lambda: crf.viterbi_decode(emissions, MASK),
        ):
            with torch.autocast("cpu", torch.bfloat16), Watch(lambda: torch.is_autocast_enabled("cpu")) as watch:
                call()
                assert torch.is_autocast_enabled("cpu")
            assert watch.seen and not any(watch.seen)

    def test_decoding_records_no_graph(self):
        crf, (emissions, _) = make_crf(), make_batch()
        with torch.enable_grad(), Watch(torch.is_grad_enabled) as watch:
            crf.viterbi_decode(emissions.requires_grad_(), MASK)
        assert watch.seen and not any(watch.seen)


class TestAccelerators:
    """A meta tensor has no values: whatever reads one back (as an accelerator would have to wait for) fails."""

    @pytest.fixture
    def meta(self):
        return make_crf().to("meta"), torch.empty(*MASK.shape, NUM_TAGS, device="meta"), MASK.to("meta")

    def test_pytorch_crf_reads_values_back(self, meta):
        crf, emissions, mask = meta
        with pytest.raises((RuntimeError, NotImplementedError), match="meta"):
            CRF._viterbi_decode(crf, emissions.transpose(0, 1), mask.t())
        with pytest.raises((RuntimeError, NotImplementedError), match="meta"):
            CRF._compute_normalizer(crf, emissions.transpose(0, 1), mask.t())

    def test_likelihood_decoding_and_marginals_do_not(self, meta):
        crf, emissions, mask = meta
        loss = -crf(emissions, torch.empty_like(mask, dtype=torch.long), mask).mean()
        loss.backward()
        assert (loss.shape, loss.dtype) == ((), torch.float32) and crf.transitions.grad is not None
        predicted, marginals = crf.viterbi_decode(emissions, mask), crf.marginals(emissions, mask)
        assert (predicted.shape, predicted.dtype) == (MASK.shape, torch.int64)
        assert (marginals.shape, marginals.dtype) == (emissions.shape, torch.float32)

    def test_values_are_checked_on_the_device(self, meta, monkeypatch):
        crf, emissions, mask = meta
        messages: list[str] = []
        monkeypatch.setattr(torch, "_assert_async", lambda condition, message: messages.append(message))
        crf(emissions, torch.zeros_like(mask, dtype=torch.long), mask)
        assert len(messages) == 2 and "no scored position" in messages[0] and "outside" in messages[1]

    def test_device_checks_hold_exactly_where_the_errors_do(self, monkeypatch):
        """The device-side branch, on CPU, where its assertions can be seen to fail."""
        monkeypatch.setattr(modeling_ifaformer.crf, "ASYNC_ASSERT_DEVICES", ("cpu",))
        crf, (emissions, tags) = make_crf(), make_batch()
        crf(emissions, tags, MASK)
        with pytest.raises(RuntimeError, match="no scored position"):
            crf.viterbi_decode(emissions, torch.zeros_like(MASK))
        with pytest.raises(RuntimeError, match="outside"):
            crf(emissions, tags.masked_fill(MASK, NUM_TAGS), MASK)

    @pytest.mark.parametrize("method", ["viterbi_decode", "marginals"])
    @pytest.mark.parametrize("backend", ["eager", "aot_eager"])
    def test_compiles_as_one_graph(self, method, backend):
        torch.compiler.reset()
        crf, (emissions, _) = make_crf(), make_batch()
        compiled = torch.compile(getattr(crf, method), fullgraph=True, backend=backend)
        torch.testing.assert_close(compiled(emissions, MASK), getattr(crf, method)(emissions, MASK))
        # Values are not checked in compiled code, but handled.
        mask = MASK.clone()
        mask[1] = False
        assert (compiled(emissions, mask)[1] == (-100 if method == "viterbi_decode" else 0)).all()


class TestErrors:
    @pytest.fixture
    def batch(self):
        return make_crf(), *make_batch()

    @pytest.mark.parametrize("method", ["forward", "viterbi_decode", "marginals", "decode"])
    def test_emissions_and_mask(self, batch, method):
        crf, emissions, tags = batch
        call = (lambda e, m: crf(e, tags, m)) if method == "forward" else getattr(crf, method)
        with pytest.raises(
            ValueError, match=r"emissions: expected shape \(batch_size, seq_length, 4\).* got \(6, 6\)"
        ):
            call(emissions[..., 0], MASK)
        with pytest.raises(ValueError, match=r"emissions: expected .* got \(6, 6, 3\)"):
            call(emissions[..., :3], MASK)
        with pytest.raises(ValueError, match=r"with at least one position, got \(6, 0, 4\)"):
            call(emissions[:, :0], MASK[:, :0])
        with pytest.raises(
            TypeError, match=r"mask: expected a boolean tensor .* got torch\.int64; use mask\.bool\(\)"
        ):
            call(emissions, MASK.long())
        with pytest.raises(ValueError, match=r"mask: expected the first two .* \(6, 6\), got \(6, 5\)"):
            call(emissions, MASK[:, :5])
        empty = MASK.clone()
        empty[[1, 4]] = False
        with pytest.raises(ValueError, match=r"nothing is scored in rows \[1, 4\].* Leave such rows out of the batch"):
            call(emissions, empty)

    def test_tags(self, batch):
        crf, emissions, tags = batch
        with pytest.raises(ValueError, match=r"tags: expected the first two .* \(6, 6\), got \(6, 5\)"):
            crf(emissions, tags[:, :5], MASK)
        for dtype in (torch.float32, torch.bool):
            with pytest.raises(TypeError, match=rf"tags: expected an integer dtype, got {dtype}; use tags\.long\(\)"):
                crf(emissions, tags.to(dtype), MASK)
        tags[0, 0], tags[4, 1], tags[4, 3] = -100, 4, 4
        with pytest.raises(
            ValueError, match=r"tags: .* \[0, 4\) where mask is True, got \[-100, 4\] in rows \[0, 4\]"
        ):
            crf(emissions, tags, MASK)

    @pytest.mark.parametrize("dtype", [torch.int32, torch.int16, torch.uint8])
    def test_any_integer_dtype_will_do(self, batch, dtype):
        crf, emissions, tags = batch
        tags = tags.masked_fill(~MASK, 0)
        torch.testing.assert_close(crf(emissions, tags.to(dtype), MASK), crf(emissions, tags, MASK))

    def test_num_tags(self):
        with pytest.raises(ValueError, match="invalid number of tags: 0"):
            LinearChainCRF(0)

    def test_missing_pytorch_crf(self, finish, tmp_path):
        """The file alone, as on the Hub: the hint names pytorch-crf, not the project whose name is our import."""
        path = Path(modeling_ifaformer.crf.__file__)
        program = f"import sys, runpy; sys.modules['torchcrf'] = None; runpy.run_path({str(path)!r})"
        (tmp_path / "program.py").write_text(program)
        result = finish([sys.executable, tmp_path / "program.py"], exit_code=1)
        last_line = result.stderr.strip().splitlines()[-1]
        assert last_line.startswith("ImportError:") and "pip install pytorch-crf" in last_line
        assert "`torchcrf` is another project" in last_line


def test_a_replica_of_data_parallel_scores_too():
    """Replicas have the parameters as plain attributes, and no named parameters."""
    crf = LinearChainCRF(3)
    replica = crf._replicate_for_data_parallel()
    for name, parameter in crf.named_parameters():
        setattr(replica, name, parameter.detach())
    emissions, tags, mask = torch.randn(2, 4, 3), torch.zeros(2, 4, dtype=torch.long), torch.ones(2, 4).bool()
    torch.testing.assert_close(replica(emissions, tags, mask), crf(emissions, tags, mask).detach())
