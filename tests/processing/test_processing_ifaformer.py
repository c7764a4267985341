import copy
import json
import os
import pickle
from concurrent.futures import ThreadPoolExecutor
from inspect import signature

import numpy as np
import pytest
import torch
from datasets import ClassLabel, Dataset, DatasetDict, Features, List
from PIL import Image
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers
from transformers import (
    AutoModel,
    AutoTokenizer,
    BertConfig,
    BertModel,
    BertweetTokenizer,
    BitImageProcessorPil,
    CLIPVisionModel,
    Dinov2Config,
    ModernBertConfig,
    PreTrainedTokenizerFast,
    RobertaConfig,
    RobertaTokenizer,
    SiglipImageProcessorPil,
    SiglipVisionConfig,
)

from modeling_ifaformer import IFAformerConfig, IFAformerForRelationExtraction, IFAformerForTokenClassification
from processing import IFAformerProcessor
from processing.base_processor import SHARED_FIELDS
from processing.entity_markers import NO_ROOM, NO_SPAN, NOT_ONCE
from processing.images import ImageError
from processing.labels import label_maps
from processing.tokenizing import NO_TOKENS, NO_WORDS


CROPS = {"num_aux_crops": 3, "aux_crop_size": 16, "num_rcnn_crops": 2, "rcnn_crop_size": 8}
TOWER = {"hidden_size": 24, "num_attention_heads": 3, "num_hidden_layers": 2}
WORDS = ["Jordan", "unaffable", "\ufe0f", "in", "New", "York"]
TAGS = ["B-PER", "O", "O", "O", "B-LOC", "I-LOC"]


def picture(color="red", size=(40, 30)):
    return Image.new("RGB", size, color)


def decode(processor, ids):
    return processor.tokenizer.convert_ids_to_tokens(ids)


