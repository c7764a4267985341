"""What the builders of demo data share: sizes, chunks, and rows made of a plan."""

import io
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import datasets
from PIL import Image

from processing.columns import CROP_KINDS
from processing.jobs.digests import code_digest

from .drawing import Scene
from .sentences import SPLITS


@dataclass
class DemoConfig(datasets.BuilderConfig):
    """
    Options of the demo data.

    Args:
        seed: another seed is another data set; its test sentences are in no train split of any seed.
        num_train, num_validation, num_test: rows of each split; a split of 0 rows is left out.
    """

    seed: int = 0
    num_train: int = 6000
    num_validation: int = 200
    num_test: int = 400

    def __post_init__(self):
        super().__post_init__()
        if min(self.num_train, self.num_validation, self.num_test) < 0:
            raise ValueError("The number of rows of a split must not be negative.")


class DemoBuilder(datasets.GeneratorBasedBuilder):
    """Base of the demo builders, which say what the columns are and what is in a row."""

    VERSION = datasets.Version("1.0.0")
    BUILDER_CONFIG_CLASS = DemoConfig

    def __init__(self, *args, hash: str | None = None, **kwargs):
        # Part of the cache key, so that no drawing outlives a change of the code.
        super().__init__(*args, hash=hash or code_digest(type(self)), **kwargs)

    def _plan(self, split: str, index: int) -> tuple[dict[str, Any], Scene | None]:
        """The columns of a row that are its own task's, and its picture before it is painted."""
        raise NotImplementedError

    def _split_generators(self, dl_manager) -> list[datasets.SplitGenerator]:
        sizes = {split: getattr(self.config, f"num_{split}") for split in SPLITS}
        # A list of chunks, since `num_proc` and shuffled streams share out the elements of a list.
        return [
            datasets.SplitGenerator(
                name=split,
                gen_kwargs={
                    "split": split,
                    "chunks": [range(start, min(start + 100, size)) for start in range(0, size, 100)],
                },
            )
            for split, size in sizes.items()
            if size
        ]

    def _generate_examples(self, split: str, chunks: list[range]) -> Iterator[tuple[int, dict]]:
        for index in (index for chunk in chunks for index in chunk):
            yield index, self._row(split, index)

    def _row(self, split: str, index: int) -> dict[str, Any]:
        answers, scene = self._plan(split, index)
        row: dict[str, Any] = {"id": f"{split}-{index}", "image_id": None, **answers, "image": None}
        row |= {f"{kind}_crops": [] for kind in CROP_KINDS}
        if scene is not None:
            picture = scene.paint()
            row["image_id"] = row["id"]
            row["image"] = _encode(picture)
            for kind in CROP_KINDS:
                crops = getattr(scene, f"{kind}_crops")
                row[f"{kind}_crops"] = [_encode(picture.crop(crop.box)) for crop in crops]
        return row


def _encode(image: Image.Image) -> dict[str, bytes | None]:
    buffer = io.BytesIO()
    image.save(buffer, format="JPEG", quality=90)
    return {"bytes": buffer.getvalue(), "path": None}
