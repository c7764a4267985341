"""A push that may fail, as the tests of a command list them."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


LOGIN = "hf auth login"


@dataclass(frozen=True)
class Case:
    """
    A push that may fail.

    Args:
        name: of the repository below `me`.
        token: HF_TOKEN; None for a user who is not logged in.
        fault: what is armed for it, as arguments of `Hub.arm`.
        there: whether the repository is there from before.
        fails: whether the command fails.
        says: parts of what the user reads.
        options: further options of the command.
        for_good: whether it fails whoever asks again.
    """

    name: str
    token: str | None = "hf_write"
    fault: Mapping[str, Any] = field(default_factory=dict)
    there: bool = True
    fails: bool = True
    says: tuple[str, ...] = ()
    options: tuple[str, ...] = ()
    for_good: bool = False

    @property
    def repo_id(self) -> str:
        return f"me/{self.name}"