class TestText:
    def test_shapes_of_words(self, make_processor):
        processor = make_processor(word_shapes=True)
        words = ["@Jordan", "met", "NYC", "A", "iPhone", "2017", "#", "http://t.co/a", "7th", "北京", "unaffable"]
        data = processor(text=words, is_split_into_words=True)
        (of_tokens,) = data["word_shape_ids"]
        word_ids = processor.encode_text([words], True)[0].word_ids
        expected = dict(enumerate([7, 4, 6, 5, 8, 3, 2, 1, 4, 9, 4]))
        assert of_tokens == [expected.get(word, 0) for word in word_ids] and len(of_tokens) == len(
            data["input_ids"][0]
        )
        assert "word_shape_ids" in processor.model_input_names
        assert processor.config_fields["word_shapes"] and not make_processor().config_fields["word_shapes"]
        batch = processor(text=[words, ["met"]], is_split_into_words=True, return_tensors="pt")
        assert batch["word_shape_ids"].tolist()[1][:3] == [0, 4, 0] and batch["word_shape_ids"][1, 3:].sum() == 0
        assert "word_shape_ids" not in make_processor()(text=words, is_split_into_words=True)

    def test_markers_have_no_shape(self, make_processor):
        processor = make_processor(word_shapes=True, relations=["None", "peer"])
        processor.add_entity_markers()
        data = processor(text=["NYC met Paris"], heads=[{"start": 0, "end": 1}], tails=[{"start": 2, "end": 3}])
        (tokens,) = [processor.tokenizer.convert_ids_to_tokens(ids) for ids in data["input_ids"]]
        shapes = [shape for token, shape in zip(tokens, data["word_shape_ids"][0], strict=True) if token[0] in "<["]
        assert shapes == [0] * 6 and set(data["word_shape_ids"][0]) == {0, 6, 4, 7}

    def test_first_tokens_are_scored_in_the_word_scheme(self, make_processor):
        processor = make_processor()
        data = processor(text=WORDS, word_labels=TAGS, is_split_into_words=True)
        tokens, [mask], [labels] = decode(processor, data["input_ids"][0]), data["crf_mask"], data["labels"]
        assert any(token.startswith("##") for token in tokens)
        scored = [
            (token, processor.labels[label]) for token, on, label in zip(tokens, mask, labels, strict=True) if on
        ]
        assert [label for _, label in scored] == ["B-PER", "O", "O", "B-LOC", "I-LOC"]  # one word has no token
        assert not any(token.startswith("##") or token.startswith("[") for token, _ in scored)
        assert [label for on, label in zip(mask, labels, strict=True) if not on] == [-100] * (len(tokens) - 5)

    def test_every_token_is_scored_in_the_deepke_scheme(self, make_processor):
        processor = make_processor(label_scheme="deepke")
        data = processor(text=WORDS, word_labels=TAGS, is_split_into_words=True)
        tokens = decode(processor, data["input_ids"][0])
        labels = [processor.labels[label] for label in data["labels"][0]]
        assert data["crf_mask"] == [[True] * len(tokens)]
        assert (labels[0], labels[-1]) == ("[CLS]", "[SEP]")
        assert [label for label in labels if label not in ("[CLS]", "[SEP]", "X")] == [*TAGS[:2], *TAGS[3:]]
        assert [token.startswith("##") for token in tokens] == [label == "X" for label in labels]

    def test_labels_by_name_and_by_index_are_the_same(self, make_processor):
        processor = make_processor()
        ids = [processor.tags.index(tag) for tag in TAGS]
        by_index = processor(text=[WORDS], word_labels=[ids])
        assert by_index["labels"] == processor(text=[WORDS], word_labels=[TAGS])["labels"]

    def test_forms_of_text(self, make_processor):
        processor = make_processor()
        expected = processor(text=[["Jordan", "!"]])["input_ids"]
        assert processor(text="Jordan!")["input_ids"] == expected
        assert processor(text=["Jordan!"])["input_ids"] == expected
        assert processor(text=["Jordan", "!"], is_split_into_words=True)["input_ids"] == expected
        assert len(processor(text=["Jordan", "!"])["input_ids"]) == 2
        with pytest.raises(ValueError, match="mixes strings and lists of words"):
            processor(text=["Jordan", ["Paris"]])
        with pytest.raises(ValueError, match="needs a list of words, got a string"):
            processor(text="Jordan", is_split_into_words=True)

    def test_truncation_counts_what_is_lost(self, make_processor):
        processor = make_processor(max_length=4)
        [encoded] = processor.encode_text([WORDS], is_split_into_words=True)
        assert len(encoded.input_ids) == 4
        assert decode(processor, encoded.input_ids)[-1] == "[SEP]"
        kept = set(encoded.word_ids) - {None}
        assert 0 in kept and encoded.num_cut_words == 5 - len(kept), "one of the six words has no token to lose"

    @pytest.mark.parametrize("text", ["", "  \n", [[]]])
    def test_empty_text(self, make_processor, text):
        with pytest.raises(ValueError, match=rf"^Text 0 \(.*\): {NO_WORDS}$"):
            make_processor()(text=text)

    @pytest.mark.parametrize("is_split", [None, True, False])
    def test_no_text_at_all(self, make_processor, is_split):
        with pytest.raises(ValueError, match="text is empty"):
            make_processor()(text=[], is_split_into_words=is_split)

    def test_a_tokenizer_of_bytes_must_know_that_it_reads_words(self, make_processor):
        vocabulary = {token: index for index, token in enumerate(("<s>", "<pad>", "</s>", "<unk>", "a", "\u0120"))}
        arguments = {"vocab": vocabulary, "merges": []}
        with pytest.raises(ValueError, match="Load it with add_prefix_space=True"):
            make_processor(tokenizer=RobertaTokenizer(**arguments))
        processor = make_processor(tokenizer=RobertaTokenizer(**arguments, add_prefix_space=True))
        [encoded] = processor.encode_text([["a", "a"]], is_split_into_words=True)
        assert encoded.word_ids == [None, 0, 0, 1, 1, None] or encoded.word_ids == [None, 0, 1, None]
        assert processor(text="a a")["input_ids"] == processor(text=[["a", "a"]])["input_ids"]

    def test_text_without_a_token(self, make_processor):
        with pytest.raises(ValueError, match=rf"^Text 1 \(.*\): {NO_TOKENS}$"):
            make_processor()(text=[["Jordan"], ["\ufe0f", "\u200d"]])

    def test_more_words_than_labels(self, make_processor):
        with pytest.raises(ValueError, match=r"^Text 1 \('New York'\): there are 2 words but 1 labels"):
            make_processor()(text=[["Jordan"], ["New", "York"]], word_labels=[["B-PER"], ["B-LOC"]])

    @pytest.mark.parametrize("label", ["B-FILM", 9, -1, None])
    def test_unknown_label(self, make_processor, label):
        with pytest.raises(ValueError, match=r"^Text 0 .*: the labels .* are unknown; known are \['O', 'B-MISC'"):
            make_processor()(text=[["Jordan"]], word_labels=[[label]])

    def test_batch_sizes(self, make_processor):
        with pytest.raises(ValueError, match="2 texts but 1 entries in images"):
            make_processor()(text=["Jordan", "Paris"], images=[picture()])

    def test_unknown_argument(self, make_processor):
        with pytest.raises(ValueError, match=r"Unknown arguments \['crops'\]"):
            make_processor()(text="Jordan", crops=[])

    def test_a_tokenizer_without_word_ids_aligns_alike(self, tmp_path, make_processor):
        """BERTweet's tokenizer is Python only."""
        (tmp_path / "vocab.txt").write_text(
            "".join(f"{piece} 1\n" for piece in ("Jor@@", "dan", "in", "New", "York", "un@@", "aff@@", "able"))
        )
        (tmp_path / "bpe.codes").write_text(
            "J o 1\nJo r 1\nd a 1\nda n</w> 1\ni n</w> 1\nN e 1\nNe w</w> 1\nY o 1\nYo r 1\nYor k</w> 1\n"
        )
        tokenizer = BertweetTokenizer(vocab_file=str(tmp_path / "vocab.txt"), merges_file=str(tmp_path / "bpe.codes"))
        assert not tokenizer.is_fast
        processor = make_processor(tokenizer=tokenizer, max_length=6)
        [encoded] = processor.encode_text([["Jordan", "in", "New", "York"]], is_split_into_words=True)
        assert decode(processor, encoded.input_ids) == ["<s>", "Jor@@", "dan", "in", "New", "</s>"]
        assert encoded.word_ids == [None, 0, 0, 1, 2, None]
        data = processor(text=[["Jordan", "in"]], word_labels=[["B-PER", "O"]])
        assert data["crf_mask"] == [[False, True, False, True, False]]


class TestPictures:
    def test_three_sizes_and_masks(self, make_processor):
        batch = make_processor()(
            text=["Jordan", "Paris in New York", "Chelsea"],
            images=[picture(), None, picture("blue")],
            aux_crops=[[picture("green")], None, [picture("blue"), picture("red")]],
            rcnn_crops=[[], [], [picture("white")]],
            return_tensors="pt",
        )
        assert batch["pixel_values"].shape == (3, 3, 24, 24)
        assert batch["image_mask"].tolist() == [True, False, True]
        assert batch["aux_pixel_values"].shape == (3, 2, 3, 16, 16)
        assert batch["aux_crop_mask"].tolist() == [[True, False], [False, False], [True, True]]
        assert batch["rcnn_pixel_values"].shape == (3, 1, 3, 8, 8)
        assert batch["rcnn_crop_mask"].tolist() == [[False], [False], [True]]
        assert not batch["aux_pixel_values"][~batch["aux_crop_mask"]].any()
        mean = torch.tensor([0.48145466, 0.4578275, 0.40821073])
        std = torch.tensor([0.26862954, 0.26130258, 0.27577711])
        blue = (torch.tensor([0.0, 0, 1]) - mean) / std
        torch.testing.assert_close(batch["aux_pixel_values"][2, 0].mean(dim=(1, 2)), blue, rtol=1e-4, atol=1e-4)

    def test_what_a_whole_batch_lacks_is_left_out(self, make_processor):
        batch = make_processor()(
            text=["Jordan"], images=[None], aux_crops=[[]], rcnn_crops=[None], return_tensors="pt"
        )
        assert set(batch) == {"input_ids", "attention_mask", "token_type_ids", "crf_mask"}

    def test_whole_image_only_where_configured(self, make_processor):
        assert "pixel_values" not in make_processor(use_whole_image=False)(text="Jordan", images=picture())

    def test_a_single_example(self, make_processor):
        batch = make_processor()(
            text="Jordan", images=picture(), aux_crops=[picture(), picture()], return_tensors="pt"
        )
        assert batch["aux_crop_mask"].tolist() == [[True, True]]

    def test_more_crops_than_allowed(self, make_processor):
        with pytest.raises(ValueError, match="Example 0 has 3 pictures in rcnn_crops, at most 2 are allowed"):
            make_processor()(text="Jordan", rcnn_crops=[picture()] * 3)

    def test_a_picture_that_is_none(self, make_processor, tmp_path):
        path = tmp_path / "tweet.jpg"
        path.write_text("not a picture")
        with pytest.raises(ImageError, match=r"Example 0: .*tweet.jpg: aux_crops 1: "):
            make_processor()(text="Jordan", aux_crops=[picture(), path])

    def test_path_array_and_picture_give_the_same(self, make_processor, tmp_path):
        image = Image.fromarray(np.random.default_rng(0).integers(0, 255, (30, 40, 3), dtype=np.uint8))
        image.save(tmp_path / "a.png")
        forms = [image, np.asarray(image), str(tmp_path / "a.png"), (tmp_path / "a.png").read_bytes()]
        pixels = make_processor()(text=["Jordan"] * 4, images=forms, return_tensors="pt")["pixel_values"]
        assert all(torch.equal(pixels[0], other) for other in pixels)


