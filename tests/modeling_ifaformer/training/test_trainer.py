import errno
import os
import resource
from dataclasses import replace

import numpy as np
import pytest
import torch
from peft import get_peft_model
from transformers import Trainer, TrainingArguments, set_seed

from modeling_ifaformer import IFAformerForTokenClassification, model_inputs
from modeling_ifaformer.checkpoints.adapters import lora_config
from modeling_ifaformer.crf import LinearChainCRF
from modeling_ifaformer.training import IFAformerTrainer, IFAformerTrainingArguments, build_model, build_processor
from modeling_ifaformer.training import trainer as trainer_module
from modeling_ifaformer.training.run_folder import last_complete_checkpoint
from modeling_ifaformer.training.trainer import (
    check_swap,
    disagreement,
    drop_contexts,
    drop_modalities,
    first_half_twice,
    mask_tokens,
    parameter_groups,
    swap_unrelated,
)
from processing.features import prepare_features
from processing.labels import label_maps


TOWER = {"hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
TOWERS = {"text_config": TOWER, "vision_config": {**TOWER, "image_size": 16, "patch_size": 8}}


@pytest.fixture
def plain_arguments(tmp_path):
    return TrainingArguments(
        output_dir=str(tmp_path),
        learning_rate=5e-3,
        per_device_train_batch_size=4,
        max_steps=12,
        logging_steps=1,
        report_to="none",
        use_cpu=True,
    )


@pytest.fixture
def make_trainer(features, processor, new_model, make_arguments):
    def make(**options):
        arguments = make_arguments(**options)
        set_seed(arguments.seed)
        return IFAformerTrainer(
            model=new_model(), args=arguments, train_dataset=features["train"], processing_class=processor
        )

    return make


def losses(trainer):
    set_seed(0)
    trainer.train()
    return [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]


def test_the_library_s_trainer_does_not_replace_the_loss_of_the_crf_unsaid(
    features, processor, new_model, plain_arguments, monkeypatch
):
    said = []
    monkeypatch.setattr(model_inputs.logger, "warning_once", said.append)
    arguments = replace(plain_arguments, label_smoothing_factor=0.1, max_steps=1)
    collator = processor.data_collator
    Trainer(model=new_model(), args=arguments, train_dataset=features["train"], data_collator=collator).train()
    assert "computes no loss of its CRF. A Trainer with label_smoothing_factor" in said[0]


def test_the_library_s_trainer_and_ours_train_alike(features, processor, new_model, plain_arguments):
    set_seed(1)
    weights = new_model().state_dict()

    def model():
        fresh = new_model()
        fresh.load_state_dict(weights)
        return fresh

    plain = losses(
        Trainer(
            model=model(),
            args=plain_arguments,
            train_dataset=features["train"],
            data_collator=processor.data_collator,
        )
    )
    ours = losses(
        IFAformerTrainer(
            model=model(), args=plain_arguments, train_dataset=features["train"], processing_class=processor
        )
    )
    assert len(plain) == len(ours) == 12
    assert ours == pytest.approx(plain, rel=1e-4), "one learning rate, the same batches, the same pixels"
    assert np.mean(ours[-3:]) < 0.7 * np.mean(ours[:3])


def test_scores_and_console_of_a_training_in_python(features, processor, new_model, plain_arguments, capsys, recwarn):
    plain_arguments.eval_strategy = "epoch"
    trainer = IFAformerTrainer(
        model=new_model(),
        args=plain_arguments,
        train_dataset=features["train"],
        eval_dataset=features["validation"],
        processing_class=processor,
    )
    trainer.train()
    logged = [entry for entry in trainer.state.log_history if "eval_f1" in entry]
    assert len(logged) == 2 and {"eval_precision", "eval_recall", "eval_loss"} <= logged[0].keys()
    printed = capsys.readouterr()
    assert "{" not in printed.out + printed.err, "no dictionaries"
    f1 = 100 * logged[1]["eval_f1"]
    assert [line for line in printed.out.splitlines() if "epoch 2: validation" in line and f"F1 {f1:.2f}" in line]
    assert not [warning for warning in recwarn if "pin_memory" in str(warning.message)]
    assert "shards" not in printed.err


def test_default_scores_are_those_of_the_words(features, processor, new_model, data, plain_arguments):
    """Of texts that are read whole, the scores from features are those from rows."""
    from processing.scoring.splits import Split

    trainer = IFAformerTrainer(model=new_model(), args=plain_arguments, processing_class=processor)
    predicted = trainer.predict(features["validation"])
    expected = Split(data["validation"], processor).score(predicted.predictions)
    for metric in ("precision", "recall", "f1"):
        assert predicted.metrics[f"test_{metric}"] == expected[metric]


def test_every_trainable_parameter_is_in_exactly_one_group(make_config, tmp_path):
    model = IFAformerForTokenClassification(make_config(num_labels=3))
    model.ifaformer.text_model.pooler.requires_grad_(False)
    arguments = IFAformerTrainingArguments(
        output_dir=str(tmp_path), learning_rate=1.0, vision_learning_rate=2.0, head_learning_rate=0.0, weight_decay=0.5
    )
    for arguments.decay_all in (False, True):
        groups = parameter_groups(model, arguments)
        grouped = [parameter for group in groups for parameter in group["params"]]
        trainable = [parameter for parameter in model.parameters() if parameter.requires_grad]
        assert len(grouped) == len(trainable) and {*map(id, grouped)} == {*map(id, trainable)}
        rate = {id(parameter): group["lr"] for group in groups for parameter in group["params"]}
        decay = {id(parameter): group["weight_decay"] for group in groups for parameter in group["params"]}
        vision = model.ifaformer.vision_model.embeddings
        assert rate[id(model.ifaformer.text_model.embeddings.LayerNorm.bias)] == 1.0
        assert rate[id(vision.aux_position_embedding.weight)] == 2.0
        assert rate[id(model.crf.transitions)] == rate[id(model.classifier.weight)] == 0.0
        assert decay[id(model.classifier.weight)] == 0.5
        assert decay[id(model.classifier.bias)] == decay[id(vision.class_embedding)] * arguments.decay_all


def test_a_learning_rate_without_effect_is_told(make_config, tmp_path, monkeypatch):
    told = []
    monkeypatch.setattr(trainer_module.logger, "warning", told.append)
    rates = {"text_learning_rate": 2.0, "vision_learning_rate": 2.0, "head_learning_rate": 2.0}
    model = IFAformerForTokenClassification(make_config(num_labels=3))
    for given in ({"learning_rate": 1.0}, rates):
        parameter_groups(model, IFAformerTrainingArguments(output_dir=str(tmp_path), **given))
    assert told == []
    parameter_groups(model, IFAformerTrainingArguments(output_dir=str(tmp_path), learning_rate=1.0, **rates))
    (said,) = told
    assert said.startswith("learning_rate (1) has no effect, since these are set: ")
    assert all(name in said for name in rates)


def test_a_loss_that_is_no_number(make_trainer, weights, tmp_path, monkeypatch):
    trainer = make_trainer()
    compute_loss = trainer.compute_loss

    def diverge(*args, **kwargs):
        return compute_loss(*args, **kwargs) * (float("nan") if trainer.state.global_step >= 7 else 1)

    monkeypatch.setattr(trainer, "compute_loss", diverge)
    with pytest.raises(FloatingPointError) as stopped:
        trainer.train()
    assert "Training has diverged at step 8: the loss is nan" in str(stopped.value)
    assert "checkpoint-6. Start again with lower learning rates" in str(stopped.value)
    assert all(torch.isfinite(values).all() for values in weights(tmp_path / "out" / "checkpoint-6").values())


def test_weights_that_are_no_numbers_are_not_saved(make_trainer, tmp_path, monkeypatch):
    trainer = make_trainer(logging_steps=1000, max_grad_norm=0)
    training_step = trainer.training_step

    def break_weights(model, *args, **kwargs):
        loss = training_step(model, *args, **kwargs)
        if trainer.state.global_step == 5:
            next(model.parameters()).grad.fill_(float("nan"))
        return loss

    monkeypatch.setattr(trainer, "training_step", break_weights)
    with pytest.raises(FloatingPointError, match=r"at step 6: .* weights hold values that are no numbers") as stopped:
        trainer.train()
    assert "checkpoint-3" in str(stopped.value) and not (tmp_path / "out" / "checkpoint-6").exists()


@pytest.mark.parametrize("part", ["optimizer", "weights"])
def test_a_full_disk(make_trainer, tmp_path, monkeypatch, part):
    trainer = make_trainer()
    save, limits = trainer._save_optimizer_and_scheduler, resource.getrlimit(resource.RLIMIT_FSIZE)

    def fill(output_dir):
        if trainer.state.global_step == 6:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        save(output_dir)
        if part == "weights":  # of the next checkpoint
            resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, limits[1]))

    monkeypatch.setattr(trainer, "_save_optimizer_and_scheduler", fill)
    try:
        with pytest.raises(OSError, match="The checkpoint of step 6 was not written: ") as stopped:
            trainer.train()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    message = str(stopped.value)
    assert ("No space left on device" if part == "optimizer" else "too large") in message
    assert "The last good checkpoint is" in message and "resume_from_checkpoint set to true" in message
    assert last_complete_checkpoint(tmp_path / "out").name == "checkpoint-3"


