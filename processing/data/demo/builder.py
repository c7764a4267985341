"""What the builders of demo data share: sizes, chunks, and rows made of a plan."""

import io
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import datasets
from PIL import Image

from processing.columns import CROP_COLUMNS, OBJECT_COLUMNS
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
    """
    Base of the demo builders: one has a `DESCRIPTION` and its `FEATURES`, and plans what is in a row. The splits share
    no sentence, whatever the letter case, and a row depends on the seed, the split and its index alone.
    """

    VERSION = datasets.Version("1.0.0")
    BUILDER_CONFIG_CLASS = DemoConfig
    DESCRIPTION: ClassVar[str]
    FEATURES: ClassVar[datasets.Features]

    def __init__(self, *args, hash: str | None = None, **kwargs):
        # Part of the cache key, so that no drawing outlives a change of the code.
        super().__init__(*args, hash=hash or code_digest(), **kwargs)

    def _plan(self, split: str, index: int) -> tuple[dict[str, Any], Sequence[Scene]]:
        """The columns of a row that are its own task's, and its pictures before they are painted."""
        raise NotImplementedError

    def _info(self) -> datasets.DatasetInfo:
        return datasets.DatasetInfo(description=self.DESCRIPTION, features=self.FEATURES)

    def _split_generators(self, dl_manager) -> list[datasets.SplitGenerator]:
        generators = []
        for split in SPLITS:
            size = getattr(self.config, f"num_{split}")
            # A list of chunks, since `num_proc` and shuffled streams share out the elements of a list.
            chunks = [range(start, min(start + 100, size)) for start in range(0, size, 100)]
            if chunks:
                generators.append(datasets.SplitGenerator(split, gen_kwargs={"split": split, "chunks": chunks}))
        return generators

    def _generate_examples(self, split: str, chunks: list[range]) -> Iterator[tuple[int, dict]]:
        for index in itertools.chain.from_iterable(chunks):
            answers, scenes = self._plan(split, index)
            row: dict[str, Any] = {"id": f"{split}-{index}", "image_id": None, **answers}
            row |= {column: [] for column in (*CROP_COLUMNS, *OBJECT_COLUMNS)}
            pictures = [scene.paint() for scene in scenes]
            images = [_encode(picture) for picture in pictures]
            has_several = isinstance(self.FEATURES["image"], datasets.List)
            row["image"] = images if has_several else next(iter(images), None)
            if images:
                row["image_id"] = row["id"]
            for number, (scene, picture) in enumerate(zip(scenes, pictures, strict=True)):
                of_several = {"image": number} if has_several else {}
                for column, objects in zip(CROP_COLUMNS, OBJECT_COLUMNS, strict=True):
                    crops = getattr(scene, column)
                    row[column] += [_encode(picture.crop(crop.box)) for crop in crops]
                    row[objects] += [{**crop.detected, **of_several} for crop in crops]
            yield index, row


def _encode(image: Image.Image) -> dict[str, bytes | None]:
    buffer = io.BytesIO()
    image.save(buffer, format="JPEG", quality=90)
    return {"bytes": buffer.getvalue(), "path": None}
