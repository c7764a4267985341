"""A place on the Hub for the model of a training, made before the training."""

from pathlib import Path

from transformers import TrainingArguments
from transformers.trainer_utils import HubStrategy

from hub_card.sharing.upload import check_destination, make_repository


def prepare_push(arguments: TrainingArguments) -> None:
    """
    Make the repository that the arguments name, and write its whole name into them.

    Args:
        arguments: `hub_model_id` (by default the name of the output folder), `hub_token` and `hub_private_repo` are
            used.

    Raises:
        ValueError: for options of the Trainer's own pushing, in whose place the trained model is pushed once.
        NotPushed: where the Hub does not make the repository.
    """
    if arguments.hub_strategy != HubStrategy.END:
        # The Trainer would publish training_args.bin and logs as well, with paths of this machine and the token.
        raise ValueError(
            f"hub_strategy must be end, got {HubStrategy(arguments.hub_strategy).value}: the model is pushed when it "
            "is trained."
        )
    if arguments.hub_revision is not None:
        raise ValueError(
            "hub_revision cannot be used, since models are pushed to the main branch. Name a repository of its own "
            "instead."
        )
    name = arguments.hub_model_id or Path(str(arguments.output_dir)).absolute().name
    check_destination(name, arguments.hub_token)
    repository = make_repository(name, "model", private=bool(arguments.hub_private_repo), token=arguments.hub_token)
    arguments.hub_model_id = repository.repo_id