class TestRelations:
    RELATIONS = ("None", "/per/loc/place_of_residence", "/per/per/peer")
    HEAD, TAIL = {"start": 0, "end": 1}, {"start": 2, "end": 3}

    @pytest.fixture
    def make(self, make_processor):
        def make(**kwargs):
            processor = make_processor(relations=self.RELATIONS, **kwargs)
            processor.add_entity_markers()
            return processor

        return make

    def test_tokens(self, make):
        data = make()(text=["Jordan in Paris"], heads=[self.HEAD], tails=[self.TAIL], return_tensors="pt")
        words = " ".join(decode(make(), data["input_ids"][0].tolist())).replace(" ##", "")
        assert words == "[CLS] <s> jordan </s> in <o> paris </o> [SEP]"
        assert set(data) == {"input_ids", "attention_mask", "token_type_ids"}

    @pytest.mark.parametrize("is_split", [True, False])
    def test_a_long_text_is_cut_around_the_entities(self, make, is_split):
        processor = make(max_length=20)
        words = ["!"] * 20 + ["Jordan", "in", "Paris"] + ["."] * 20
        head, tail = {"start": 22, "end": 23}, {"start": 20, "end": 21}
        [ids] = processor(
            text=words if is_split else " ".join(words), heads=head, tails=tail, is_split_into_words=is_split
        )["input_ids"]
        assert len(ids) == 20
        cut = " ".join(decode(processor, ids)).replace(" ##", "")
        before, after = (cut.count(mark) for mark in "!.")
        assert before - after in (0, 1) and after > 0
        middle = "<o> jordan </o> in <s> paris </s>"
        assert cut == " ".join(["[CLS]", *"!" * before, middle, *"." * after, "[SEP]"])

    def test_without_room(self, make):
        head, tail = {"start": 0, "end": 1}, {"start": 3, "end": 4}
        [needed] = map(len, make()(text=["Jordan in the Paris"], heads=[head], tails=[tail])["input_ids"])
        texts = {"text": ["Jordan Paris", "Jordan in the Paris"], "heads": [self.HEAD, head]}
        texts["tails"] = [{"start": 1, "end": 2}, tail]
        assert len(make(max_length=needed)(**texts)["input_ids"][1]) == needed
        with pytest.raises(
            ValueError,
            match=rf"^Text 1 \('<s> Jordan </s> in the .*'\): {NO_ROOM} \(they take {needed - 2} tokens, there is "
            rf"room for {needed - 3}\)",
        ):
            make(max_length=needed - 1)(**texts)

    def test_the_published_code_cuts_the_end(self, make):
        words = ["Jordan", "in", *["!"] * 9]
        pair = {"heads": {"start": 1, "end": 2}, "tails": self.HEAD, "is_split_into_words": True}
        whole = make(label_scheme="deepke")(text=words, **pair)["input_ids"][0]
        processor = make(label_scheme="deepke", max_length=len(whole) - 3)
        assert processor(text=words, **pair)["input_ids"][0] == [*whole[:-4], whole[-1]]
        opening = whole.index(processor.marker_ids[0])
        with pytest.raises(ValueError, match=rf"{NOT_ONCE} \(its {opening + 1} tokens hold <s> 0 times\)"):
            make(label_scheme="deepke", max_length=opening + 1)(text=words, **pair)

    def test_a_row_without_room_for_its_entities_has_no_token(self, make):
        texts = [["Paris", "!", "Jordan"], ["Paris", *["!"] * 20, "Jordan"]]
        pairs = [self.HEAD] * 2, [self.TAIL, {"start": 21, "end": 22}]
        for scheme in ("word", "deepke"):
            for max_length, has_tokens in ((20, [True, False]), (None, [True, True])):
                encoded = make(label_scheme=scheme, max_length=max_length).tokenize_pairs(texts, *pairs)
                assert [bool(example.input_ids) for example in encoded] == has_tokens

    def test_the_negative_relation(self, make_processor, tmp_path):
        assert make_processor(relations=["peer", "None"]).negative_relation == "None"
        assert make_processor(relations=["peer"]).negative_relation is None
        processor = make_processor(relations=["peer", "none of them"], negative_relation="none of them")
        processor.save_pretrained(tmp_path)
        assert type(processor).from_pretrained(tmp_path).negative_relation == "none of them"
        with pytest.raises(ValueError, match="negative_relation must be one of the relations peer, got 'None'"):
            make_processor(relations=["peer"], negative_relation="None")

    def test_what_is_refused(self, make, make_processor):
        with pytest.raises(ValueError, match=f"^Text 0: tail: {NO_SPAN}"):
            make()(text="Jordan in Paris", heads=self.HEAD, tails={"start": 1, "end": 5})
        with pytest.raises(ValueError, match="heads and tails are needed"):
            make()(text="Jordan in Paris", heads=self.HEAD)
        with pytest.raises(ValueError, match="heads and tails are needed"):
            make()(text="Jordan in Paris")
        pair = {"heads": self.HEAD, "tails": self.TAIL}
        with pytest.raises(ValueError, match="word_labels are for entity recognition"):
            make()(text="Jordan in Paris", word_labels=["O"] * 3, **pair)
        with pytest.raises(ValueError, match="give the processor its relations"):
            make_processor()(text="Jordan in Paris", **pair)
        unprepared = make_processor(relations=self.RELATIONS)
        with pytest.raises(ValueError, match=r"markers </o>, </s>, <o>, <s> are no tokens .* add_entity_markers\(\)"):
            unprepared(text="Jordan in Paris", **pair)
        with pytest.raises(ValueError, match="no tokens of the tokenizer"):  # not a row that is skipped
            unprepared.tokenize_pairs([["a", "b", "c"]], [self.HEAD], [self.TAIL])

    def test_markers_that_the_tokenizer_uses_itself(self, make_processor):
        processor = make_processor(entity_markers=["[CLS]", "</s>", "<o>", "</o>"])
        with pytest.raises(ValueError, match=r"uses \['\[CLS\]'\] itself"):
            processor.add_entity_markers()

    def test_settings(self, make, make_config, make_processor, tmp_path):
        processor = make()
        assert processor.labels == list(self.RELATIONS) and processor.tags == []
        assert "crf_mask" not in processor.model_input_names and "crf_mask" in make_processor().model_input_names
        processor.save_pretrained(tmp_path)
        loaded = IFAformerProcessor.from_pretrained(tmp_path)
        assert loaded.labels == processor.labels and loaded.marker_ids == processor.marker_ids
        head, _, tail, _ = processor.marker_ids
        config = make_config(**label_maps(loaded.labels), head_marker_token_id=head, tail_marker_token_id=tail)
        loaded.check_config(config)
        config.head_marker_token_id, config.tail_marker_token_id = tail, head
        with pytest.raises(ValueError, match=rf"head_marker_token_id is {head} in the .* {tail} in .*; tail_marker"):
            loaded.check_config(config)
        with pytest.raises(ValueError, match="labels is "):
            make_processor().check_config(config)

    @pytest.mark.parametrize("relations", [[], ["None", "a", "a"]])
    def test_relations_that_are_none(self, make_processor, relations):
        with pytest.raises(ValueError, match="Relations must be distinct names"):
            make_processor(relations=relations)

    def test_one_task(self, make_processor):
        with pytest.raises(ValueError, match="not both"):
            make_processor(relations=self.RELATIONS, tags=["O"])
        with pytest.raises(ValueError, match="label_scheme must be one of"):
            make_processor(relations=self.RELATIONS, label_scheme="iob")

    @pytest.mark.parametrize("form", [torch.tensor, np.array, list])
    def test_from_logits_to_relations(self, make, make_processor, form):
        found = make().post_process_relations(form([[0.0, 0.0, 2.0], [5.0, -1.0, 0.0]]))
        assert [relation["relation"] for relation in found] == ["/per/per/peer", "None"]
        assert found[0]["score"] == pytest.approx(np.exp(2) / (np.exp(2) + 2))
        assert found[1]["score"] == pytest.approx(np.exp(5) / (np.exp(5) + np.exp(-1) + 1))
        left = make().post_process_relations(form([[0.0, 0.0, 2.0]]), form([[False, True, False]]))
        assert left == [{"relation": "/per/loc/place_of_residence", "score": pytest.approx(1 / (np.exp(2) + 2))}]
        with pytest.raises(ValueError, match=r"of shape \(batch_size, 3\), got \(1, 2\)"):
            make().post_process_relations(form([[0.0, 1.0]]))
        with pytest.raises(ValueError, match="has no relations: give the tag ids"):
            make_processor().post_process_relations(form([[0.0, 1.0]]))
        with pytest.raises(ValueError, match=r"has relations: give the logits to post_process_relations\(\)"):
            make().post_process_entities([[0]], "a")


