"""The page about the demo: one sentence with four pictures, three scores, and what the demo is not."""

from collections.abc import Mapping
from typing import Any

from transformers import PreTrainedModel

from hub_card.model_facts import KNOWN_DATASETS
from modeling_ifaformer.training.scoring import SHUFFLED
from processing import IFAformerPipeline, IFAformerProcessor
from processing.data.demo.entity_tweets import TYPICAL_TWEETS, plan_tweet
from processing.inspection.html_page import page
from processing.rendering import CROP_COLOURS, entity_text, escaped, framed_picture


SENTENCE = "Phoenix is all over my timeline"
WITH, WITHOUT, WRONG = "with the pictures", "without pictures", "with the wrong pictures"
DRAWN = {"PER": "a person", "LOC": "a place", "ORG": "an organisation", "MISC": "a title"}


def demo_page(
    checkpoints: Mapping[str, tuple[PreTrainedModel, IFAformerProcessor]], results: Mapping[str, Mapping[str, Any]]
) -> str:
    """
    The page, which stands alone and carries no script. The first of the models tags the sentence, and what it answers
    is shown whether it is right or wrong.

    Args:
        checkpoints, results: what [`score_checkpoints`] took and returned, of one protocol and the demo's test split.
    """
    first, (model, processor) = next(iter(checkpoints.items()))
    tagger = IFAformerPipeline(model, processor=processor)
    *others, last = DRAWN.values()
    pictures = "".join(_tagged_picture(tagger, entity_type) for entity_type in TYPICAL_TWEETS)
    figures = [
        (WITH if of.config.text_attends_vision else WITHOUT, results[name]) for name, (of, _) in checkpoints.items()
    ]
    figures += [(WRONG, results[name + SHUFFLED]) for name in checkpoints if name + SHUFFLED in results]
    shown = "".join(f"<p><b>{100 * of['f1']:.1f}</b> {escaped(label)}</p>" for label, of in figures)
    return page(
        "The picture decides",
        f"<p>The sentence is the same four times. Whether Phoenix is {', '.join(others)} or {last} is left to the "
        "picture: a frame marks the object that decides. The model gets this part of the picture among others, and is "
        "not told which one it is. Its answer and the score stand beside the name.</p>"
        f'<div class="beside">{pictures}</div>'
        "<h2>Test F1, in percent</h2>"
        f'<div class="beside figures">{shown}</div>'
        "<p>Without pictures it is another model, trained on the texts alone. The wrong pictures are those of other "
        f"tweets. Of the {results[first]['support']} names of the test tweets, four in five are left open by their "
        "sentence: whoever reads the text alone can only guess these, and gets one in four of them right.</p>"
        f"<h2>What the demo is not</h2><p>{escaped(KNOWN_DATASETS['demo'].limits)}</p>",
    )


def _tagged_picture(tagger: IFAformerPipeline, entity_type: str) -> str:
    """The sentence as the model tags it beside a picture of that type, and the picture."""
    scene = plan_tweet(0, "test", TYPICAL_TWEETS[entity_type]).scene
    assert scene is not None
    picture = scene.paint()
    crops = [crop.box for crop in scene.aux_crops[: tagger.processor.num_aux_crops]]
    entities = tagger({"text": SENTENCE, "image": picture, "crops": crops})
    frames = [("", crop.box, CROP_COLOURS["aux"]) for crop in scene.aux_crops if crop.object.deciding]
    caption = f"Drawn: {DRAWN[entity_type]} ({entity_type})"
    figure = f"<figure>{framed_picture(picture, caption, frames)}<figcaption>{caption}</figcaption></figure>"
    return f'<article class="tweet"><p class="text">{entity_text(SENTENCE, entities)}</p>{figure}</article>'
