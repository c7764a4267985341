"""What a context may be, and where it stands behind its text."""

import pytest
import torch
from transformers import AutoProcessor, BertweetTokenizer, RobertaConfig, RobertaTokenizer

from modeling_ifaformer import IFAformerForRelationExtraction, IFAformerForTokenClassification
from processing import IFAformerProcessor, base_processor
from processing.context import WRONG_CONTEXT, add_contexts, context_words, pair_form, read_context
from processing.features.tokenizer_training import make_word_tokenizer, train_wordpiece
from processing.labels import label_maps
from processing.problems import NO_UNICODE, ProblemError
from processing.tokenizing import encode_words, join_words


CAPTION = {"kind": "caption", "text": "the team playing"}
TEXTS = ["Jordan met Paris in New York City.", "Chelsea!"]


class TestReadContext:
    @pytest.mark.parametrize(
        ("given", "parts"),
        [
            (None, []),
            ("a dog", [(None, "a dog")]),
            ("  ", []),
            (CAPTION, [("caption", "the team playing")]),
            (["a", {"text": "b"}, {"kind": "", "text": "c"}, CAPTION], [(None, part) for part in "abc"]),
            (({"kind": None, "text": "a"}, {"kind": "ocr", "text": None}), [(None, "a")]),
        ],
    )
    def test_forms(self, given, parts):
        read = [(part["kind"], part["text"]) for part in read_context(given)]
        assert read == (parts if not isinstance(given, list) else [*parts, ("caption", "the team playing")])

    @pytest.mark.parametrize(
        ("given", "item"),
        [(5, None), ({"caption": "a"}, None), (["a", 5], 1), ([{"kind": 1, "text": "a"}], 0), ([["a"]], 0)],
    )
    def test_what_is_none(self, given, item):
        with pytest.raises(ProblemError) as raised:
            read_context(given)
        problem = raised.value.problem
        assert (problem.kind, problem.column, problem.item) == (WRONG_CONTEXT, "context", item)

    def test_nothing_in_a_list(self):
        assert read_context([None, {"kind": "ocr", "text": None}, "a"]) == [{"kind": None, "text": "a"}]

    def test_half_a_character(self):
        with pytest.raises(ProblemError, match=NO_UNICODE):
            read_context(["\ud800"])

    def test_words(self):
        assert context_words([CAPTION, {"kind": None, "text": "a #tag!"}]) == (
            ["caption", ":", "the", "team", "playing", "a", "#tag", "!"]
        )


@pytest.fixture(scope="module")
def tokenizers(tmp_path_factory):
    """WordPiece, byte-level BPE, and BERTweet's, which is Python only."""
    folder = tmp_path_factory.mktemp("bertweet")
    (folder / "vocab.txt").write_text("Jordan 1\nmet 1\na 1\n")
    (folder / "bpe.codes").write_text("m e 1\n")
    letters = ["<s>", "<pad>", "</s>", "<unk>", "<mask>", "\u0120", *"Jordanmet"]
    return {
        "wordpiece": train_wordpiece(["Jordan", "met", "a"], vocab_size=60),
        "bytes": RobertaTokenizer(
            vocab={token: index for index, token in enumerate(dict.fromkeys(letters))},
            merges=[],
            add_prefix_space=True,
        ),
        "python": BertweetTokenizer(
            vocab_file=str(folder / "vocab.txt"), merges_file=str(folder / "bpe.codes"), normalization=False
        ),
    }