class TestFromPretrained:
    @pytest.fixture
    def towers(self, make_config, tmp_path):
        """Folders of a vision tower without an image processor, and of a text tower with its tokenizer."""
        config = make_config()
        CLIPVisionModel(config.vision_config).save_pretrained(tmp_path / "vision")
        config.text_config.vocab_size = 90
        BertModel(config.text_config).save_pretrained(tmp_path / "text")
        return tmp_path / "vision", tmp_path / "text"

    def test_of_checkpoints_and_rows(self, towers, make_processor):
        vision, text = towers
        make_processor().tokenizer.save_pretrained(text)
        tags = ["O", "B-A", "I-A"]
        rows = Dataset.from_dict({"ner_tags": [[0]]}, Features({"ner_tags": List(ClassLabel(names=tags))}))
        for dataset in (rows, DatasetDict(train=rows)):
            processor = IFAformerProcessor.from_vision_text_pretrained(vision, text, dataset, **CROPS)
            assert processor.tags == tags and processor.relations is None
        assert processor.image_processor.crop_size == {"height": 24, "width": 24}
        model = IFAformerForTokenClassification.from_vision_text_pretrained(vision, text, **processor.config_fields)
        processor.check_config(model.config)
        batch = processor(text=["Jordan met Paris"], images=[picture()], aux_crops=[[picture()]], return_tensors="pt")
        assert model.eval()(**batch).tag_ids.shape == batch["input_ids"].shape

    @pytest.mark.parametrize(
        ("config", "image_processor", "size", "crop_sizes"),
        [
            (SiglipVisionConfig(**TOWER, patch_size=8, image_size=24), SiglipImageProcessorPil, 24, (128, 64)),
            (Dinov2Config(**TOWER, patch_size=14, image_size=56), BitImageProcessorPil, 28, (126, 70)),
        ],
        ids=["siglip", "dinov2"],
    )
    def test_of_another_vision_tower(self, tmp_path, make_processor, config, image_processor, size, crop_sizes):
        AutoModel.from_config(config).save_pretrained(tmp_path / "vision")
        square = {"height": size, "width": size}
        sizes = {"size": square} if image_processor is SiglipImageProcessorPil else {"crop_size": square}
        image_processor(**sizes).save_pretrained(tmp_path / "vision")
        processor = IFAformerProcessor.from_vision_text_pretrained(
            tmp_path / "vision", tokenizer=make_processor().tokenizer
        )
        assert (processor.aux_crop_size, processor.rcnn_crop_size) == crop_sizes
        assert processor.config_fields["image_size"] == size
        model = IFAformerForTokenClassification.from_vision_text_pretrained(
            tmp_path / "vision", text_config=TOWER, **processor.config_fields
        )
        processor.check_config(model.config)
        # Half red, half blue: what cuts out the middle sees both halves, but not the far ends.
        wide = Image.new("RGB", (120, 40), "green")
        wide.paste("red", (40, 0, 60, 40))
        wide.paste("blue", (60, 0, 80, 40))
        batch = processor(text=["Jordan met Paris"], images=[wide], aux_crops=[[picture()]], return_tensors="pt")
        assert batch["pixel_values"].shape == (1, 3, size, size)
        sees_the_ends = image_processor is SiglipImageProcessorPil
        left = batch["pixel_values"][0, :, size // 2, 0]
        assert (left.argmax().item() == 1) == sees_the_ends
        assert model.eval()(**batch).tag_ids.shape == batch["input_ids"].shape
        model.config.image_size = 56 if size == 28 else None
        processor.image_processor.size = processor.image_processor.crop_size = {"height": 8, "width": 8}
        with pytest.raises(ValueError, match=r"image_size is 8 in the processor, (56|24) in the configuration"):
            processor.check_config(model.config)

    def test_pictures_that_are_not_square(self, make_processor):
        processor = make_processor()
        processor.image_processor = SiglipImageProcessorPil(size={"height": 24, "width": 48})
        with pytest.raises(ValueError, match=r"SiglipImageProcessorPil must make square pictures .* 'width': 48"):
            processor(text=["Jordan"], images=[picture()])

    def test_relations_get_their_markers(self, towers, make_processor):
        vision, text = towers
        tokenizer = make_processor().tokenizer
        names = ["None", "peer"]
        rows = Dataset.from_dict({"relation": [0]}, Features({"relation": ClassLabel(names=names)}))
        processor = IFAformerProcessor.from_vision_text_pretrained(vision, dataset=rows, tokenizer=tokenizer, **CROPS)
        assert processor.relations == names and processor.negative_relation == "None"
        fields = processor.config_fields
        model = IFAformerForRelationExtraction.from_vision_text_pretrained(vision, text, **fields).eval()
        processor.check_config(model.config)
        assert model.config.text_config.vocab_size == len(tokenizer) == 94
        batch = processor(
            text=["Jordan met Paris"],
            heads=[{"start": 0, "end": 1}],
            tails=[{"start": 2, "end": 3}],
            return_tensors="pt",
        )
        assert model(**batch).logits.shape == (1, 2)

    def test_roberta_reads_words(self, towers, tmp_path):
        vocabulary = {token: index for index, token in enumerate(("<s>", "<pad>", "</s>", "<unk>", "a", "\u0120a"))}
        RobertaTokenizer(vocab=vocabulary, merges=[], model_max_length=6).save_pretrained(tmp_path / "roberta")
        RobertaConfig(max_position_embeddings=8).save_pretrained(tmp_path / "roberta")
        processor = IFAformerProcessor.from_vision_text_pretrained(towers[0], tmp_path / "roberta", max_length=6)
        assert processor.encode_text(["a a"])[0].word_ids[1:-1] == [0, 1]
        assert processor.encode_text(["a " * 9])[0].word_ids[1:-1] == [0, 1, 2, 3]

    @pytest.mark.parametrize("kind", ["bytes", "spaces are letters"])
    def test_a_tokenizer_that_knows_no_words(self, towers, tmp_path, kind):
        """Those of ModernBERT and of mmBERT, which have no option for it."""
        backend = Tokenizer(models.BPE())
        if kind == "bytes":
            backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        else:
            backend.normalizer = normalizers.Replace(" ", "\u2581")
            backend.pre_tokenizer = pre_tokenizers.Split("\u2581", "merged_with_next")
        trainer = trainers.BpeTrainer(special_tokens=["[CLS]", "[SEP]", "[PAD]"], vocab_size=60)
        backend.train_from_iterator(["a man met a man in a town"] * 9, trainer)
        special = [("[CLS]", 0), ("[SEP]", 1)]
        backend.post_processor = processors.TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=special)
        tokens = {"cls_token": "[CLS]", "sep_token": "[SEP]", "pad_token": "[PAD]"}
        tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, **tokens, model_max_length=40)
        tokenizer.save_pretrained(tmp_path / "text")
        with pytest.raises(ValueError, match="continuation of the one before"):
            IFAformerProcessor.from_vision_text_pretrained(towers[0], tokenizer=tokenizer)
        ModernBertConfig(vocab_size=60).save_pretrained(tmp_path / "text")
        processor = IFAformerProcessor.from_vision_text_pretrained(towers[0], tmp_path / "text")
        processor.save_pretrained(tmp_path / "processor")
        words = ["met", "a", "man"]
        for of_words in (processor, IFAformerProcessor.from_pretrained(tmp_path / "processor")):
            encoded = of_words.encode_text([words], is_split_into_words=True)[0]
            whole = tokenizer(" " + " ".join(words))["input_ids"]
            assert encoded.input_ids == whole and {*encoded.word_ids} == {None, 0, 1, 2}
            assert of_words.encode_text(["met a man"])[0].input_ids == whole

    def test_texts_are_cut_at_what_the_tokenizer_is_made_for(self, towers, make_processor):
        tokenizer = make_processor().tokenizer
        limits = []
        for longest, options in ((40, {}), (40, {"max_length": 7}), (40, {"max_length": None}), (int(1e30), {})):
            tokenizer.model_max_length = longest
            options |= {"relations": ["None", "peer"]}
            processor = IFAformerProcessor.from_vision_text_pretrained(towers[0], tokenizer=tokenizer, **options)
            limits.append(processor.max_length)
        assert limits == [40, 7, None, None]
        assert IFAformerProcessor.from_vision_text_pretrained(towers[0], tokenizer=tokenizer).max_length is None

    @pytest.mark.parametrize(
        ("config", "longest"),
        [
            (BertConfig(max_position_embeddings=20), 20),
            (RobertaConfig(max_position_embeddings=20, pad_token_id=1), 18),
        ],
    )
    def test_texts_are_cut_at_what_the_text_checkpoint_takes(self, towers, make_processor, tmp_path, config, longest):
        text, tokenizer = tmp_path / "short", make_processor().tokenizer
        config.save_pretrained(text)
        limits = []
        for stated, options in ((int(1e30), {}), (15, {}), (40, {}), (40, {"max_length": None})):
            tokenizer.model_max_length = stated
            options |= {"relations": ["None", "peer"]}
            made = IFAformerProcessor.from_vision_text_pretrained(towers[0], text, tokenizer=tokenizer, **options)
            limits.append(made.max_length)
        assert limits == [longest, 15, longest, None]

    def test_what_is_refused(self, towers, make_processor):
        vision, _ = towers
        tokenizer = make_processor().tokenizer
        with pytest.raises(ValueError, match="needs an image processor: give vision_model"):
            IFAformerProcessor.from_vision_text_pretrained(tokenizer=tokenizer)
        with pytest.raises(ValueError, match="needs a tokenizer: give text_model"):
            IFAformerProcessor.from_vision_text_pretrained(vision)
        with pytest.raises(ValueError, match=r"ner_tags .* or relation .*got tokens\."):
            rows = Dataset.from_dict({"tokens": [["a"]]})
            IFAformerProcessor.from_vision_text_pretrained(vision, dataset=rows, tokenizer=tokenizer)

    def test_defaults_are_those_of_the_configuration(self):
        processor, config = signature(IFAformerProcessor).parameters, IFAformerConfig()
        assert {name: processor[name].default for name in SHARED_FIELDS} == {
            name: getattr(config, name) for name in SHARED_FIELDS
        }


