"""
The factory of spaCy's component `ifaformer`, which spaCy finds by the entry point in setup.cfg.

    nlp.add_pipe("ifaformer", config={"model": "runs/mine"})

spaCy imports this file whenever it makes a pipeline of any kind, so that it imports nothing else of ours beforehand.
"""

from typing import Any

from spacy.language import Language


DEFAULTS: dict[str, Any] = {"overwrite_ents": False, "threshold": None, "batch_size": 32, "device": None}


@Language.factory(
    "ifaformer", default_config=DEFAULTS, assigns=["doc.ents", "token.ent_iob", "token.ent_type", "span._.score"]
)
def make_ifaformer(
    nlp: Language,
    name: str,
    model: str,
    overwrite_ents: bool,
    threshold: float | str | dict[str, float] | None,
    batch_size: int,
    device: int | str | None,
) -> Any:
    """A component of a pipeline, see [`EntityTagger`]."""
    from modeling_ifaformer.prediction.spacy_component import EntityTagger

    return EntityTagger(
        name, model, overwrite_ents=overwrite_ents, threshold=threshold, batch_size=batch_size, device=device
    )