class TestMaskTokens:
    def test_a_share_of_the_tokens_and_no_special_one(self, make_processor):
        processor = make_processor()
        tokenizer = processor.tokenizer
        markers = processor.add_entity_markers()
        ids = torch.randint(5, 30, (100, 100))
        ids[:, 0], ids[:, -1], ids[:, 50] = tokenizer.cls_token_id, tokenizer.pad_token_id, markers[0]
        torch.manual_seed(0)
        batch = mask_tokens({"input_ids": ids, "attention_mask": ids}, processor, 0.3)
        masked = batch["input_ids"] == tokenizer.mask_token_id
        assert 0.28 < masked[:, 1:50].float().mean() < 0.32
        assert not masked[:, [0, -1, 50]].any()
        assert torch.equal(batch["input_ids"][~masked], ids[~masked]) and batch["attention_mask"] is ids
        assert not torch.equal(mask_tokens({"input_ids": ids}, processor, 0.3)["input_ids"], batch["input_ids"])

    def test_no_mask_token(self, make_processor):
        processor = make_processor()
        processor.tokenizer.mask_token = None
        with pytest.raises(ValueError, match="BertTokenizer has no mask token: set mask_probability to 0"):
            mask_tokens({"input_ids": torch.ones(1, 2, dtype=torch.long)}, processor, 0.1)


