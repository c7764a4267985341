"""Phrases that a zero-shot detector looks for."""

import importlib
import re
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from .detectors import (
    _plain,
)


# What an entity of a type looks like. Names themselves cannot be looked for: a detector knows no names.
ENTITY_PHRASES = {
    "PER": ("a person", "a face"),
    "ORG": ("a logo", "a sports team", "a uniform"),
    "LOC": ("a building", "a landscape", "a landmark"),
    "MISC": ("a poster", "a screen", "a trophy"),
}


TYPE_ALIASES = {
    "PERSON": "PER",
    "ORGANIZATION": "ORG",
    "ORGANISATION": "ORG",
    "LOCATION": "LOC",
    "GPE": "LOC",
    "OTHER": "MISC",
}


SPACY_MODELS = ("en_core_web_sm", "en_core_web_md", "en_core_web_lg", "en_core_web_trf")


def label_phrases(entity_types: Iterable[str]) -> list[str]:
    """What entities of these types look like, to look for it in a picture: PER -> "a person", "a face"."""
    phrases: list[str] = []
    for entity_type in entity_types:
        name = entity_type.upper()
        name = TYPE_ALIASES.get(name, name)
        word = name.lower().replace("_", " ").strip()
        phrases.extend(ENTITY_PHRASES.get(name, (f"{'an' if word[:1] in tuple('aeiou') else 'a'} {word}",)))
    return list(dict.fromkeys(phrases))


def installed_spacy_model() -> str | None:
    """An English spaCy model that is installed, the smallest first, or None."""
    try:
        spacy = importlib.import_module("spacy")
    except ImportError:
        return None
    return next((name for name in SPACY_MODELS if spacy.util.is_package(name)), None)


class NounPhrases:
    """
    Texts -> the noun phrases of each, lower-cased, in order of first occurrence, without pronouns; `fallback` for a
    text that has none.
    """

    def __init__(self, spacy_model: str, fallback: Sequence[str]) -> None:
        """
        Raises:
            ImportError: where spaCy or the model is missing, saying how to install it.
            ValueError: for a model that finds no noun phrases.
        """
        try:
            spacy = importlib.import_module("spacy")
        except ImportError as error:
            raise ImportError(
                "Noun phrases need spaCy: `pip install spacy`, then "
                f"`python -m spacy download {spacy_model}`; or give the phrases yourself."
            ) from error
        try:
            self.nlp = spacy.load(spacy_model, exclude=["ner"])
        except OSError as error:
            raise ImportError(
                f"No spaCy model {spacy_model!r}: `python -m spacy download {spacy_model}`, or name a folder."
            ) from error
        if not any(self.nlp.has_pipe(name) for name in ("parser", "transition_parser")):
            raise ValueError(
                f"spaCy model {spacy_model!r} has no parser, so it finds no noun phrases; got pipes "
                f"{self.nlp.pipe_names}. Name another, such as {SPACY_MODELS[0]}."
            )
        self.fallback = list(fallback)

    def __call__(self, texts: Iterable[str]) -> list[list[str]]:
        """A list of phrases for each text."""
        found = []
        for document in self.nlp.pipe(texts):
            chunks = (_plain(chunk.text) for chunk in document.noun_chunks if chunk.root.pos_ != "PRON")
            phrases = dict.fromkeys(chunk for chunk in chunks if any(letter.isalpha() for letter in chunk))
            found.append(list(phrases) or self.fallback)
        return found


# Texts -> the phrases to look for in the picture of each, None for a detector of a closed set.
FindPhrases = Callable[[Sequence[str]], Sequence[list[str] | None]]


def phrase_finder(
    given: Sequence[str] | None, spacy_model: str | None, entity_types: Sequence[str]
) -> tuple[dict[str, Any], FindPhrases]:
    """
    Where grounding phrases come from.

    Args:
        given: phrases for every picture, which win.
        spacy_model: finds noun phrases; an installed one if None, the entity types if that is none or "none".
        entity_types: what to look for where a text gives no noun phrase.

    Returns:
        The source, for settings; and texts -> the phrases of each.

    Raises:
        ValueError: for no entity types, and a model that finds no noun phrases.
        ImportError: for spaCy or a model that is not installed.
    """
    if given is not None:
        return {"given": given}, lambda texts: [list(given) for _ in texts]
    phrases = label_phrases(entity_types)
    if not phrases:
        raise ValueError("The labels name no entity types: say what to look for by phrases.")
    if spacy_model is None:
        spacy_model = installed_spacy_model()
    if spacy_model is None or spacy_model == "none":
        return {"label set": phrases}, lambda texts: [phrases for _ in texts]
    noun_phrases = NounPhrases(spacy_model, phrases)
    meta = noun_phrases.nlp.meta
    return {"noun phrases": f"{spacy_model} {meta.get('version')}", "else": phrases}, noun_phrases


def tag_types(tags: Iterable[str]) -> list[str]:
    """The entity types of tags such as B-PER, each once, in order."""
    return list(dict.fromkeys(match[1] for tag in tags if (match := re.match(r"[BI]-(.+)", tag))))


def relation_types(relations: Iterable[str]) -> list[str]:
    """The entity types that relations such as /per/org/member_of name, each once, in order."""
    return list(dict.fromkeys(part for name in relations if name[:1] == "/" for part in name.split("/")[1:3]))