class TestEntities:
    def test_offsets_point_at_the_words(self, make_processor):
        processor = make_processor()
        text = "RT @ Jordan: New York!\u200d 😀 Paris"
        data = processor(text=text, return_tensors="pt")
        words = processor.encode_text([text])[0].words
        tags = {"Jordan": "B-PER", "New": "B-LOC", "York": "I-LOC", "Paris": "I-MISC"}
        positions = dict(zip(words, range(len(words)), strict=True))
        word_ids = processor.encode_text([text])[0].word_ids
        tag_ids = torch.full_like(data["input_ids"], processor.labels.index("O"))
        scores = torch.full(tag_ids.shape, 0.1)
        for word, tag in tags.items():
            first = word_ids.index(positions[word])
            tag_ids[0, first] = processor.labels.index(tag)
            scores[0, first] = 0.5 if word == "York" else 1.0
        [entities] = processor.post_process_entities(tag_ids, text, scores)
        assert [(entity["word"], entity["entity_group"], entity["score"]) for entity in entities] == [
            ("Jordan", "PER", 1.0),
            ("New York", "LOC", 0.75),
            ("Paris", "MISC", 1.0),
        ]
        assert all(text[entity["start"] : entity["end"]] == entity["word"] for entity in entities)

    def test_words_without_a_token_are_outside(self, make_processor):
        processor = make_processor()
        size = processor(text=[WORDS], return_tensors="pt")["input_ids"].shape
        tag_ids = torch.full(size, processor.labels.index("B-PER"))
        [entities] = processor.post_process_entities(tag_ids, [WORDS])
        assert [entity["word"] for entity in entities] == ["Jordan", "unaffable", "in", "New", "York"]
        assert entities[0]["score"] is None


