import pytest
import torch
from accelerate import FullyShardedDataParallelPlugin, infer_auto_device_map
from accelerate.utils import compute_module_sizes
from huggingface_hub.errors import StrictDataclassClassValidationError
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from transformers import (
    AutoModel,
    AutoModelForTokenClassification,
    BertConfig,
    BertForTokenClassification,
    BertModel,
    CLIPConfig,
    CLIPModel,
    CLIPTextConfig,
    CLIPVisionConfig,
    CLIPVisionModel,
    RobertaConfig,
    RobertaModel,
    SiglipConfig,
    SiglipModel,
    XLMRobertaConfig,
)

from modeling_ifaformer import (
    BaselineForTokenClassification,
    IFAformerForRelationExtraction,
    IFAformerForTokenClassification,
    IFAformerModel,
)
from modeling_ifaformer.configuration_baseline import SYSTEMS
from processing.labels import entity_spans


PAIRS = ["modernbert and siglip", "distilbert and dinov2", "electra and vit", "bert and a deeper clip"]
NAMES = ("O", "B-PER", "I-PER", "B-LOC", "I-LOC")
LABELS = {"id2label": dict(enumerate(NAMES))}
TEXT_CONFIG = {"hidden_size": 24, "num_attention_heads": 3, "num_hidden_layers": 3, "intermediate_size": 37}
TEXT_CONFIG |= {"vocab_size": 99, "max_position_embeddings": 50}