class TestPairs:
    @pytest.mark.parametrize(("name", "segment"), [("wordpiece", 1), ("bytes", 0), ("python", 0)])
    def test_a_pair_as_the_tokenizer_builds_it(self, tokenizers, name, segment):
        tokenizer = tokenizers[name]
        assert pair_form(tokenizer).segment == segment
        encoded = encode_words(tokenizer, [join_words(["Jordan", "met"])])
        (with_context,) = add_contexts(tokenizer, encoded, [read_context("met a")], 9, None)
        if tokenizer.is_fast:
            expected = tokenizer(["Jordan", "met"], ["met", "a"], is_split_into_words=True)["input_ids"]
        else:
            parts = [encode_words(tokenizer, [join_words(words)])[0].input_ids[1:-1] for words in (["Jordan", "met"],)]
            parts.append(encode_words(tokenizer, [join_words(["met", "a"])])[0].input_ids[1:-1])
            expected = tokenizer.build_inputs_with_special_tokens(*parts)
        assert with_context.input_ids == expected
        number = len(encoded[0].input_ids)
        assert with_context.word_ids == [*encoded[0].word_ids, *[None] * (len(expected) - number)]
        assert with_context.num_context_tokens == len(expected) - number

    def test_a_tokenizer_that_puts_nothing_between(self):
        with pytest.raises(ValueError, match="puts no token between a text and its context"):
            pair_form(make_word_tokenizer(["a", "b"]))

    def test_the_text_goes_first(self, tokenizers):
        tokenizer = tokenizers["wordpiece"]
        texts = [join_words(["Jordan"] * number) for number in (2, 6, 7)]
        plain = encode_words(tokenizer, texts)
        contexts = [read_context("a a a a a")] * 3
        found = add_contexts(tokenizer, plain, contexts, 4, 10)
        assert [text.num_cut_context for text in found] == [1, 4, 5]
        assert [text.num_context_tokens for text in found] == [5, 2, 0]
        for before, after in zip(plain, found, strict=True):
            assert after.input_ids[: len(before.input_ids)] == before.input_ids

    def test_special_tokens_do_not_stand_in_a_context(self, tokenizers):
        tokenizer = tokenizers["wordpiece"]
        reserved = tokenizer.convert_tokens_to_ids(["met"])
        plain = encode_words(tokenizer, [join_words(["Jordan"])])
        (found,) = add_contexts(
            tokenizer, plain, [["x"]] and [read_context("a [SEP] met \u4e00 a")], 9, None, reserved
        )
        tokens = tokenizer.convert_ids_to_tokens(found.input_ids[-found.num_context_tokens :])
        assert [tokens[0], *tokens[-2:]] == ["a", "a", "[SEP]"] and "met" not in tokens and "[UNK]" in tokens
        assert tokens.count("[SEP]") == 1 and found.num_cut_context > 0


class TestProcessor:
    def test_tokens_segments_and_masks(self, make_processor):
        processor = make_processor(max_context_length=12)
        labels = [["O"] * len(example.words) for example in processor.encode_text(TEXTS)]
        with_contexts = processor(TEXTS, context=[CAPTION, None], word_labels=labels)
        plain = make_processor()(TEXTS, word_labels=labels)
        assert plain.keys() | {"context_mask"} == with_contexts.keys()
        for name in ("input_ids", "attention_mask", "token_type_ids", "crf_mask", "labels"):
            assert with_contexts[name][1] == plain[name][1]
            assert with_contexts[name][0][: len(plain[name][0])] == plain[name][0]
        number = len(plain["input_ids"][0])
        added = len(with_contexts["input_ids"][0]) - number
        tokens = processor.tokenizer.convert_ids_to_tokens(with_contexts["input_ids"][0][number:])
        assert "".join(tokens).replace("##", "").endswith("theteamplay[SEP]") and added == 13
        assert with_contexts["context_mask"] == [[False] * number + [True] * added, [False] * len(plain["labels"][1])]
        for name, value in {"attention_mask": 1, "token_type_ids": 1, "crf_mask": False, "labels": -100}.items():
            assert with_contexts[name][0][number:] == [value] * added

    def test_without_a_length_nothing_changes_and_it_is_said(self, make_processor, monkeypatch):
        said = []
        monkeypatch.setattr(base_processor, "warn_once", lambda logger, message: said.append(message))
        for processor in (make_processor(), make_processor(max_context_length=0)):
            assert processor(TEXTS, context=[CAPTION, 5]).data == processor(TEXTS).data
        assert processor.max_context_length is None and "no max_context_length" in said[0] and len(said) == 2

    def test_the_room_is_that_of_max_length_and_of_the_window(self, make_processor, make_config):
        number = len(make_processor()(TEXTS[0])["input_ids"][0])
        processor = make_processor(max_context_length=30, max_length=number + 5)
        assert len(processor(TEXTS[0], context="the " * 30)["input_ids"][0]) == number + 5
        assert len(processor(TEXTS[0], context="the " * 30, truncation=False)["input_ids"][0]) == number + 31
        assert len(processor(TEXTS[0], context="the " * 30, max_length=number)["input_ids"][0]) == number
        config = make_config(text_window=number + 3)
        fitting = make_processor(max_context_length=30).for_model_of(config)
        assert fitting.max_pair_length == number + 3 and fitting.max_length is None
        assert len(fitting(TEXTS[0], context="the " * 30)["input_ids"][0]) == number + 3
        long = " ".join(["Jordan"] * 99)
        assert fitting(long, context="the")["input_ids"] == make_processor()(long)["input_ids"]

    def test_it_is_saved(self, make_processor, tmp_path):
        make_processor(max_context_length=7, max_pair_length=50).save_pretrained(tmp_path)
        for loaded in (IFAformerProcessor.from_pretrained(tmp_path), AutoProcessor.from_pretrained(tmp_path)):
            assert (loaded.max_context_length, loaded.max_pair_length) == (7, 50)

    def test_what_does_not_fit(self, make_processor, make_config):
        with pytest.raises(ValueError, match="label scheme deepke the CRF scores every token"):
            make_processor(label_scheme="deepke", use_whole_image=False, max_context_length=7)
        with pytest.raises(ValueError, match="variant deepke pads all texts to one length"):
            make_processor(max_context_length=7).for_model_of(make_config("deepke"))
        text_config = {**make_config().text_config.to_dict(), "type_vocab_size": 1}
        with pytest.raises(ValueError, match=r"the text tower has 1 \(type_vocab_size\)"):
            make_processor(max_context_length=7).for_model_of(make_config(text_config=text_config))
        with pytest.raises(ValueError, match="max_context_length must be at least 1, got -1"):
            make_processor(max_context_length=-1)
        with pytest.raises(ProblemError, match="Text 1: context: context is a text, or a list"):
            make_processor(max_context_length=7)(TEXTS, context=[None, 5])
        with pytest.raises(ValueError, match="2 texts but 1 entries in context"):
            make_processor(max_context_length=7)(TEXTS, context=["a"])