class TestSaving:
    def test_settings_survive(self, make_processor, tmp_path):
        processor = make_processor(
            label_scheme="deepke",
            tags=["O", "B-A", "I-A"],
            max_length=12,
            pad_to_max_length=True,
            use_whole_image=False,
        )
        processor.save_pretrained(tmp_path)
        reloaded = IFAformerProcessor.from_pretrained(tmp_path)
        assert reloaded.word_splitter == "unicode"
        changed = ("label_scheme", "tags", "max_length", "pad_to_max_length", "use_whole_image")
        for name in (*changed, "entity_markers", "aux_crop_size", "num_rcnn_crops"):
            assert getattr(reloaded, name) == getattr(processor, name), name
        arguments = {"text": ["Jordan in Paris"], "aux_crops": [[picture()]], "return_tensors": "pt"}
        before, after = processor(**arguments), reloaded(**arguments)
        assert before["input_ids"].shape == (1, 12)
        assert all(torch.equal(before[name], after[name]) for name in before)

    def test_copies_and_what_was_saved_are_the_same(self, make_processor, tmp_path):
        processor = make_processor(max_length=12)
        processor.save_pretrained(tmp_path)
        expected = processor(text="Jordan met Paris", images=picture(), return_tensors="pt")
        copies = copy.deepcopy(processor), pickle.loads(pickle.dumps(processor))
        for other in (*copies, IFAformerProcessor.from_pretrained(tmp_path)):
            assert other.to_dict() == processor.to_dict()
            batch = other(text="Jordan met Paris", images=picture(), return_tensors="pt")
            assert all(torch.equal(batch[name], values) for name, values in expected.items())
        assert "tokenizer: BertTokenizer" in repr(processor)

    def test_a_model_it_does_not_belong_to(self, make_processor, make_config):
        processor = make_processor()
        labels = {"id2label": dict(enumerate(processor.labels))}
        processor.check_config(make_config(**labels))
        with pytest.raises(ValueError, match=r"aux_crop_size is 16 in the .*, 8 in .*; labels is .*"):
            processor.check_config(make_config(aux_crop_size=8))

    def test_a_checkpoint_keeps_its_word_splitter(self, make_processor, tmp_path):
        """One that was saved before there was a choice has the former one, also once it is saved again."""
        make_processor().save_pretrained(tmp_path)
        path = tmp_path / "processor_config.json"
        fields = json.loads(path.read_text())
        assert fields.pop("word_splitter") == "unicode"
        path.write_text(json.dumps(fields))
        for _ in range(2):
            former = IFAformerProcessor.from_pretrained(tmp_path)
            assert former.word_splitter == "bert"
            assert former.encode_text(["Jordan🔥 @RT"])[0].words == ["Jordan🔥", "@", "RT"]
            former.save_pretrained(tmp_path)
        assert json.loads(path.read_text())["word_splitter"] == "bert"
        assert IFAformerProcessor.from_pretrained(tmp_path, word_splitter="unicode").word_splitter == "unicode"
        with pytest.raises(ValueError, match="word_splitter must be one of unicode, bert, got 'spacy'"):
            make_processor(word_splitter="spacy")

    def test_a_checkpoint_keeps_its_limit_of_pictures(self, make_processor, tmp_path):
        make_processor(max_megapixels=0.0001).save_pretrained(tmp_path)
        processor = IFAformerProcessor.from_pretrained(tmp_path)
        problem = r"Example 0: 11 x 10 RGB picture: image: .*at most 0\.0001 megapixels"
        with pytest.raises(ImageError, match=problem):
            processor("Jordan", images=Image.new("RGB", (11, 10)))
        assert "pixel_values" in processor("Jordan", images=Image.new("RGB", (10, 10)))
        assert processor.pixel_settings != make_processor().pixel_settings
        path = tmp_path / "processor_config.json"
        fields = json.loads(path.read_text())
        del fields["max_megapixels"]  # as before there was a limit to choose
        path.write_text(json.dumps(fields))
        assert IFAformerProcessor.from_pretrained(tmp_path).max_megapixels == 25

    def test_padding_needs_a_length(self, make_processor):
        with pytest.raises(ValueError, match="pad_to_max_length=True needs a max_length"):
            make_processor(pad_to_max_length=True)

    def test_broken_tag_sets(self, make_processor):
        for tags in (["B-A"], ["O", "O"]):
            with pytest.raises(ValueError, match="Tags must be distinct and hold 'O'"):
                make_processor(tags=tags)
        with pytest.raises(ValueError, match="label_scheme must be one of"):
            make_processor(label_scheme="iob")


