"""The files of a Space: its page, what that needs, the card, and examples drawn by the demo data's builder."""

import importlib.resources
import json
from pathlib import Path
from typing import Any

from hub_card.space_card import APP_FILE, SpaceFacts, space_card
from processing.data.demo.entity_tweets import TYPES, Tweet, plan_tweet

from .model_folder import CARD


REQUIREMENTS = "requirements.txt"
EXAMPLES = "examples"
STALE_SPACE_FILES = (f"{EXAMPLES}/*.png", f"{EXAMPLES}/examples.json")  # which a push replaces

# Of the demo data's test split, whose sentences no demo model was trained on.
EXAMPLE_SEED, EXAMPLE_SPLIT = 0, "test"


def write_space(folder: Path, facts: SpaceFacts) -> dict[str, Path]:
    """
    Write a Space's files, by their path in the repository; other files of the folder stay as they are.

    Raises:
        OSError: where they cannot be written.
    """
    (folder / EXAMPLES).mkdir(parents=True, exist_ok=True)
    source = importlib.resources.files("hub_card") / "space"
    for name in (APP_FILE, REQUIREMENTS):
        (folder / name).write_bytes((source / name).read_bytes())
    (folder / CARD).write_text(f"{space_card(facts)}\n", encoding="utf-8")
    names = [APP_FILE, REQUIREMENTS, CARD, *write_examples(folder)]
    return {name: folder / name for name in names}


def write_examples(folder: Path) -> list[str]:
    """
    Draw an example of each entity type, and one without a picture; the paths of their files below the folder.

    `examples.json` lists them: `text`, `image` (path beside it, or null) and `crops`, the boxes as the pipeline takes
    them, empty where there are none.
    """
    rows: list[dict[str, Any]] = []
    names = [f"{EXAMPLES}/examples.json"]
    for number, tweet in enumerate(choose_tweets()):
        row: dict[str, Any] = {"text": " ".join(tweet.tokens), "image": None, "crops": {}}
        if tweet.scene is not None:
            row["image"] = f"{number}.png"
            row["crops"] = {
                "aux_crops": [crop.box for crop in tweet.scene.aux_crops],
                "rcnn_crops": [crop.box for crop in tweet.scene.rcnn_crops],
            }
            names.append(f"{EXAMPLES}/{row['image']}")
            tweet.scene.paint().save(folder / names[-1])
        rows.append(row)
    (folder / names[0]).write_text(json.dumps(rows, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    return names


def choose_tweets() -> list[Tweet]:
    """The first tweet of each type whose only name a crop settles among others, and the first without a picture."""
    found: dict[str | None, Tweet] = {}
    index = 0
    while len(found) <= len(TYPES):
        tweet = plan_tweet(EXAMPLE_SEED, EXAMPLE_SPLIT, index)
        index += 1
        names = [tag.removeprefix("B-") for tag in tweet.tags if tag.startswith("B-")]
        if tweet.scene is None:
            found.setdefault(None, tweet)
        elif len(names) == 1 and all(_is_settled(crops) for crops in (tweet.scene.aux_crops, tweet.scene.rcnn_crops)):
            found.setdefault(names[0], tweet)
    return [found[entity_type] for entity_type in (*TYPES, None)]


def _is_settled(crops: tuple[Any, ...]) -> bool:
    return len(crops) > 1 and any(crop.object.deciding for crop in crops)