class TestDropModalities:
    def test_the_picture_and_all_crops_are_drawn_apart_for_each_tweet(self):
        torch.manual_seed(0)
        masks = {name: torch.ones(4000, 3, dtype=torch.bool) for name in ("aux_crop_mask", "rcnn_crop_mask")}
        masks["image_mask"] = torch.ones(4000, dtype=torch.bool)
        batch = {"input_ids": torch.zeros(4000, 5), **masks}
        dropped = drop_modalities(batch, 0.3)
        image, aux, rcnn = (dropped[name] for name in ("image_mask", "aux_crop_mask", "rcnn_crop_mask"))
        assert torch.equal(aux, rcnn) and torch.equal(aux.all(dim=1), aux.any(dim=1))
        for lost, share in ((~image, 0.3), (~aux[:, 0], 0.3), (~image & ~aux[:, 0], 0.09)):
            assert abs(lost.float().mean() - share) < 0.02
        assert batch["image_mask"].all() and dropped["input_ids"] is batch["input_ids"]
        assert not torch.equal(drop_modalities(batch, 0.3)["image_mask"], image)

    def test_what_is_absent_stays_absent(self):
        batch = {"input_ids": torch.zeros(9, 5), "image_mask": torch.zeros(9, dtype=torch.bool)}
        assert not drop_modalities(batch, 0.3)["image_mask"].any()
        assert drop_modalities(batch, 0.3).keys() == batch.keys()

    def test_texts_without_pictures_are_learned_as_before(self):
        torch.manual_seed(0)
        batch = {"input_ids": torch.zeros(9, 5)}
        assert drop_modalities(batch, 0.3) == batch
        drawn = torch.rand(1)
        torch.manual_seed(0)
        assert torch.equal(drawn, torch.rand(1))

    @pytest.mark.parametrize("probability", [0.0, 1.0])
    def test_training_sees_what_is_left_and_scoring_sees_all(self, make_trainer, features, processor, probability):
        trainer = make_trainer()
        trainer.modality_dropout = probability
        rows = [features["train"][index] for index in range(4)]
        without = [{name: value for name, value in row.items() if name != "pixel_values"} for row in rows]
        trainer.model.train()
        inputs = trainer._prepare_inputs(trainer.data_collator(rows))
        trainer.model.eval()
        logits = [
            trainer.model(**batch).logits
            for batch in (
                inputs,
                processor.data_collator(without if probability else rows),
                trainer._prepare_inputs(trainer.data_collator(rows)),
                processor.data_collator(rows),
            )
        ]
        torch.testing.assert_close(logits[0], logits[1])
        torch.testing.assert_close(logits[2], logits[3])
        assert torch.allclose(logits[0], logits[2]) == (probability == 0)


