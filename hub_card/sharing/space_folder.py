"""The folder of a Space: its page, what that needs, the card, and examples drawn by the demo data's builder."""

import json
import os
import shutil
import tempfile
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from huggingface_hub import SpaceCard

from hub_card.space_card import APP_FILE, SpaceFacts, space_card
from processing.data.demo.entity_tweets import TYPICAL_TWEETS, Tweet, plan_tweet
from processing.data.demo.relation_tweets import TYPICAL_RELATIONS, RelationTweet, plan_relation

from .upload import CARD, find_model, upload


# By their folders beside this one: the server keeps to the same limits as the page.
PAGE_FILES = {APP_FILE: "space", "visitors.py": "space", "requirements.txt": "space", "limits.py": "serving"}
EXAMPLES = "examples"
STALE_SPACE_FILES = (f"{EXAMPLES}/*.png", f"{EXAMPLES}/examples.json")  # which a push replaces

# Of the demo data's test split, whose sentences no demo model was trained on: one of each type, and the first one
# without a picture.
EXAMPLE_TWEETS = (*TYPICAL_TWEETS.values(), 26)


@dataclass(frozen=True)
class PushedSpace:
    """The repository of a Space that was pushed, and the models that it can load only with a secret `HF_TOKEN`."""

    url: str
    private_models: tuple[str, ...]


def write_space(folder: str | os.PathLike, facts: SpaceFacts) -> None:
    """
    Write the files of a Space for this machine. Other files of the folder stay as they are.

    Where one of its models is a folder, the card has the folder's name alone, and the page is started with `--model`:
    nothing that is written holds a path of this machine.

    Raises:
        OSError: where they cannot be written.
    """
    folders = {name: Path(name).resolve().name for name in facts.all_models if Path(name).is_dir()}
    relation_model = folders.get(facts.relation_model or "", facts.relation_model)
    named = replace(facts, models=[folders.get(name, name) for name in facts.models], relation_model=relation_model)
    _write(Path(folder), space_card(named, is_loading=not folders), relation_model is not None)


def _write(folder: Path, card: SpaceCard, with_relations: bool) -> list[str]:
    """The paths of the files, below the folder."""
    (folder / EXAMPLES).mkdir(parents=True, exist_ok=True)
    for name, room in PAGE_FILES.items():
        shutil.copyfile(Path(__file__).parents[1] / room / name, folder / name)
    (folder / CARD).write_text(f"{card}\n", encoding="utf-8")
    return [*PAGE_FILES, CARD, *write_examples(folder, with_relations)]


def push_space(
    facts: SpaceFacts,
    repo_id: str,
    *,
    folder: str | os.PathLike | None = None,
    private: bool = False,
    token: str | None = None,
) -> PushedSpace:
    """
    Publish a Space in one commit.

    Args:
        facts: what its card says. Its models must be on the Hub.
        repo_id: name of the repository, `user/name`.
        folder: where the files stay; by default they lie in a temporary folder.
        private, token: as for [`upload`].

    Raises:
        NotPushed: for a model that the Hub does not have, and where the upload fails.
        OSError: where the files cannot be written.
    """
    private_models = tuple(name for name in facts.all_models if find_model(name, token).private)
    with nullcontext(folder) if folder else tempfile.TemporaryDirectory() as place:
        files = {Path(place): _write(Path(place), space_card(facts), facts.relation_model is not None)}
        message = f"Upload {facts.title}"
        url = upload(files, repo_id, "space", message=message, stale=STALE_SPACE_FILES, private=private, token=token)
    return PushedSpace(url, private_models)


def write_examples(folder: Path, with_relations: bool = False) -> list[str]:
    """
    Draw an example of each entity type and one without a picture, and with relations some of these; the paths of their
    files below the folder.

    `examples.json` lists them: `text`, `image` (path beside it, or null), `crops`, the boxes as the pipeline takes
    them, empty where there are none, and for relations `head` and `tail`.
    """
    examples: list[tuple[Tweet | RelationTweet, dict[str, str]]] = [
        (plan_tweet(0, "test", index), {}) for index in EXAMPLE_TWEETS
    ]
    for index in TYPICAL_RELATIONS.values() if with_relations else ():
        pair = plan_relation(0, "test", index)
        head, tail = (" ".join(pair.tokens[start:end]) for start, end in (pair.head, pair.tail))
        examples.append((pair, {"head": head, "tail": tail}))
    rows: list[dict[str, Any]] = []
    names = [f"{EXAMPLES}/examples.json"]
    for number, (tweet, words) in enumerate(examples):
        row: dict[str, Any] = {"text": " ".join(tweet.tokens), **words, "image": None, "crops": {}}
        if tweet.scene is not None:
            crops = {"aux_crops": tweet.scene.aux_crops, "rcnn_crops": tweet.scene.rcnn_crops}
            row |= {"image": f"{number}.png"}
            row["crops"] = {kind: [crop.detected for crop in of_kind] for kind, of_kind in crops.items()}
            names.append(f"{EXAMPLES}/{row['image']}")
            tweet.scene.paint().save(folder / names[-1])
        rows.append(row)
    (folder / names[0]).write_text(json.dumps(rows, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    return names
