"""The card of a data set."""

import importlib.resources
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from datasets import Features
from datasets.info import DatasetInfo, DatasetInfosDict
from datasets.splits import SplitDict, SplitInfo
from huggingface_hub import DatasetCard, DatasetCardData

from .markdown import counts_table


# The Hub's names of sizes, by the smallest number of rows that is too large for them.
# https://github.com/huggingface/hub-docs/blob/main/datasetcard.md
SIZE_CATEGORIES = (
    (1_000, "n<1K"),
    (10_000, "1K<n<10K"),
    (100_000, "10K<n<100K"),
    (1_000_000, "100K<n<1M"),
    (10_000_000, "1M<n<10M"),
)

COLUMNS = {
    "id": "of the row, unique within its split",
    "image_id": "of the picture",
    "tokens": "the words of the text",
    "ner_tags": "a tag for each word, IOB2",
    "head": "first entity: name, `start` and `end` as word indices, `end` exclusive",
    "tail": "second entity, likewise",
    "relation": "between head and tail",
    "image": "the picture, None where there is none",
    "aux_crops": "crops of it by phrase grounding",
    "rcnn_crops": "crops of it by a closed-set detector",
    "aux_objects": "label, score and box (xmin, ymin, xmax, ymax, pixels) of each aux crop",
    "rcnn_objects": "label, score and box of each rcnn crop",
}


@dataclass
class DatasetFacts:
    """
    What a data-set card says.

    Args:
        title: the heading.
        features: the features of the rows.
        statistics: by split, as `split_statistics` counts them.
        num_bytes: by split, the size of its Parquet files.
        report: what loading had to report, line by line, without paths of this machine.
        description: what the data are and where they come from, in Markdown.
        license: the Hub's identifier, None where it is not known.
        language: ISO 639-1 codes.
        repo_id: name of the repository that the data go to.
    """

    title: str
    features: Features
    statistics: Mapping[str, Mapping[str, Any]]
    num_bytes: Mapping[str, int]
    report: str = ""
    description: str = ""
    license: str | None = None
    language: list[str] = field(default_factory=list)
    repo_id: str | None = None


def dataset_card(facts: DatasetFacts) -> DatasetCard:
    """
    The card of a data set whose rows lie in `data/<split>-*.parquet`.

    Raises:
        ValueError: for statistics without a split.
    """
    if not facts.statistics:
        raise ValueError(f"The card of {facts.title} needs the statistics of at least one split.")
    is_relations = "relation" in facts.features
    rows = sum(split["rows"] for split in facts.statistics.values())
    data = DatasetCardData(
        pretty_name=facts.title,
        language=facts.language or None,
        license=facts.license,
        task_categories=["text-classification" if is_relations else "token-classification"],
        task_ids=["multi-class-classification" if is_relations else "named-entity-recognition"],
        size_categories=[next((name for most, name in SIZE_CATEGORIES if rows < most), "10M<n<100M")],
        tags=["multimodal", "ifaformer"],
        configs=[
            {
                "config_name": "default",
                "data_files": [{"split": split, "path": f"data/{split}-*"} for split in facts.statistics],
            }
        ],
    )
    splits = SplitDict()
    for split, statistics in facts.statistics.items():
        splits.add(SplitInfo(split, num_bytes=facts.num_bytes[split], num_examples=statistics["rows"]))
    size = sum(facts.num_bytes.values())
    info = DatasetInfo(features=facts.features, splits=splits, download_size=size, dataset_size=size)
    DatasetInfosDict({"default": info}).to_dataset_card_data(data)

    found = "relations" if is_relations else "entities"
    columns = [f"- `{name}`: {meaning}" for name, meaning in COLUMNS.items() if name in facts.features]
    template = importlib.resources.files(__package__) / "dataset_card_template.md"
    return DatasetCard.from_template(
        data,
        template_str=template.read_text(encoding="utf-8"),
        title=facts.title,
        repo_id=facts.repo_id,
        first_split=next(iter(facts.statistics)),
        description=facts.description.strip(),
        columns="\n".join(columns),
        counts=counts_table(facts.statistics, found),
        longest=max(split["words"]["longest"] for split in facts.statistics.values()),
        report="\n".join(f"    {line}" for line in facts.report.splitlines()),
        task="relation extraction" if is_relations else "named entity recognition",
    )
