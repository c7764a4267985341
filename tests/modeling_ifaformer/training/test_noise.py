from pathlib import Path

import pytest
import torch
from peft import get_peft_model
from transformers import Trainer, set_seed

from modeling_ifaformer.checkpoints.adapters import lora_config
from modeling_ifaformer.crf import LinearChainCRF
from modeling_ifaformer.training import IFAformerTrainer, build_model, build_processor, noise
from modeling_ifaformer.training.noise import (
    disagreement,
    drop_contexts,
    drop_modalities,
    first_half_twice,
    mask_tokens,
    moved_along_gradient,
    swap_unrelated,
)
from processing.features import prepare_features


WORDS = "ifaformer.text_model.embeddings.word_embeddings.weight"


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
    def test_training_sees_what_is_left_and_scoring_sees_all(
        self, features, processor, new_model, make_arguments, probability
    ):
        arguments = make_arguments(modality_dropout=probability)
        trainer = IFAformerTrainer(
            model=new_model(), args=arguments, train_dataset=features["train"], processing_class=processor
        )
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
        self, data, towers, make_arguments, cache_dir, monkeypatch, probability
    ):
        contexts = [[{"kind": "caption", "text": row["tokens"][1]}] for row in data["train"]]
        rows = data["train"].add_column("context", contexts)
        processor = build_processor(rows, **towers, aux_crop_size=8, rcnn_crop_size=8, max_context_length=5)
        features = prepare_features(rows, processor, cache_dir)
        trainer = IFAformerTrainer(
            model=build_model(processor, **towers),
            args=make_arguments(max_steps=2, context_dropout=probability),
            train_dataset=features,
            eval_dataset=features,
            processing_class=processor,
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
        monkeypatch.setattr(noise, "drop_contexts", lambda batch, mask, share: seen.append(mask) or batch)
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

    def test_training_alone_sees_them(self, relations, towers, make_arguments, cache_dir):
        processor = build_processor(relations, **towers, aux_crop_size=8, rcnn_crop_size=8, negative_relation="in")
        features = prepare_features(relations, processor, cache_dir)
        arguments = make_arguments(swap_probability=0.5, agreement=1.0)
        trainer = IFAformerTrainer(
            model=build_model(processor, **towers),
            args=arguments,
            train_dataset=features,
            eval_dataset=features,
            processing_class=processor,
        )
        arguments.swap_probability = 1.0  # so that nothing is left to chance
        batch = trainer.data_collator([features[row] for row in range(4)])
        trainer.model.train()
        read = trainer._prepare_inputs(dict(batch))["input_ids"]
        expected = swap_unrelated(batch, processor, 1.0)["input_ids"]
        assert torch.equal(read[:4], expected) and torch.equal(read[4:], expected[:2])
        trainer.model.eval()
        assert torch.equal(trainer._prepare_inputs(dict(batch))["input_ids"], batch["input_ids"])


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
                    max_steps=40, learning_rate=3e-3, save_strategy="no", mask_probability=0.3, agreement=agreement
                ),
                train_dataset=features["train"],
                eval_dataset=features["validation"],
                processing_class=processor,
            )
            trainer.train()
            assert trainer.evaluate()["eval_loss"] > 0
            set_seed(0)
            trainer.model.train()
            batch = trainer.data_collator([features["train"][row] for row in range(24)])
            trainer.args.agreement = 1.0
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
            args=make_arguments(max_steps=2, save_strategy="no", bf16=True, agreement=1.0),
            train_dataset=features["train"],
            eval_dataset=features["validation"],
            processing_class=processor,
        ).train()
        trained = {name: of for name, of in adapted.named_parameters() if ".crf." in name and of.requires_grad}
        assert trained and all(not torch.equal(of, before[name]) for name, of in trained.items())


