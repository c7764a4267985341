"""Options of the commands that look at the pictures of a data set, and store its rows with what they found."""

from dataclasses import dataclass
from typing import Any

from ifaformer_commands.options.command_line import option
from ifaformer_commands.options.data_options import DataSourceArguments, PictureArguments


@dataclass
class PreparationArguments(PictureArguments, DataSourceArguments):
    """Options of the output."""

    output_dir: str | None = option("The folder for the rows that are prepared.")
    batch_size: int = option("The number of pictures that each process shows to a model at once.", 8)
    rows_per_shard: int = option("The number of rows in a Parquet file.", 256)
    limit: int | None = option("Only this number of rows of each split is used, from the first on.")
    overwrite: bool = option("Replace the rows of another run in the output folder.", False)

    def given(self, *names: str) -> dict[str, Any]:
        """These options and those of every preparation, by name, as the rooms take them."""
        shared = ("batch_size", "rows_per_shard", "limit", "overwrite", "max_megapixels")
        return {name: getattr(self, name) for name in (*shared, *names)}

    def print_end(self, summary: dict[str, Any] | None, files: str) -> None:
        """What was prepared, where that lies, and which pictures could not be read."""
        if summary is None:
            print(f"{self.output_dir} is finished: nothing to do. --overwrite makes it anew.")
            return
        for name, counts in summary["splits"].items():
            print(f"{name}: " + ", ".join(f"{count} {what.replace('_', ' ')}" for what, count in counts.items()))
        for kind, labels in summary.get("labels", {}).items():
            frequent = [f"{label} {count}" for label, count in list(labels.items())[:12]]
            print(f"{kind} labels: {', '.join(frequent) or 'none'}")
        for item in summary["unreadable"]:
            print(f"unreadable: {item['split']} {item['id']} {item['column']}: {item['reason']}")
        print(f"{self.output_dir} is finished: {files}")