def test_real_tokenizer_and_zero_width_words(minilm, make_processor):
    processor = make_processor(tokenizer=AutoTokenizer.from_pretrained(minilm))
    [encoded] = processor.encode_text([["Jordan", "\u200d", "unaffable"]], is_split_into_words=True)
    assert set(encoded.word_ids) == {None, 0, 2}


QUIETLY = """
import builtins, logging, sys, warnings
warnings.simplefilter("error", UserWarning)
builtins.input = lambda *question: sys.exit(f"it asks {question}")
entry, folder = sys.argv[1:]
__import__(entry)
from transformers import AutoConfig, AutoImageProcessor, AutoModelForTokenClassification, AutoProcessor, AutoTokenizer
from transformers import pipeline
from processing import IFAformerProcessor
messages = []
handler = logging.Handler(logging.WARNING)
handler.emit = lambda record: messages.append(record.getMessage())
logging.getLogger("transformers").addHandler(handler)
loaders = [IFAformerProcessor, AutoProcessor, AutoImageProcessor]
if entry == "modeling_ifaformer":
    loaders += [AutoConfig, AutoTokenizer, AutoModelForTokenClassification]
    assert pipeline(model=folder, device="cpu")("Jordan met Paris")
for loader in loaders:
    loader.from_pretrained(folder)
    assert not messages, (loader, messages)
assert IFAformerProcessor.from_vision_text_pretrained(folder, folder).tokenizer.is_fast
assert not messages, messages
assert not any(name.startswith("transformers_modules.") for name in sys.modules)
"""


@pytest.mark.parametrize("entry", ["processing", "modeling_ifaformer"])
def test_where_the_package_is_installed_nothing_is_asked(entry, checkpoint, fork_stranger, tmp_path):
    program = tmp_path / "program.py"
    program.write_text(QUIETLY, encoding="utf-8")
    result = fork_stranger([program, entry, checkpoint], [dict(os.environ)], tmp_path)
    assert result.returncode == 0, result.stderr[-3000:]


TEXTS = ["Jordan met Paris in New York", "Paris"]
SHORT = {"max_length": 5}


@pytest.fixture
def processor(make_processor):
    return make_processor()


def lengths(data):
    return [len(ids) for ids in data["input_ids"]]


def test_tensors_of_both_kinds(processor):
    picture = Image.linear_gradient("L")
    torch_batch = processor(text=TEXTS, images=[picture, None], return_tensors="pt")
    numpy_batch = processor(text=TEXTS, images=[picture, None], return_tensors="np")
    assert torch_batch.keys() == numpy_batch.keys()
    for name, values in numpy_batch.items():
        assert isinstance(values, np.ndarray)
        assert torch.equal(torch.from_numpy(values), torch_batch[name])