class TestDropContexts:
    def test_a_share_of_the_tweets_loses_the_whole_context(self):
        torch.manual_seed(0)
        context_mask = torch.arange(6).repeat(4000, 1) >= 4
        batch = {"attention_mask": torch.ones(4000, 6, dtype=torch.long), "input_ids": torch.zeros(4000, 6)}
        mask = drop_contexts(batch, context_mask, 0.3)["attention_mask"]
        assert mask[:, :4].all() and torch.equal(mask[:, 4], mask[:, 5])
        assert abs((mask[:, 4] == 0).float().mean() - 0.3) < 0.02 and batch["attention_mask"].all()

    @pytest.mark.parametrize("probability", [0.0, 1.0])
    def test_training_sees_what_is_left_and_scoring_sees_all(
        self, data, make_arguments, cache_dir, monkeypatch, probability
    ):
        contexts = [[{"kind": "caption", "text": row["tokens"][1]}] for row in data["train"]]
        rows = data["train"].add_column("context", contexts)
        processor = build_processor(rows, **TOWERS, aux_crop_size=8, rcnn_crop_size=8, max_context_length=5)
        features = prepare_features(rows, processor, cache_dir)
        trainer = IFAformerTrainer(
            model=build_model(processor, **TOWERS),
            args=make_arguments(max_steps=2),
            train_dataset=features,
            eval_dataset=features,
            processing_class=processor,
            context_dropout=probability,
        )
        some = [features[index] for index in range(4)]
        plain = [prepare_features(data["train"], processor, cache_dir)[index] for index in range(4)]
        length = max(len(row["input_ids"]) for row in plain)
        assert trainer.data_collator(some)["context_mask"].any()
        trainer.model.train()
        inputs = trainer._prepare_inputs(trainer.data_collator(some))
        trainer.model.eval()
        scored = trainer._prepare_inputs(trainer.data_collator(some))
        assert "context_mask" not in inputs and "context_mask" not in scored
        logits = [
            trainer.model(**batch).logits[:, :length]
            for batch in (inputs, scored, processor.data_collator(some), processor.data_collator(plain))
        ]
        torch.testing.assert_close(logits[1], logits[2])
        torch.testing.assert_close(logits[0], logits[3 if probability else 1])
        assert not torch.allclose(logits[1], logits[3])
        seen = []
        monkeypatch.setattr(trainer_module, "drop_contexts", lambda batch, mask, share: seen.append(mask) or batch)
        trainer.train()
        assert {"eval_f1"} <= trainer.evaluate().keys()
        assert len(seen) == 2 * probability and all(mask.any() for mask in seen)


