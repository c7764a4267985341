"""
Sharing on the Hub: a model, a data set or a Space is pushed in one commit, with its card.

    push_model("runs/mine", "user/tagger", license="mit")
    push_dataset(data, "user/tweets", license="cc-by-4.0", language=["en"])
    push_space(SpaceFacts("Try it", ["user/tagger"]), "user/tagger-demo")
"""

from hub_card.space_card import SpaceFacts

from .dataset_folder import push_dataset, write_dataset
from .model_folder import model_files, push_model
from .space_folder import push_space, write_space
from .upload import NotPushed, check_destination, make_repository


__all__ = [
    "NotPushed",
    "SpaceFacts",
    "check_destination",
    "make_repository",
    "model_files",
    "push_dataset",
    "push_model",
    "push_space",
    "write_dataset",
    "write_space",
]