def test_texts_are_cut_and_padded_as_tokenizers_do(make_processor, processor):
    whole = lengths(processor(text=TEXTS))
    assert whole[0] > 5 > whole[1]
    assert lengths(processor(text=TEXTS, **SHORT)) == [5, whole[1]]
    assert lengths(processor(text=TEXTS, truncation=True, **SHORT)) == [5, whole[1]]
    cut = make_processor(**SHORT)
    assert lengths(cut(text=TEXTS)) == [5, whole[1]]
    assert lengths(cut(text=TEXTS, max_length=6)) == [6, whole[1]]
    for truncation in (False, "do_not_truncate"):
        assert lengths(cut(text=TEXTS, truncation=truncation)) == whole
    assert lengths(processor(text=TEXTS, padding=True)) == [whole[0]] * 2
    assert lengths(processor(text=TEXTS, padding="max_length", max_length=30)) == [30, 30]
    batch = processor(text=TEXTS, padding="max_length", max_length=30, return_tensors="pt")
    assert batch["input_ids"].shape == batch["crf_mask"].shape == (2, 30)
    assert batch["attention_mask"].sum(-1).tolist() == whole
    batch = processor(text=TEXTS, padding_side="left", return_tensors="pt")
    assert batch["attention_mask"].tolist()[1] == [0] * (whole[0] - whole[1]) + [1] * whole[1]
    right = processor(text=TEXTS, return_tensors="pt")
    assert batch["crf_mask"].sum(-1).tolist() == right["crf_mask"].sum(-1).tolist()
    with pytest.raises(ValueError, match="make no tensor with padding=False"):
        processor(text=TEXTS, padding=False, return_tensors="pt")
    assert processor(text=TEXTS[0], padding=False, return_tensors="pt")["input_ids"].shape == (1, whole[0])
    with pytest.raises(ValueError, match="padding='max_length' needs a max_length"):
        processor(text=TEXTS, padding="max_length")
    assert processor.max_length is None and cut.max_length == 5  # a call changes nothing


def test_one_length_of_the_processor_s_own(make_processor):
    processor = make_processor(max_length=12, pad_to_max_length=True)
    assert processor(text=TEXTS, return_tensors="pt")["input_ids"].shape == (2, 12)
    assert processor(text=TEXTS, padding=True, return_tensors="pt")["input_ids"].shape[1] < 12
    assert processor(text=TEXTS, max_length=20, return_tensors="pt")["input_ids"].shape == (2, 20)


def test_pixels_are_scaled_as_a_call_asks(processor):
    picture = Image.linear_gradient("L")
    given = processor(text="Jordan", images=picture)["pixel_values"][0]
    raw = processor(text="Jordan", images=picture, do_rescale=False, do_normalize=False, return_tensors="np")
    assert np.array_equal(raw["pixel_values"][0], given)
    for pixels in (
        processor(text="Jordan", images=picture, do_normalize=False, rescale_factor=0.5, return_tensors="np"),
        processor(
            text="Jordan",
            images=picture,
            images_kwargs={"do_normalize": False, "rescale_factor": 0.5},
            common_kwargs={"return_tensors": "np"},
        ),
    ):
        assert np.allclose(pixels["pixel_values"][0], given / 2)
    assert processor.image_processor.do_normalize  # a call changes nothing


def test_a_tokenizer_that_was_made_to_pad(make_processor):
    tokenizer = make_processor().tokenizer
    tokenizer.init_kwargs |= {"padding": "max_length", "max_length": 25}
    assert make_processor(tokenizer)(text=TEXTS, return_tensors="pt")["input_ids"].shape == (2, 25)
    del tokenizer.init_kwargs["padding"]  # tokenizers are saved with lengths that nobody asked for
    assert lengths(make_processor(tokenizer)(text="Jordan met " * 20)) > [25]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"stride": 3}, r"Unknown arguments \['stride'\]"),
        ({"text_kwargs": {"stride": 3}}, r"Unknown arguments \['stride'\]"),
        ({"images_kwargs": {"size": 3}}, r"Unknown arguments \['size'\]"),
        ({"padding": "most"}, "most"),
        ({"truncation": "most"}, "most"),
        ({"max_length": 0}, "max_length must be at least 1"),
        ({"return_tensors": "tf"}, "return_tensors must be 'pt', 'np' or None, got 'tf'"),
        ({"padding_side": "top"}, "padding_side must be 'left' or 'right', got 'top'"),
        ({"padding": True, "text_kwargs": {"padding": True}}, "passed two times"),
    ],
)
def test_what_is_refused(arguments, message, processor):
    with pytest.raises(ValueError, match=message):
        processor(text=TEXTS, **arguments)


def test_a_picture_in_place_of_the_text(processor):
    with pytest.raises(ValueError, match=r"text must be a string or a list, got Image\. It comes first"):
        processor(Image.linear_gradient("L"), "Jordan")


@pytest.mark.parametrize(
    ("field", "message"),
    [
        *(({"max_length": value}, "max_length must be at least 1, got") for value in (-3, 0, "x", 2.5)),
        *(
            ({"max_megapixels": value}, "max_megapixels must be a number above 0, got")
            for value in (0, -1, np.nan, "1")
        ),
        *(
            ({"num_aux_crops": value}, "num_aux_crops must be a whole number of at least 0")
            for value in (-1, None, "3")
        ),
        ({"rcnn_crop_size": 0}, "rcnn_crop_size must be a whole number of at least 1, got 0"),
        ({"use_whole_image": "no"}, "use_whole_image must be true or false, got 'no'"),
        ({"pad_to_max_length": None}, "pad_to_max_length must be true or false, got None"),
        *(({"tags": value}, "tags must be a list of strings, got") for value in ("BIO", ["O", 1])),
        ({"relations": 3}, "relations must be a list of strings, got 3"),
        *(({"entity_markers": value}, "four different strings") for value in (["<a>", "<b>"], ["<a>"] * 4)),
        ({"word_splitter": ["bert"]}, "word_splitter must be one of unicode, bert"),
    ],
)
def test_a_field_that_cannot_be(field, message, make_processor, tmp_path):
    make_processor().save_pretrained(tmp_path)
    path = tmp_path / "processor_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | field))
    with pytest.raises(ValueError, match=message):
        IFAformerProcessor.from_pretrained(tmp_path)


def test_calls_in_threads_do_not_change_each_other(processor):
    texts = ["Jordan met Paris in New York City " * 6] * 20
    expected = {length: processor(text=texts, max_length=length)["input_ids"] for length in range(5, 25)}
    with ThreadPoolExecutor(4) as pool:
        found = pool.map(lambda length: processor(text=texts, max_length=length)["input_ids"], expected)
        assert list(found) == list(expected.values())


def test_an_input_of_the_model_is_one_it_takes(make_processor):
    names = make_processor(num_aux_crops=0).model_input_names
    assert {"pixel_values", "image_mask", "rcnn_pixel_values"} < {*names} and "aux_pixel_values" not in names