class TestSwapUnrelated:
    WORDS = ("RT", "Jordan", "met", "Paris", "in", "New", "York", "City", ".")
    PAIRS = (({"start": 1, "end": 2}, {"start": 5, "end": 8}), ({"start": 5, "end": 7}, {"start": 5, "end": 8}))

    @pytest.fixture
    def relation_processor(self, make_processor):
        processor = make_processor(relations=["peer", "None", "in"])
        processor.add_entity_markers()
        return processor

    def batch(self, processor, labels, exchanged=()):
        """Pairs apart and nested by turns, and head and tail the other way round in some of them."""
        pairs = [self.PAIRS[row % 2][:: -1 if row in exchanged else 1] for row in range(len(labels))]
        texts = {"text": [list(self.WORDS)] * len(labels), "is_split_into_words": True, "return_tensors": "pt"}
        batch = processor(**texts, heads=[head for head, _ in pairs], tails=[tail for _, tail in pairs])
        return {**batch, "labels": torch.tensor(labels)}

    def test_unrelated_pairs_are_read_the_other_way_round(self, relation_processor):
        labels = [0, 1, 1, 2]
        batch = self.batch(relation_processor, labels)
        before = batch["input_ids"].clone()
        swapped = swap_unrelated(batch, relation_processor, 1.0)
        expected = self.batch(relation_processor, labels, exchanged=(1, 2))
        assert swapped.keys() == expected.keys()
        for name, values in swapped.items():
            assert torch.equal(values, expected[name]), name
        assert torch.equal(batch["input_ids"], before) and not torch.equal(swapped["input_ids"], before)

    def test_a_share_of_them_drawn_anew(self, relation_processor):
        torch.manual_seed(0)
        batch = {
            name: values.repeat(800, *[1] * (values.ndim - 1))
            for name, values in self.batch(relation_processor, [1, 0]).items()
        }
        rows = [
            (swap_unrelated(batch, relation_processor, 0.3)["input_ids"] != batch["input_ids"]).any(1)
            for _ in range(2)
        ]
        assert 0.26 < rows[0][::2].float().mean() < 0.34 and not rows[0][1::2].any()
        assert not torch.equal(*rows)

    def test_training_alone_sees_them(self, relations, make_arguments, cache_dir):
        processor = build_processor(relations, **TOWERS, aux_crop_size=8, rcnn_crop_size=8, negative_relation="in")
        features = prepare_features(relations, processor, cache_dir)
        trainer = IFAformerTrainer(
            model=build_model(processor, **TOWERS),
            args=make_arguments(max_steps=2, save_strategy="no", load_best_model_at_end=False),
            train_dataset=features,
            eval_dataset=features,
            processing_class=processor,
            swap_probability=0.5,
            agreement=1.0,
        )
        trainer.swap_probability = 1.0  # so that nothing is left to chance
        batch = trainer.data_collator([features[row] for row in range(4)])
        trainer.model.train()
        read = trainer._prepare_inputs(dict(batch))["input_ids"]
        expected = swap_unrelated(batch, processor, 1.0)["input_ids"]
        assert torch.equal(read[:4], expected) and torch.equal(read[4:], expected[:2])
        trainer.model.eval()
        assert torch.equal(trainer._prepare_inputs(dict(batch))["input_ids"], batch["input_ids"])

    @pytest.mark.parametrize(
        ("probability", "options", "message"),
        [
            (0.5, {"relations": None}, "swap_probability is for models for relations, and this one finds entities"),
            (0.5, {"relations": ["a", "b"]}, "the processor has no negative_relation. Name the relation that says"),
            (
                0.5,
                {"relations": ["a", "None"], "label_scheme": "deepke"},
                "does not work with the label scheme deepke",
            ),
            (0.6, {"relations": ["a", "None"]}, r"swap_probability must be between 0 and 0\.5, got 0\.6: with more"),
            (-0.1, {"relations": ["a", "None"]}, r"between 0 and 0\.5, got -0\.1"),
            (float("nan"), {"relations": ["a", "None"]}, r"between 0 and 0\.5, got nan"),
        ],
    )
    def test_where_it_cannot_be(self, make_processor, probability, options, message):
        processor = make_processor(**options)
        with pytest.raises(ValueError, match=message):
            check_swap(probability, processor)
        check_swap(0.0, processor)

    def test_the_trainer_checks_it(self, features, processor, new_model, make_arguments):
        data = {"train_dataset": features["train"], "processing_class": processor}
        with pytest.raises(ValueError, match="swap_probability is for models for relations"):
            IFAformerTrainer(model=new_model(), args=make_arguments(max_steps=1), **data, swap_probability=0.5)


