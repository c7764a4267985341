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
from modeling_ifaformer.training import IFAformerTrainer, IFAformerTrainingArguments
from modeling_ifaformer.training import trainer as trainer_module
from modeling_ifaformer.training.run_folder import last_complete_checkpoint
from modeling_ifaformer.training.trainer import parameter_groups
from processing.labels import label_maps


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
