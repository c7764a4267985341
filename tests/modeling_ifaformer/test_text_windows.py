import pytest
import torch

from modeling_ifaformer import IFAformerForTokenClassification, IFAformerModel
from modeling_ifaformer.text_windows import TextWindows


LABELS = {"id2label": dict(enumerate(("O", "B-PER", "I-PER", "B-LOC", "I-LOC")))}
MASKS = ("image_mask", "aux_crop_mask", "rcnn_crop_mask")


def mask_of(*lengths, left=0):
    """(B, longest): so many real tokens, behind so many padded ones in the rows that are shorter."""
    mask = torch.zeros(len(lengths), max(lengths), dtype=torch.bool)
    for row, length in enumerate(lengths):
        start = min(left, max(lengths) - length)
        mask[row, start : start + length] = True
    return mask


def make_model(config, seed=0):
    torch.manual_seed(seed)
    model = IFAformerForTokenClassification(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return model


class TestWindows:
    def test_each_window_has_both_ends_and_a_part(self):
        windows = TextWindows(mask_of(9, 4), 6)
        assert windows.rows.tolist() == [0, 0, 0, 1]
        of_windows = windows.positions.masked_fill(~windows.mask, -1).tolist()
        # parts of 4 of the 7 tokens between the ends, 2 further each time, and the last part
        assert of_windows == [[0, 1, 2, 3, 4, 8], [0, 3, 4, 5, 6, 8], [0, 4, 5, 6, 7, 8], [0, 1, 2, 3, -1, -1]]

    def test_the_middle_of_a_window_wins(self):
        windows = TextWindows(mask_of(9, 4), 6)
        numbers = torch.arange(4 * 6, dtype=torch.float).view(4, 6, 1)  # 10 * window + place, so to say
        merged = windows.merge(numbers).squeeze(2)
        # Token 4 stands as far from the middle of the first window as from that of the second one.
        assert merged[0].tolist() == [0, 1, 2, 3, 8, 9, 15, 16, 17]
        assert merged[1].tolist() == [18, 19, 20, 21, 0, 0, 0, 0, 0]

    @pytest.mark.parametrize("left", [0, 50])
    @pytest.mark.parametrize("length", [3, 4, 5, 8, 20])
    def test_every_token_comes_from_a_window_that_holds_it(self, length, left):
        mask = mask_of(3, 21, 40, 1, 8, left=left)
        windows = TextWindows(mask, length)
        assert windows.positions.shape[1] <= length
        names = torch.arange(mask.numel()).view(*mask.shape)
        of_windows = torch.cat([part["input_ids"] for part in windows.parts({"input_ids": names})])
        merged = windows.merge(of_windows[..., None].float()).squeeze(2)
        assert torch.equal(merged[mask], names[mask].float()) and not merged[~mask].any()


@pytest.mark.parametrize("kind", ["corrected", "mkgformer", "modernbert and siglip"])
class TestModel:
    def test_a_text_that_fits_is_read_as_before(self, make_config, make_inputs, kind):
        inputs = make_inputs()
        inputs["crf_mask"] = inputs["attention_mask"].bool()
        plain, windowed = (
            make_model(make_config(kind, text_window=window, **LABELS))(**inputs) for window in (None, 7)
        )
        assert torch.equal(plain.logits, windowed.logits) and torch.equal(plain.tag_ids, windowed.tag_ids)

    def test_windows_are_read_as_texts_of_their_own(self, make_config, make_inputs, kind):
        model, inputs = make_model(make_config(kind, text_window=5, **LABELS)), make_inputs()
        real = inputs["attention_mask"].bool()
        outputs = model(**inputs, crf_mask=real)
        assert outputs.logits.shape == (3, 7, 5)
        pictures = {name: of[:1] for name, of in inputs.items() if name not in ("input_ids", "attention_mask")}
        ids = inputs["input_ids"][:1]
        windows = (([0, 1, 2, 3, 6], [0, 1, 2]), ([0, 2, 3, 4, 6], [3]), ([0, 3, 4, 5, 6], [4, 5, 6]))
        for part, kept in windows:
            alone = model(input_ids=ids[:, part], crf_mask=torch.ones(1, 5, dtype=torch.bool), **pictures).logits[0]
            places = [part.index(token) for token in kept]
            torch.testing.assert_close(outputs.logits[0, kept], alone[places], rtol=1e-4, atol=1e-5)
        short = {
            name: of[1:2, :5] if name in ("input_ids", "attention_mask") else of[1:2] for name, of in inputs.items()
        }
        alone = model(**short, crf_mask=real[1:2, :5]).logits[0]
        torch.testing.assert_close(outputs.logits[1, :5], alone, rtol=1e-4, atol=1e-5)
        assert torch.equal(outputs.tag_ids, model.crf.viterbi_decode(outputs.logits, real))

    def test_words_behind_the_tower_s_positions_are_learnt(self, make_config, make_inputs, kind):
        model = make_model(make_config(kind, text_window=5, word_shapes=True, **LABELS)).train()
        ids = torch.arange(1, 81).view(1, 80)
        inputs = {"input_ids": ids, "word_shape_ids": ids % 10, "pixel_values": make_inputs()["pixel_values"][:1]}
        loss = model(**inputs, labels=torch.ones(1, 80, dtype=torch.long)).loss
        loss.backward()
        assert model.get_input_embeddings().weight.grad[1:81].abs().sum(dim=1).gt(0).all()

    def test_states_of_windows_are_not_given(self, make_config, make_inputs, kind):
        inputs = make_inputs()
        inputs["crf_mask"] = inputs["attention_mask"].bool()
        config = make_config(kind, text_window=6, attn_implementation="eager", **LABELS)
        with pytest.raises(ValueError, match="output_hidden_states=True needs texts of at most 6 tokens"):
            make_model(config)(**inputs, output_hidden_states=True)
        config.output_attentions = True
        with pytest.raises(ValueError, match="output_attentions=True needs texts of at most 6 tokens"):
            make_model(config)(**inputs)


def test_many_windows_are_read_some_at_a_time(make_config, make_inputs, monkeypatch):
    model, inputs = make_model(make_config(text_window=5, **LABELS)), make_inputs()
    inputs["crf_mask"] = inputs["attention_mask"].bool()
    expected = model(**inputs).logits
    monkeypatch.setattr("modeling_ifaformer.text_windows.WINDOWS_AT_ONCE", 2)
    torch.testing.assert_close(model(**inputs).logits, expected)


def test_wrong_inputs_of_long_texts_are_named(make_config, make_inputs):
    model, inputs = make_model(make_config(text_window=5, **LABELS)), make_inputs()
    inputs["crf_mask"] = inputs["attention_mask"].bool()
    with pytest.raises(ValueError, match="pixel_values must have 3 rows, one for each text, got 2"):
        model(**{**inputs, "pixel_values": inputs["pixel_values"][:2]})
    inputs["attention_mask"][1] = 0
    with pytest.raises(ValueError, match=r"attention_mask is all zeros in rows \[1\]"):
        model(**inputs)


def test_bare_models_read_texts_as_a_whole(make_config, make_inputs):
    model = IFAformerModel(make_config(text_window=5)).eval()
    assert model(**make_inputs()).last_hidden_state.shape == (3, 7, 24)


@pytest.mark.parametrize("system", ["umt", "visual_bert", "vilbert", "co_attention"])
def test_baselines(baseline, baseline_inputs, system):
    whole, windowed = (baseline(system, text_window=window) for window in (7, 5))
    inputs = baseline_inputs(system)
    expected, outputs = whole(**inputs), windowed(**inputs)
    torch.testing.assert_close(outputs.logits[1, :5], expected.logits[1, :5], rtol=1e-4, atol=1e-5)
    assert not torch.allclose(outputs.logits[0], expected.logits[0]) and outputs.tag_ids.shape == (3, 7)
    part = {"input_ids": inputs["input_ids"][:1, [0, 1, 2, 3, 6]], "crf_mask": torch.ones(1, 5, dtype=torch.bool)}
    texts = ("input_ids", "attention_mask", "crf_mask", "token_type_ids")
    part |= {name: of[:1] for name, of in inputs.items() if name not in texts}
    alone = windowed(**part).logits[0]
    torch.testing.assert_close(outputs.logits[0, :3], alone[:3], rtol=1e-4, atol=1e-5)
    long = {"input_ids": torch.arange(1, 81).view(1, 80), "crf_mask": torch.ones(1, 80, dtype=torch.bool)}
    assert baseline(system)(**long).tag_ids.shape == (1, 80)