def test_adapters_have_a_learning_rate_of_their_own(make_config, make_processor, tmp_path):
    """What is trained beside them has that of its part."""
    processor = make_processor()
    model = IFAformerForTokenClassification(make_config(**label_maps(processor.labels), word_shapes=True))
    adapted = get_peft_model(model, lora_config(model, processor))
    rates = {"text_learning_rate": 2.0, "vision_learning_rate": 3.0, "head_learning_rate": 4.0}
    arguments = IFAformerTrainingArguments(output_dir=str(tmp_path), adapter_learning_rate=5.0, **rates)
    groups = parameter_groups(adapted, arguments)
    rate = {id(parameter): group["lr"] for group in groups for parameter in group["params"]}
    named = {name: rate.pop(id(of)) for name, of in adapted.named_parameters() if of.requires_grad}
    assert not rate, "each is in one group, and nothing else is"
    assert {of for name, of in named.items() if ".lora_" in name} == {5.0}
    assert {of for name, of in named.items() if ".crf." in name or ".classifier." in name} == {4.0}
    others = {name.split(".modules_to_save")[0].split(".")[-1]: of for name, of in named.items() if of < 4}
    assert others == {
        "word_shape_embeddings": 2.0,
        "aux_position_embedding": 3.0,
        "rcnn_position_embedding": 3.0,
    }


@pytest.mark.parametrize("kwargs", [{"use_reentrant": True}, {"use_reentrant": False}])
def test_gradient_checkpointing_reaches_adapters(make_config, make_processor, make_inputs, kwargs):
    """The embeddings are not trained, so that nothing that enters the first layer needs a gradient by itself."""
    processor = make_processor()
    gradients = []
    for checkpointing in (False, True):
        torch.manual_seed(0)
        model = IFAformerForTokenClassification(make_config(**label_maps(processor.labels)))
        adapted = get_peft_model(model, lora_config(model, processor)).train()
        for module in adapted.modules():
            if isinstance(module, torch.nn.Dropout):
                module.p = 0.0
        if checkpointing:
            adapted.gradient_checkpointing_enable(gradient_checkpointing_kwargs=kwargs)
        inputs = make_inputs()
        labels = torch.where(inputs["attention_mask"].bool(), inputs["input_ids"] % 3, -100)
        adapted(**inputs, labels=labels).loss.backward()
        gradients.append({name: of.grad for name, of in adapted.named_parameters() if of.requires_grad})
    whole, in_parts = gradients
    assert whole.keys() == in_parts.keys() and all(gradient is not None for gradient in in_parts.values())
    for name, gradient in whole.items():
        torch.testing.assert_close(in_parts[name], gradient, rtol=1e-4, atol=1e-5, msg=name)


