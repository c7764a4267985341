"""The README.md of a Space, whose head tells the Hub how to run it and the page what to load."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from huggingface_hub import SpaceCard, SpaceCardData

from .markdown import code, plain


# The Hub builds with these: what the page was tested with, as in constraints.txt, and what its models' code needs.
SDK_VERSION = "6.31.0"
PYTHON_VERSION = "3.11"
APP_FILE = "app.py"


@dataclass
class SpaceFacts:
    """
    What a Space's card says.

    Args:
        title: the heading.
        models: the models to choose from, by their names on the Hub.
        relation_model: the model that finds relations, named likewise.
        description: what the models are, in Markdown.
        license: the Hub's identifier, None where it is not known.
    """

    title: str
    models: Sequence[str]
    relation_model: str | None = None
    description: str = ""
    license: str | None = None

    @property
    def all_models(self) -> list[str]:
        """The models, that of relations among them."""
        return [*self.models, *([self.relation_model] if self.relation_model else [])]


def space_card(facts: SpaceFacts, *, is_loading: bool = True) -> SpaceCard:
    """
    The card, with the metadata of https://huggingface.co/docs/hub/spaces-config-reference.

    Args:
        facts: what it says.
        is_loading: whether the page loads the models that the card names, as it does on the Hub.

    Raises:
        ValueError: without a model, since the page would have nothing to run.
    """
    if not facts.models:
        raise ValueError(f"The card of {facts.title} needs at least one model.")
    with_relations = facts.relation_model is not None
    data = SpaceCardData(
        title=facts.title,
        sdk="gradio",
        sdk_version=SDK_VERSION,
        python_version=PYTHON_VERSION,
        app_file=APP_FILE,
        license=facts.license,
        models=facts.all_models if is_loading else None,  # which the Hub links
        relation_model=facts.relation_model if is_loading else None,  # a key of ours that the page reads
        tags=["ifaformer", "multimodal", "named-entity-recognition", *["relation-extraction"] * with_relations],
        emoji="🐦",
        colorFrom="blue",
        colorTo="yellow",
        short_description=f"Entities {'and relations ' if with_relations else ''}in a tweet and its picture",
    )
    return SpaceCard.from_template(
        data,
        template_path=str(Path(__file__).with_name("space_card_template.md")),
        title=plain(facts.title),
        models=", ".join(map(code, facts.models)),
        relation_model=facts.relation_model and code(facts.relation_model),
        description=facts.description.strip(),
        sdk_version=SDK_VERSION,
    )
