"""The card of a data set."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from datasets import Features
from datasets.info import DatasetInfo, DatasetInfosDict
from datasets.splits import SplitDict, SplitInfo
from huggingface_hub import DatasetCard, DatasetCardData

from .markdown import counts_table, plain


# The Hub's names of sizes, for numbers of rows with at most 3 digits, with 4, and so on.
# https://github.com/huggingface/hub-docs/blob/main/datasetcard.md
SIZE_CATEGORIES = ("n<1K", "1K<n<10K", "10K<n<100K", "100K<n<1M", "1M<n<10M", "10M<n<100M")


def dataset_card(
    features: Features,
    statistics: Mapping[str, Mapping[str, Any]],
    num_bytes: Mapping[str, int],
    *,
    title: str,
    report: str = "",
    description: str = "",
    license: str | None = None,
    language: Sequence[str] = (),
    repo_id: str | None = None,
) -> DatasetCard:
    """
    The card of a data set whose rows lie in `data/<split>-*.parquet`.

    Args:
        features: of the rows.
        statistics: by split, as `split_statistics` counts them.
        num_bytes: by split, the size of its Parquet files.
        title: the heading.
        report: what loading had to report, line by line, without paths of this machine.
        description: what the data are and where they come from, in Markdown.
        license: the Hub's identifier, None where it is not known.
        language: ISO 639-1 codes.
        repo_id: name of the repository that the data go to.

    Raises:
        ValueError: for statistics without a split.
    """
    if not statistics:
        raise ValueError(f"The card of {title} needs the statistics of at least one split.")
    is_relation = "relation" in features
    rows = sum(split["rows"] for split in statistics.values())
    data = DatasetCardData(
        pretty_name=title,
        language=[*language] or None,
        license=license,
        task_categories=["text-classification" if is_relation else "token-classification"],
        task_ids=["multi-class-classification" if is_relation else "named-entity-recognition"],
        size_categories=[SIZE_CATEGORIES[min(max(len(str(rows)), 3) - 3, 5)]],
        tags=["multimodal", "ifaformer"],
        configs=[
            {
                "config_name": "default",
                "data_files": [{"split": split, "path": f"data/{split}-*"} for split in statistics],
            }
        ],
    )
    splits = SplitDict()
    for split, of in statistics.items():
        splits.add(SplitInfo(split, num_bytes=num_bytes[split], num_examples=of["rows"]))
    size = sum(num_bytes.values())
    info = DatasetInfo(features=features, splits=splits, download_size=size, dataset_size=size)
    DatasetInfosDict({"default": info}).to_dataset_card_data(data)
    return DatasetCard.from_template(
        data,
        template_path=str(Path(__file__).with_name("dataset_card_template.md")),
        title=plain(title),
        repo_id=repo_id,
        is_relation=is_relation,
        features=features,
        statistics=statistics,
        description=description.strip(),
        counts=counts_table(statistics, "relations" if is_relation else "entities"),
        report=report.rstrip(),
    )