ROBERTA = {"hidden_size": 24, "num_attention_heads": 3, "num_hidden_layers": 3, "intermediate_size": 37}
ROBERTA |= {"vocab_size": 90, "max_position_embeddings": 60, "pad_token_id": 0, "type_vocab_size": 2}


@pytest.mark.parametrize(
    "kind", ["corrected", "mkgformer", "distilbert and dinov2", "modernbert and siglip", "roberta"]
)
def test_models_read_contexts(make_config, make_processor, kind):
    """Also towers without segments. What the mask leaves out is as if it were not there, and no tag is given to it."""
    torch.manual_seed(0)
    processor = make_processor(max_context_length=9)
    of_kind = {"text_config": RobertaConfig(**ROBERTA)} if kind == "roberta" else {"kind": kind}
    config = make_config(**of_kind, **label_maps(processor.labels))
    model, processor = IFAformerForTokenClassification(config).eval(), processor.for_model_of(config)
    plain = processor(TEXTS, return_tensors="pt")
    inputs = processor(TEXTS, context=[CAPTION, None], return_tensors="pt")
    length, is_real = plain["input_ids"].shape[1], plain["attention_mask"].bool()
    assert "context_mask" not in inputs and inputs["input_ids"].shape[1] > length
    masked = {**inputs, "attention_mask": torch.zeros_like(inputs["attention_mask"])}
    masked["attention_mask"][:, :length] = plain["attention_mask"]
    with torch.no_grad():
        expected, read, left_out = (model(**of) for of in (plain, inputs, masked))
    assert (read.tag_ids[:, length:] == -100).all()
    torch.testing.assert_close(left_out.logits[:, :length][is_real], expected.logits[is_real], atol=1e-5, rtol=1e-4)
    assert not torch.allclose(read.logits[0, :length], expected.logits[0], atol=1e-5)
    of_second = is_real[1].nonzero().squeeze(1)
    torch.testing.assert_close(read.logits[1, of_second], expected.logits[1, of_second], atol=1e-5, rtol=1e-4)


def test_relations_have_contexts_too(make_config, make_processor):
    processor = make_processor(relations=["None", "peer"], max_context_length=9, max_length=40)
    head, _, tail, _ = processor.add_entity_markers()
    config = make_config(**processor.config_fields)
    model = IFAformerForRelationExtraction(config).eval()
    pair = {"heads": {"start": 0, "end": 1}, "tails": {"start": 2, "end": 3}}
    # What looks like a marker is none in a context.
    inputs = processor(TEXTS[0], context="<s> the team <o> !", **pair, return_tensors="pt")
    plain = processor(TEXTS[0], **pair, return_tensors="pt")
    assert inputs["input_ids"].shape[1] > plain["input_ids"].shape[1]
    assert [(inputs["input_ids"] == marker).sum() for marker in (head, tail)] == [1, 1]
    with torch.no_grad():
        assert not torch.equal(model(**inputs).logits, model(**plain).logits)
