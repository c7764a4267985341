"""
Train and score every system of a comparison, and write one table of them.

    python scripts/table.py scripts/tables/demo.yaml --output_dir runs/table
    python scripts/table.py twitter2017 --data_dir DIR --output_dir runs/table --seeds 1 2 3 --rows umt ifaformer

A table is a YAML file, or the name of one that is shipped. Each row is trained in a folder of its own below the output
folder, once for each seed. The same command goes on after a kill, and keeps the rows that have ended. `table.json`,
`table.md` and `table.png` are written after each row, with all rows that have ended, chosen or not. A row that needs
what is not there is told as not run. Where the training of a row ends with an error, the others go on, and the command
ends with status 1.
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ifaformer_commands.options.command_line import option, parse_arguments, read_options, user_errors
from ifaformer_commands.options.data_options import DataSourceArguments
from ifaformer_commands.train import GROUPS


if TYPE_CHECKING:
    from modeling_ifaformer.comparison.table_file import Table


TABLES = Path(__file__).parent / "tables"
SHIPPED = {path.stem: str(path) for path in sorted(TABLES.glob("*.yaml"))}
# Options of train.py that a row cannot have.
OF_ALL_ROWS = {field.name for field in fields(DataSourceArguments)}
OF_THE_TABLE = {"output_dir", "overwrite_output_dir", "resume_from_checkpoint", "seed", "seeds"}


@dataclass
class TableArguments:
    """Options of the table."""

    table: str | None = option(f"The table: a YAML file, or one of {', '.join(SHIPPED)}.")
    output_dir: str = option("The folder of the runs and of the table.", "runs/table")
    rows: list[str] | None = option("These rows alone are trained. By default all are.")
    seeds: list[int] | None = option(
        "Each row is trained once with each of these seeds. By default once, with 1. To add seeds to rows that have "
        "ended, give those of before too."
    )
    data_dir: str | None = option("The folder of the Twitter archive, for the tables of that data.")
    cache_dir: str | None = option("The folder in which prepared data are kept.")


def data_options(table: "Table", path: str, given: Mapping[str, Any]) -> DataSourceArguments:
    """
    The options of the data of a table, with those that are given over its own.

    Raises:
        ValueError: for what train.py does not take as an option, in any row, and for options that a row cannot have.
    """
    from modeling_ifaformer.training import IFAformerTrainingArguments

    parts = {"common": {**table.common, **given}} | {f"row {row.key}": row.options for row in table.rows}
    parts |= {f"row {row.key}, before": row.before for row in table.rows}
    read = {}
    for part, options in parts.items():
        where = f"{path}, {part}"
        read[part] = read_options((*GROUPS, IFAformerTrainingArguments), options, where)
        own = ", ".join(sorted(OF_THE_TABLE & options.keys()))
        if own:
            raise ValueError(f"{where}: Expected options other than {own}, which table.py sets itself. Remove them.")
    for row in table.rows:
        shared = ", ".join(sorted(OF_ALL_ROWS & row.options.keys()))
        if shared:
            raise ValueError(
                f"{path}, row {row.key}: Expected no options of the data, got {shared}. All rows are trained and "
                "scored on the same data: move them to common."
            )
    found = DataSourceArguments(**{name: getattr(read["common"], name) for name in OF_ALL_ROWS})
    if found.task != "ner":
        raise ValueError(f"{path}, common: task must be ner, since a table compares entity models; got {found.task}.")
    return found


def main() -> None:
    arguments, _ = parse_arguments(TableArguments, description=__doc__, positional="table", takes_recipe=False)
    if arguments.table is None or not (arguments.table in SHIPPED or Path(arguments.table).is_file()):
        raise SystemExit(
            f"Name the table, a YAML file or one of {', '.join(SHIPPED)}, as the first argument"
            + (f"; got {arguments.table}." if arguments.table else ".")
        )
    seeds = arguments.seeds or [1]
    if len(set(seeds)) < len(seeds):
        raise SystemExit(f"--seeds must differ, got {' '.join(map(str, seeds))}.")

    from modeling_ifaformer.comparison.table_file import read_table
    from modeling_ifaformer.comparison.table_report import percent, table_figure, table_markdown
    from modeling_ifaformer.comparison.table_rows import (
        RowRuns,
        check_kept,
        data_digests,
        ending_on_signals,
        use_one_gpu,
    )
    from processing.jobs.atomic_files import replacing, write_json, write_text

    use_one_gpu()
    with user_errors(), ending_on_signals():
        path = SHIPPED.get(arguments.table, arguments.table)
        table = read_table(path, SHIPPED)
        chosen = table.chosen(arguments.rows)
        of_data = {name: getattr(arguments, name) for name in ("data_dir", "cache_dir") if getattr(arguments, name)}
        source = data_options(table, path, of_data)
        data, report = source.load()
        if report:
            print(report)
        if "test" not in data:
            raise ValueError(f"{source.dataset} has no test split, on which the rows of a table are scored.")
        folder, digests, options = Path(arguments.output_dir), data_digests(data), {**table.common, **of_data}
        rows = [RowRuns(row, options, folder / row.key, seeds, digests) for row in table.rows]
        to_run = [row for row in rows if row.row in chosen]
        check_kept(to_run)
        folder.mkdir(parents=True, exist_ok=True)
        for row in to_run:
            print(f"{row.row.name} ... (what it prints is in {row.folder / 'train.log'})", flush=True)
            row.run(data["test"])
            done, told = row.told(), [row.told() for row in rows]
            print(f"  not run: {done['not_run']}" if "not_run" in done else f"  F1 {percent(done['word']['f1'])}")
            write_json({"title": table.title, "data": digests, "rows": told}, folder / "table.json")
            write_text(table_markdown(table, told, digests), folder / "table.md")
            with replacing(folder / "table.png") as file:
                file.write(table_figure(told))
    print(f"Written: {folder / 'table.md'}")
    failed = ", ".join(row.row.key for row in to_run if row.problem)
    if failed:
        raise SystemExit(f"These rows ended with an error, which {folder / 'table.md'} tells: {failed}.")


if __name__ == "__main__":
    main()