class TestAgreement:
    @pytest.mark.parametrize("number", range(1, 9))
    def test_the_rows_that_are_there_twice_are_found_again(self, number):
        batch = first_half_twice({"a": torch.arange(number), "b": torch.zeros(number, 3)})
        assert batch["a"].tolist() == [*range(number), *range((number + 1) // 2)]
        assert len(batch["b"]) == len(batch["a"])
        logits = torch.randn(number, 4)
        same = first_half_twice({"logits": logits})["logits"]
        assert disagreement(same, None, None) == 0
        last_other = torch.cat([same[:-1], same[-1:] + torch.tensor([1.0, 0, 0, 0])])
        row = (number + 1) // 2 - 1
        one, other = same[row].log_softmax(-1), last_other[-1].log_softmax(-1)
        both = torch.nn.functional.kl_div(one, other, reduction="sum", log_target=True)
        both += torch.nn.functional.kl_div(other, one, reduction="sum", log_target=True)
        torch.testing.assert_close(disagreement(last_other, None, None), both / 2 / ((number + 1) // 2))

    def test_of_words_it_is_between_their_tags_under_the_crf(self):
        torch.manual_seed(0)
        crf = LinearChainCRF(5)
        logits = torch.randn(3, 6, 5).requires_grad_()  # two rows, the first of them twice
        mask = torch.tensor([[1, 1, 0, 1, 0, 0]] * 3).bool()
        value = disagreement(logits, mask, crf)
        one, other = (crf.marginals(logits[row : row + 1], mask[:1])[0][mask[0]] for row in (0, 2))
        expected = ((one - other) * (one.log() - other.log())).sum() / 2
        torch.testing.assert_close(value, expected)
        value.backward()
        assert logits.grad[0][mask[0]].abs().sum() > 0 and logits.grad[1].abs().sum() == 0
        assert logits.grad[:, 2].abs().sum() == 0 and torch.isfinite(logits.grad).all()
        assert all(weight.grad.abs().sum() > 0 for weight in crf.parameters())
        sure = torch.tensor([[[200.0, -200.0]]] * 3).requires_grad_()
        turned = sure * torch.tensor([1, 1, -1])[:, None, None]
        disagreement(turned, torch.ones(3, 1).bool(), LinearChainCRF(2)).backward()
        assert torch.isfinite(sure.grad).all()

    def test_it_is_learnt_and_only_in_training(self, features, processor, new_model, make_arguments):
        def trained(agreement):
            set_seed(0)
            trainer = IFAformerTrainer(
                model=new_model(),
                args=make_arguments(
                    max_steps=40, learning_rate=3e-3, save_strategy="no", load_best_model_at_end=False
                ),
                train_dataset=features["train"],
                eval_dataset=features["validation"],
                processing_class=processor,
                mask_probability=0.3,
                agreement=agreement,
            )
            trainer.train()
            assert trainer.evaluate()["eval_loss"] > 0
            set_seed(0)
            trainer.model.train()
            batch = trainer.data_collator([features["train"][row] for row in range(24)])
            trainer.agreement = 1.0
            with torch.no_grad():
                inputs = trainer._prepare_inputs(batch)
                assert len(inputs["input_ids"]) == 36
                outputs = trainer.model(**inputs)
                return disagreement(outputs.logits, inputs["crf_mask"], trainer.model.crf).item()

        assert trained(500.0) < 0.6 * trained(0.0)

    def test_adapters_learn_to_agree_too(self, features, processor, new_model, make_arguments):
        model = new_model()
        adapted = get_peft_model(model, lora_config(model, processor))
        before = {name: of.detach().clone() for name, of in adapted.named_parameters() if ".crf." in name}
        IFAformerTrainer(
            model=adapted,
            args=make_arguments(max_steps=2, save_strategy="no", load_best_model_at_end=False, bf16=True),
            train_dataset=features["train"],
            eval_dataset=features["validation"],
            processing_class=processor,
            agreement=1.0,
        ).train()
        trained = {name: of for name, of in adapted.named_parameters() if ".crf." in name and of.requires_grad}
        assert trained and all(not torch.equal(of, before[name]) for name, of in trained.items())

    def test_a_sharded_crf_cannot_be_asked_again(self, features, processor, new_model, make_arguments, monkeypatch):
        create = Trainer.create_accelerator_and_postprocess

        def with_fsdp(self):
            create(self)
            self.is_fsdp_enabled = True

        monkeypatch.setattr(Trainer, "create_accelerator_and_postprocess", with_fsdp)
        with pytest.raises(ValueError, match="agreement works only where each process holds the whole model"):
            IFAformerTrainer(
                model=new_model(),
                args=make_arguments(max_steps=1),
                train_dataset=features["train"],
                processing_class=processor,
                agreement=1.0,
            )