def make_model(config, model_class=IFAformerForTokenClassification):
    """A model in evaluation mode whose every parameter matters: no zero biases, no unit norms."""
    torch.manual_seed(0)
    model = model_class(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return model


def emissions(model, inputs):
    return model(**inputs, crf_mask=inputs["attention_mask"].bool()).logits


class TestSaving:
    @pytest.mark.parametrize("variant", ["corrected", "mkgformer"])
    @pytest.mark.parametrize("text_config_class", [BertConfig, RobertaConfig, XLMRobertaConfig])
    def test_round_trip_of_every_text_tower(self, make_config, make_inputs, tmp_path, text_config_class, variant):
        text_config = text_config_class(
            vocab_size=99, hidden_size=24, num_attention_heads=3, num_hidden_layers=3, intermediate_size=37
        )
        model = make_model(make_config(text_config=text_config, attention_variant=variant, **LABELS))
        model.save_pretrained(tmp_path)
        reloaded, info = IFAformerForTokenClassification.from_pretrained(tmp_path, output_loading_info=True)
        assert not any(info[key] for key in ("missing_keys", "unexpected_keys", "mismatched_keys"))
        assert torch.equal(emissions(reloaded, make_inputs()), emissions(model, make_inputs()))

    @pytest.mark.parametrize("kind", PAIRS)
    def test_round_trip_of_every_pair(self, make_config, make_inputs, tmp_path, kind):
        model = make_model(make_config(kind, **LABELS))
        model.save_pretrained(tmp_path)
        reloaded, info = IFAformerForTokenClassification.from_pretrained(tmp_path, output_loading_info=True)
        assert not any(info.values()), info
        assert torch.equal(emissions(model, make_inputs()), emissions(reloaded, make_inputs()))

    def test_head_to_base_and_base_to_head(self, make_config, make_inputs, tmp_path):
        model = make_model(make_config(**LABELS))
        model.save_pretrained(tmp_path / "head")
        base = IFAformerModel.from_pretrained(tmp_path / "head")
        inputs = make_inputs()
        assert torch.equal(base(**inputs).last_hidden_state, model.ifaformer(**inputs).last_hidden_state)
        base.save_pretrained(tmp_path / "base")
        head = IFAformerForTokenClassification.from_pretrained(tmp_path / "base")
        assert torch.equal(head.ifaformer(**inputs).last_hidden_state, base(**inputs).last_hidden_state)
        for name, parameter in (*head.crf.named_parameters(), *head.classifier.named_parameters()):
            assert parameter.abs().max() <= 0.2, name  # freshly initialised, not left as it lay in memory

    @pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
    def test_the_crf_stays_in_float32(self, make_config, make_inputs, tmp_path, dtype):
        exact, inputs = make_model(make_config(**LABELS)), make_inputs()
        exact.save_pretrained(tmp_path)
        model = IFAformerForTokenClassification.from_pretrained(tmp_path, dtype=dtype)
        assert model.classifier.weight.dtype == dtype
        assert {parameter.dtype for parameter in model.crf.parameters()} == {torch.float32}
        labels = inputs["attention_mask"].masked_fill(inputs["attention_mask"] == 0, -100)
        expected, actual = exact(**inputs, labels=labels), model(**inputs, labels=labels)
        torch.testing.assert_close(actual.loss, expected.loss, rtol=0.05, atol=0)
        assert torch.equal(actual.tag_ids, model.crf.viterbi_decode(actual.logits.float(), labels != -100))

    def test_what_is_frozen_stays_so(self, make_config, tmp_path):
        """The library makes every parameter that it loads a trainable one."""

        def frozen(model):
            return {name for name, parameter in model.named_parameters() if not parameter.requires_grad}

        model = make_model(make_config(**LABELS))
        model.save_pretrained(tmp_path, True)  # `is_main_process` by its position
        reloaded, _ = IFAformerForTokenClassification.from_pretrained(tmp_path, output_loading_info=True)
        automatic = AutoModelForTokenClassification.from_pretrained(tmp_path)
        assert frozen(model) == frozen(reloaded) == frozen(automatic) != set()
        assert all(torch.equal(value, reloaded.state_dict()[name]) for name, value in model.state_dict().items())
        assert frozen(reloaded.requires_grad_(True).train()) == set()  # whoever asks for it gets it

    def test_resized_vocabulary(self, make_config, make_inputs, tmp_path):
        model = make_model(make_config(**LABELS))
        model.resize_token_embeddings(105)
        assert model.config.text_config.vocab_size == 105
        model.save_pretrained(tmp_path)
        reloaded = IFAformerForTokenClassification.from_pretrained(tmp_path)
        assert torch.equal(emissions(reloaded, make_inputs()), emissions(model, make_inputs()))


class TestFromPretrainedTowers:
    def checkpoints(self, tmp_path, text_class=BertModel, text_config_class=BertConfig, **kwargs):
        size = {"hidden_size": 24, "num_attention_heads": 3, "num_hidden_layers": 3, "intermediate_size": 37}
        text = text_class(text_config_class(vocab_size=99, max_position_embeddings=50, **size), **kwargs)
        text.save_pretrained(tmp_path / "text")
        vision_config = CLIPVisionConfig(image_size=24, patch_size=8, **size)
        vision = CLIPVisionModel(vision_config)
        vision.save_pretrained(tmp_path / "vision")
        text_config = CLIPTextConfig(vocab_size=49, hidden_size=32, num_hidden_layers=1, num_attention_heads=2)
        clip = CLIPModel(CLIPConfig(text_config=text_config.to_dict(), vision_config=vision_config.to_dict()))
        clip.save_pretrained(tmp_path / "clip")
        return text, vision, clip

    def load(self, tmp_path, vision="vision", **kwargs):
        return IFAformerForTokenClassification.from_vision_text_pretrained(
            tmp_path / vision,
            tmp_path / "text",
            aux_crop_size=16,
            rcnn_crop_size=8,
            output_loading_info=True,
            **kwargs,
        )

    @pytest.mark.parametrize(("text_class", "config_class"), [(BertModel, BertConfig), (RobertaModel, RobertaConfig)])
    def test_all_tower_weights_arrive(self, tmp_path, text_class, config_class):
        text, vision, clip = self.checkpoints(tmp_path, text_class, config_class)
        for name, source in (("vision", vision.state_dict()), ("clip", clip.vision_model.state_dict())):
            model, info = self.load(tmp_path, name, **LABELS)
            ours = model.ifaformer.vision_model.state_dict()
            for key, value in source.items():
                assert torch.equal(ours[key.removeprefix("vision_model.")], value), key
            assert info["vision"]["missing_keys"] == [
                "embeddings.aux_position_embedding.weight",
                "embeddings.rcnn_position_embedding.weight",
            ]
        for key, value in text.state_dict().items():
            assert torch.equal(model.ifaformer.text_model.state_dict()[key], value), key
        assert info["text"] == {"missing_keys": [], "unexpected_keys": []}
        assert model.config.num_labels == 5

    def test_what_does_not_match_is_reported(self, tmp_path, caplog):
        self.checkpoints(tmp_path, add_pooling_layer=False)
        with caplog.at_level("WARNING", logger="transformers"):
            _, info = self.load(tmp_path)
        assert info["text"]["missing_keys"] == ["pooler.dense.bias", "pooler.dense.weight"]

    def test_a_checkpoint_of_another_kind(self, tmp_path, caplog):
        """Its names are those of another model, so that nearly all weights of the tower would be fresh ones."""
        _, vision, _ = self.checkpoints(tmp_path)
        weights = {f"backbone.{name}": value for name, value in vision.state_dict().items()}
        vision.save_pretrained(tmp_path / "other", state_dict=weights)
        with pytest.raises(
            ValueError, match=r"lacks (\d+) of the \1 tensors of the vision tower.* allow_missing_weights to"
        ):
            self.load(tmp_path, "other")
        _, info = self.load(tmp_path, "other", allow_missing_weights=True)
        assert len(info["vision"]["missing_keys"]) == len(vision.state_dict()) + 2

    def test_the_towers_of_an_ifaformer_checkpoint(self, tmp_path, make_config):
        source = make_model(make_config(), IFAformerModel)
        source.save_pretrained(tmp_path / "whole")
        crops = {name: getattr(source.config, name) for name in ("aux_crop_size", "num_rcnn_crops", "rcnn_crop_size")}
        for number in (source.config.num_aux_crops, source.config.num_aux_crops + 1):
            model, info = IFAformerForTokenClassification.from_vision_text_pretrained(
                *[tmp_path / "whole"] * 2, output_loading_info=True, num_aux_crops=number, **crops, **LABELS
            )
            missing = ["embeddings.aux_position_embedding.weight"] if number != source.config.num_aux_crops else []
            assert info["text"]["missing_keys"] == [] and info["vision"]["missing_keys"] == missing
            for tower in ("text_model", "vision_model"):
                ours = getattr(model.ifaformer, tower).state_dict()
                for key, value in getattr(source, tower).state_dict().items():
                    assert key in missing or torch.equal(ours[key], value), key

    @pytest.mark.parametrize("kind", PAIRS)
    def test_every_family(self, make_config, tmp_path, kind):
        config = make_config(kind)
        for name, of_tower, auto_class in (
            ("text", config.text_config, AutoModelForTokenClassification),
            ("vision", config.vision_config, AutoModel),
        ):
            torch.manual_seed(3)
            auto_class.from_config(of_tower).save_pretrained(tmp_path / name)
        sizes = {name: getattr(config, name) for name in ("aux_crop_size", "rcnn_crop_size", "image_size")}
        model, info = IFAformerForTokenClassification.from_vision_text_pretrained(
            tmp_path / "vision", tmp_path / "text", output_loading_info=True, **sizes, **LABELS
        )
        crops = {f"embeddings.{kind}_position_embedding.weight" for kind in ("aux", "rcnn")}
        assert set(info["vision"]["missing_keys"]) == crops
        assert all(name.startswith("pooler") for name in info["text"]["missing_keys"])
        for tower, ours in model.towers().items():
            stock = AutoModel.from_pretrained(tmp_path / tower).state_dict()
            for name, value in ours.state_dict().items():
                if name in stock and not name.startswith("pooler"):
                    assert torch.equal(value, stock[name]), name
                else:
                    assert name in crops or name.startswith("pooler"), name

    @pytest.mark.parametrize("has_projection", [False, True])
    def test_the_vision_tower_of_a_whole_siglip(self, make_config, tmp_path, has_projection):
        vision = make_config("modernbert and siglip").vision_config
        text = {"hidden_size": 24, "num_attention_heads": 3, "num_hidden_layers": 1, "vocab_size": 9}
        whole = SiglipModel(SiglipConfig(vision_config=vision.to_dict(), text_config=text))
        whole.save_pretrained(tmp_path)
        model, info = IFAformerModel.from_vision_text_pretrained(
            tmp_path,
            text_config={**TEXT_CONFIG, "hidden_size": 36 if has_projection else 24},
            output_loading_info=True,
        )
        assert [name.split("_")[0] for name in info["vision"]["missing_keys"]] == ["embeddings.aux", "embeddings.rcnn"]
        ours = model.vision_model.state_dict()
        for name, value in whole.vision_model.state_dict().items():
            assert torch.equal(ours[name], value), name
        assert (model.vision_to_text is not None) == has_projection == (model.text_to_vision is not None)
        if has_projection:
            assert model.vision_to_text[2].key.weight.std().item() == pytest.approx(24**-0.5, rel=0.15)
            assert model.text_to_vision[1].value.weight.std().item() == pytest.approx(36**-0.5, rel=0.15)

    def test_checkpoint_and_configuration_of_one_tower(self, tmp_path):
        self.checkpoints(tmp_path)
        with pytest.raises(ValueError, match="Got a checkpoint and a text_config"):
            self.load(tmp_path, text_config=BertConfig())


OTHERS = ("O", "B-X", "I-X")


@pytest.fixture(scope="module")
def checkpoints(make_config, tmp_path_factory):
    """Folders of an IFAformer and of a BERT with the labels `OTHERS`."""
    labels = {"id2label": dict(enumerate(OTHERS)), "label2id": {name: index for index, name in enumerate(OTHERS)}}
    size = {"hidden_size": 24, "num_attention_heads": 3, "num_hidden_layers": 1, "intermediate_size": 8}
    ours, theirs = (tmp_path_factory.mktemp(name) for name in ("ours", "theirs"))
    IFAformerForTokenClassification(make_config(**labels)).save_pretrained(ours)
    BertForTokenClassification(BertConfig(**labels, **size, vocab_size=9)).save_pretrained(theirs)
    return ours, theirs


@pytest.mark.parametrize(
    ("given", "names"),
    [
        ({}, None),
        ({"num_labels": 3}, None),
        ({"num_labels": 5}, None),
        ({"id2label": dict(enumerate(NAMES))}, NAMES),
        ({"id2label": {str(index): name for index, name in enumerate(NAMES)}}, NAMES),
        ({"id2label": dict(enumerate(OTHERS))}, OTHERS),
        ({"id2label": dict(enumerate(NAMES)), "label2id": {name: i for i, name in enumerate(NAMES)}}, NAMES),
        ({"num_labels": 5, "id2label": dict(enumerate(NAMES))}, NAMES),
        ({"num_labels": 3, "id2label": dict(enumerate(NAMES))}, None),
        # The library looks at `label2id` only to keep it.
        ({"label2id": {name: index for index, name in enumerate(NAMES)}}, NAMES),
        ({"num_labels": 5, "label2id": {name: index for index, name in enumerate(NAMES)}}, NAMES),
    ],
    ids=str,
)
class TestLabelsAreThoseOfBert:
    """What `num_labels`, `id2label` and `label2id` do: as with BERT, and the two maps agree."""

    def check(self, ours, theirs, given, names):
        by_label2id = "label2id" in given and "id2label" not in given
        expected = dict(enumerate(names)) if by_label2id else theirs.id2label
        assert ours.id2label == {int(index): label for index, label in expected.items()}
        assert ours.label2id == {label: index for index, label in ours.id2label.items()}
        assert by_label2id or ours.num_labels == theirs.num_labels

    def test_in_a_new_configuration(self, make_config, given, names):
        self.check(make_config(**given), BertConfig(**given), given, names)

    def test_in_a_checkpoint_with_others(self, checkpoints, tmp_path, given, names):
        ours, theirs = checkpoints
        new = BertForTokenClassification.from_pretrained(theirs, **given, ignore_mismatched_sizes=True).config
        model, info = IFAformerForTokenClassification.from_pretrained(
            ours, **given, ignore_mismatched_sizes=True, output_loading_info=True
        )
        self.check(model.config, new, given, names)
        assert model.classifier.out_features == model.crf.num_tags == model.config.num_labels
        replaced = {name for name, *_ in info["mismatched_keys"]}
        if model.config.num_labels == 3:
            assert replaced == set()
        else:
            assert replaced == {name for name, _ in model.named_parameters() if name.startswith(("class", "crf"))}
            assert all(0 < parameter.abs().max() <= 0.1 for parameter in model.crf.parameters())
            with pytest.raises(RuntimeError, match="ignore_mismatched_sizes"):
                IFAformerForTokenClassification.from_pretrained(ours, **given)
        model.save_pretrained(tmp_path / "again")
        again = IFAformerForTokenClassification.from_pretrained(tmp_path / "again").config
        assert (again.id2label, again.label2id) == (model.config.id2label, model.config.label2id)


def test_labels_without_a_scheme(make_config, make_inputs):
    """They train, and have tags, of which none is an entity's."""
    model, inputs = make_model(make_config(num_labels=5, label_scheme="deepke")), make_inputs()
    model.train()(**inputs, labels=inputs["attention_mask"]).loss.backward()
    tags = model.eval()(**inputs).tag_ids[0].tolist()
    assert entity_spans([model.config.id2label[tag] for tag in tags]) == []


def test_labels_that_are_set_later(make_config, tmp_path):
    model = make_model(make_config(**LABELS))
    model.config.id2label = {str(index): name for index, name in enumerate("abcde")}
    model.save_pretrained(tmp_path)
    config = IFAformerForTokenClassification.from_pretrained(tmp_path).config
    assert config.id2label == dict(enumerate("abcde")) and config.label2id["e"] == 4


def test_what_cannot_be_saved_is_refused_when_it_is_loaded(make_config, tmp_path):
    make_model(make_config(**LABELS)).save_pretrained(tmp_path)
    for options, message in (
        ({**LABELS, "label2id": {"O": 0}}, "id2label and label2id disagree"),
        ({"id2label": {0: "O", 2: "B-PER"}}, "must number its labels"),
        ({"attention_variant": "deepke"}, "never embeds the whole image"),
    ):
        with pytest.raises((ValueError, StrictDataclassClassValidationError), match=message):
            IFAformerForTokenClassification.from_pretrained(tmp_path, **options)


def test_relations_of_another_number(make_config, tmp_path):
    make_model(make_config(num_labels=3), IFAformerForRelationExtraction).save_pretrained(tmp_path)
    model, info = IFAformerForRelationExtraction.from_pretrained(
        tmp_path, num_labels=7, ignore_mismatched_sizes=True, output_loading_info=True
    )
    assert model.classifier.out_features == 7
    assert {name for name, *_ in info["mismatched_keys"]} == {"classifier.weight", "classifier.bias"}


class TestOnSeveralDevices:
    @pytest.fixture(params=["corrected", "deepke", "mkgformer", *PAIRS, *SYSTEMS])
    def models(self, request, make_config, baseline_config):
        """A model with each tower that it takes."""
        system, text_types = request.param, ("bert", "roberta", "xlm-roberta")
        if system in PAIRS:
            return [IFAformerForTokenClassification(make_config(system, word_shapes=True))]
        if system == "cnn_bilstm":
            return [BaselineForTokenClassification(baseline_config(system))]
        if system not in SYSTEMS:
            configs = []
            for text_type, layers in [(text_type, 3) for text_type in text_types] + [("bert", 1)]:
                config = make_config(attention_variant=system, text_config={**TEXT_CONFIG, "model_type": text_type})
                config.text_config.num_hidden_layers = config.vision_config.num_hidden_layers = layers
                configs.append(config)
            return [IFAformerForTokenClassification(config) for config in configs]
        return [
            BaselineForTokenClassification(
                baseline_config(system, vision, text_config={**TEXT_CONFIG, "model_type": text_type})
            )
            for text_type in (text_types if system != "visual_bert" else text_types[:1])
            for vision in (("resnet", "clip") if system != "hvpnet" else ("resnet",))
        ]

    def test_fsdp_finds_every_layer_that_is_named(self, models):
        for model in models:
            plugin = FullyShardedDataParallelPlugin(auto_wrap_policy="transformer_based_wrap")
            plugin.set_auto_wrap_policy(model)
            classes = plugin.auto_wrap_policy.keywords["transformer_layer_cls"]
            assert {of.__name__ for of in classes} == model._no_split_modules

    def test_no_layer_is_split(self, models):
        for model in models:
            listed = [module for module in model.modules() if isinstance(module, torch.nn.ModuleList)]
            whole = {id(module) for modules in listed for module in modules}
            whole |= {id(module) for module in model.modules() if type(module).__name__.endswith("Embeddings")}
            size = compute_module_sizes(model)[""]
            budgets = [{"cpu": size * part // 29} for part in range(1, 29)]
            maps = [infer_auto_device_map(model, budget, list(model._no_split_modules)) for budget in budgets]
            names = {name for map_ in maps for name in map_ if name}
            assert len({device for map_ in maps for device in map_.values()}) == 2
            for name in names:
                parts = name.split(".")
                around = [".".join(parts[:number]) for number in range(1, len(parts))]
                assert not [of for of in around if id(model.get_submodule(of)) in whole], name


@pytest.fixture
def one_process():
    """A mesh of this process alone."""
    torch.distributed.init_process_group("gloo", store=torch.distributed.HashStore(), rank=0, world_size=1)
    try:
        yield init_device_mesh("cpu", (1,))
    finally:
        torch.distributed.destroy_process_group()


@pytest.mark.parametrize("kind", ["corrected", *PAIRS])
def test_sharded_weights_are_whole_where_they_are_used(make_config, make_inputs, one_process, kind):
    """FSDP2 gathers the weights of a unit when it is called: nothing in it may be called from elsewhere."""
    inputs = make_inputs()
    inputs["word_shape_ids"] = inputs["attention_mask"] * 4
    inputs["labels"] = torch.where(inputs["attention_mask"].bool(), 1, -100)
    model = make_model(make_config(kind, word_shapes=True, **LABELS))
    expected = model(**inputs).loss
    for module in list(model.modules())[::-1]:
        if type(module).__name__ in model._no_split_modules:
            fully_shard(module, mesh=one_process)
    fully_shard(model, mesh=one_process)
    loss = model(**inputs).loss
    torch.testing.assert_close(loss, expected)
    loss.backward()
    assert model.get_input_embeddings().weight.grad is not None
