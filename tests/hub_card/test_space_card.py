import re

import pytest
import yaml

from hub_card.space_card import APP_FILE, PYTHON_VERSION, SDK_VERSION, SpaceFacts, space_card


def pins(path):
    return dict(re.findall(r"^([\w-]+)==(\S+)$", path.read_text(encoding="utf-8"), re.MULTILINE))


def test_metadata_and_text():
    facts = SpaceFacts("Try it", ["me/one", "me/two"], description="Of *mine*.\n", license="mit")
    _, head, body = str(space_card(facts)).split("---\n", 2)
    card = yaml.safe_load(head)
    assert card["models"] == ["me/one", "me/two"] and card["license"] == "mit" and card["title"] == "Try it"
    assert (card["sdk"], card["sdk_version"], card["python_version"]) == ("gradio", SDK_VERSION, PYTHON_VERSION)
    assert (
        "\n`me/one`, `me/two`, with the code" in body and "\nOf *mine*.\n" in body and f"gradio=={SDK_VERSION}" in body
    )


def test_what_is_not_known_is_left_out():
    card = str(space_card(SpaceFacts("Try it", ["me/one"])))
    assert "license" not in card and "None" not in card


def test_a_page_without_a_model_is_refused():
    with pytest.raises(ValueError, match="Try it needs at least one model"):
        space_card(SpaceFacts("Try it", []))


def test_the_hub_builds_with_the_versions_tested(repository):
    tested, wanted = pins(repository / "constraints.txt"), pins(repository / "hub_card" / "space" / "requirements.txt")
    assert tested["gradio"] == SDK_VERSION
    assert set(wanted) == {"torch", "transformers", "pytorch-crf"} and wanted.items() <= tested.items()
    setup = (repository / "setup.cfg").read_text(encoding="utf-8")
    assert f"python_requires = >={PYTHON_VERSION}\n" in setup
    assert (repository / "hub_card" / "space" / APP_FILE).exists()


def test_a_model_of_relations_is_named_for_the_page_and_for_the_hub():
    facts = SpaceFacts("Try it", ["me/one"], "me/relations")
    _, head, body = str(space_card(facts)).split("---\n", 2)
    card = yaml.safe_load(head)
    assert card["relation_model"] == "me/relations" and card["models"] == ["me/one", "me/relations"]
    assert "relation-extraction" in card["tags"] and len(card["short_description"]) <= 60, (
        "the Hub takes no longer one"
    )
    assert "are found by `me/relations`.\n" in body and "\n`me/one`, with the code" in body
    without = str(space_card(SpaceFacts("Try it", ["me/one"])))
    assert "relation_model:" not in without and "are found by" not in without