class TestAdversarialReading:
    def test_the_move_is_along_the_gradient_and_taken_back(self):
        weight = torch.nn.Parameter(torch.randn(5, 3))
        weight.grad, before = torch.randn(5, 3), weight.detach().clone()
        grad = weight.grad.clone()
        with moved_along_gradient(weight, 0.5):
            moved = weight.detach() - before
            torch.testing.assert_close(moved, 0.5 * grad / grad.norm())
        assert torch.equal(weight, before) and torch.equal(weight.grad, grad)
        with pytest.raises(KeyError), moved_along_gradient(weight, 0.5):
            raise KeyError
        assert torch.equal(weight, before), "a reading that fails leaves the weights as they were"

    @pytest.mark.parametrize("value", [0.0, float("nan"), float("inf")])
    def test_a_gradient_without_a_direction_moves_nothing(self, value):
        weight = torch.nn.Parameter(torch.randn(5, 3))
        weight.grad, before = torch.full((5, 3), value), weight.detach().clone()
        with moved_along_gradient(weight, 0.5):
            assert torch.equal(weight, before)

    @pytest.mark.parametrize("number", [1, 2])
    def test_both_readings_are_learnt(self, number, features, processor, new_model, make_arguments, monkeypatch):
        """A step's gradient is the sum of those at the weights and at the moved ones, also of accumulated batches."""
        model = new_model()
        for part in model.modules():
            if isinstance(part, torch.nn.Dropout):
                part.p = 0.0
        words = model.get_input_embeddings().weight
        trainer = IFAformerTrainer(
            model=model,
            args=make_arguments(adversarial_epsilon=0.5),
            train_dataset=features["train"],
            processing_class=processor,
        )
        batches = [
            trainer.data_collator([features["train"][row] for row in range(4 * at, 4 * at + 4)])
            for at in range(number)
        ]
        read, compute_loss = [], trainer.compute_loss

        def watched(model, inputs, *args, **kwargs):
            read.append((words.detach().clone(), compute_loss(model, inputs, *args, **kwargs)))
            return read[-1][1]

        def gradients():
            return {name: of.grad.clone() for name, of in model.named_parameters() if of.grad is not None}

        monkeypatch.setattr(trainer, "compute_loss", watched)
        trainer.create_optimizer()
        trainer.current_gradient_accumulation_steps = 1
        before = words.detach().clone()
        told = [trainer.training_step(model, batch) for batch in batches]
        total = gradients()
        assert torch.equal(words, before) and len(read) == 2 * number
        assert told == [loss for _, loss in read[::2]], "that of the tweets as they are"
        expected = {name: torch.zeros_like(of) for name, of in total.items()}
        for batch, (first, of_first), (second, of_second) in zip(batches, read[::2], read[1::2], strict=True):
            assert torch.equal(first, before) and of_second > of_first
            for weight in (first, second):
                model.zero_grad()
                words.data.copy_(weight)
                compute_loss(model, trainer._prepare_inputs(batch)).backward()
                for name, of in gradients().items():
                    expected[name] += of
                if weight is first:
                    torch.testing.assert_close(second - first, 0.5 * words.grad / words.grad.norm())
        assert expected[WORDS].abs().sum() > 0
        torch.testing.assert_close(total, expected)

    def test_a_training_goes_on_as_if_it_had_not_stopped(self, features, processor, new_model, make_arguments):
        def trained(folder, steps, resume=None):
            set_seed(0)
            noise = {"agreement": 1.0, "mask_probability": 0.3, "adversarial_epsilon": 0.5}
            trainer = IFAformerTrainer(
                model=new_model(),
                args=make_arguments(folder, max_steps=steps, lr_scheduler_type="constant", **noise),
                train_dataset=features["train"],
                processing_class=processor,
            )
            trainer.train(resume_from_checkpoint=resume and str(resume))
            return trainer.model.state_dict()

        whole, plain = trained("whole", 6), new_model().state_dict()
        assert not torch.equal(whole[WORDS], plain[WORDS])
        trained("parts", 3)
        resumed = trained("parts", 6, Path(make_arguments("parts").output_dir, "checkpoint-3"))
        assert all(torch.equal(of, whole[name]) for name, of in resumed.items())

    @pytest.mark.parametrize("of_relations", [False, True])
    def test_words_that_are_not_trained(self, of_relations, relations, towers, processor, make_arguments):
        if of_relations:  # whose markers are trained
            processor = build_processor(relations, **towers, aux_crop_size=8, rcnn_crop_size=8)
        model = build_model(processor, **towers)
        options = {"model": get_peft_model(model, lora_config(model, processor)), "processing_class": processor}
        with pytest.raises(ValueError, match=r"is 0\.5, and moves .* but not all of them are trained"):
            IFAformerTrainer(args=make_arguments(adversarial_epsilon=0.5), **options)
        trainer = IFAformerTrainer(args=make_arguments(), **options)
        trainer.args.adversarial_epsilon = 0.5  # as a search gives it
        with pytest.raises(ValueError, match="not all of them are trained"):
            trainer.create_optimizer()


@pytest.mark.parametrize("name", ["agreement", "adversarial_epsilon"])
def test_a_sharded_model_has_neither(name, features, processor, new_model, make_arguments, monkeypatch):
    create = Trainer.create_accelerator_and_postprocess

    def with_fsdp(self):
        create(self)
        self.is_fsdp_enabled = True

    monkeypatch.setattr(Trainer, "create_accelerator_and_postprocess", with_fsdp)
    with pytest.raises(ValueError, match=rf"no process holds the whole model, and {name} \(1\) cannot be used"):
        IFAformerTrainer(
            model=new_model(),
            args=make_arguments(max_steps=1, **{name: 1.0}),
            train_dataset=features["train"],
            processing_class=processor,
        )
