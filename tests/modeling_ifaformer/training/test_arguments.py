import pytest

from modeling_ifaformer.training import IFAformerTrainer
from modeling_ifaformer.training.arguments import check_arguments


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("mask_probability", 1.5, r"mask_probability must be between 0 and 1, got 1\.5\."),
        ("modality_dropout", -0.1, r"modality_dropout must be between 0 and 1, got -0\.1\."),
        ("context_dropout", float("nan"), r"context_dropout must be between 0 and 1, got nan\."),
        ("swap_probability", 0.6, r"swap_probability must be between 0 and 0\.5, got 0\.6\."),
        ("swap_probability", -0.1, r"swap_probability must be between 0 and 0\.5, got -0\.1"),
        ("swap_probability", float("nan"), r"swap_probability must be between 0 and 0\.5, got nan"),
        ("agreement", -1.0, r"agreement must be 0 or more, got -1\."),
        ("agreement", float("nan"), "agreement must be 0 or more, got nan"),
        ("agreement", float("inf"), "agreement must be 0 or more, got inf"),
        ("agreement", "much", "agreement must be 0 or more, got 'much'"),
        ("adversarial_epsilon", -0.5, r"adversarial_epsilon must be 0 or more, got -0\.5\."),
        ("per_device_train_batch_size", 0, "per_device_train_batch_size must be at least 1, got 0"),
        ("learning_rate", -1e-4, r"learning_rate must be 0 or more, got -0\.0001\."),
        ("text_learning_rate", float("nan"), "text_learning_rate must be 0 or more, got nan"),
        ("head_learning_rate", float("inf"), "head_learning_rate must be 0 or more, got inf"),
        ("adapter_learning_rate", -1, "adapter_learning_rate must be 0 or more, got -1"),
    ],
)
def test_numbers_that_cannot_be(make_arguments, option, value, message):
    with pytest.raises(ValueError, match=message):
        make_arguments(**{option: value})


def test_without_a_number_of_steps_there_are_epochs(make_arguments):
    for number in (-3, 0, float("nan")):
        make_arguments(num_train_epochs=number, max_steps=5)
        message = rf"num_train_epochs must be above 0, got {number}\. Or give a number of steps \(max_steps\)"
        with pytest.raises(ValueError, match=message):
            make_arguments(num_train_epochs=number, max_steps=-1)


@pytest.mark.parametrize("option", ["mask_probability", "modality_dropout", "context_dropout"])
def test_all_and_nothing_can_be(make_arguments, option):
    assert getattr(make_arguments(**{option: 1}), option) == 1 and getattr(make_arguments(), option) == 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"relations": None}, "swap_probability is for models for relations, and this one finds entities"),
        ({"relations": ["a", "b"]}, "the processor has no negative_relation. Name the relation that says"),
        ({"relations": ["a", "None"], "label_scheme": "deepke"}, "does not work with the label scheme deepke"),
    ],
)
def test_a_swap_needs_pairs_without_relation(make_arguments, make_processor, options, message):
    processor = make_processor(**options)
    with pytest.raises(ValueError, match=message):
        check_arguments(make_arguments(swap_probability=0.5), processor)
    check_arguments(make_arguments(), processor)


def test_masked_words_need_a_mask_token(make_arguments, make_processor):
    processor = make_processor()
    check_arguments(make_arguments(mask_probability=0.1), processor)
    processor.tokenizer.mask_token = None
    with pytest.raises(ValueError, match=r"the tokenizer of this model has none\. Set mask_probability to 0"):
        check_arguments(make_arguments(mask_probability=0.1), processor)
    check_arguments(make_arguments(), processor)


def test_the_trainer_checks_them(features, processor, new_model, make_arguments):
    data = {"train_dataset": features["train"], "processing_class": processor}
    with pytest.raises(ValueError, match="swap_probability is for models for relations"):
        IFAformerTrainer(model=new_model(), args=make_arguments(swap_probability=0.5), **data)
