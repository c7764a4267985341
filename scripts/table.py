"""
Train and score every system of a comparison, and write one table of them.

    python scripts/table.py scripts/tables/demo.yaml --output_dir runs/table
    python scripts/table.py twitter2017 --data_dir DIR --output_dir runs/table --seeds 1 2 3 --rows umt ifaformer

A table is a YAML file, or the name of one that is shipped. Each row is trained in a folder of its own below the output
folder, once for each seed. The same command goes on after a kill, and keeps the rows that have ended. `table.json`,
`table.md` and `table.png` are written after each row. A row that needs what is not there is told as not run.
"""

from dataclasses import dataclass
from pathlib import Path

from ifaformer_commands.options.command_line import option, parse_arguments, user_errors


TABLES = Path(__file__).parent / "tables"
SHIPPED = {path.stem: str(path) for path in sorted(TABLES.glob("*.yaml"))}


@dataclass
class TableArguments:
    """Options of the table."""

    table: str | None = option(f"The table: a YAML file, or one of {', '.join(SHIPPED)}.")
    output_dir: str = option("The folder of the runs and of the table.", "runs/table")
    rows: list[str] | None = option("These rows alone are trained. By default all are.")
    seeds: list[int] | None = option("Each row is trained once with each of these seeds. By default once, with 1.")
    data_dir: str | None = option("The folder of the Twitter archive, for the tables of that data.")
    cache_dir: str | None = option("The folder in which prepared data are kept.")


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
    from modeling_ifaformer.comparison.table_rows import data_digests, ending_on_signals, table_row
    from processing.data import load_data
    from processing.jobs.atomic_files import replacing, write_json, write_text

    with user_errors(), ending_on_signals():
        table = read_table(SHIPPED.get(arguments.table, arguments.table)).chosen(arguments.rows)
        of_data = {name: getattr(arguments, name) for name in ("data_dir", "cache_dir") if getattr(arguments, name)}
        options = {**table.common, **of_data}
        data, report = load_data(options["dataset"], task="ner", **of_data)
        if report:
            print(report)
        if "test" not in data:
            raise ValueError(f"{options['dataset']} has no test split, on which the rows of a table are scored.")
        folder, digests, rows = Path(arguments.output_dir), data_digests(data), []
        folder.mkdir(parents=True, exist_ok=True)
        for row in table.rows:
            print(f"{row.name} ...", flush=True)
            rows.append(table_row(row, options, folder / row.key, seeds, data["test"], digests))
            done = rows[-1]
            print(f"  not run: {done['not_run']}" if "not_run" in done else f"  F1 {percent(done['word']['f1'])}")
            write_json({"title": table.title, "data": digests, "rows": rows}, folder / "table.json")
            write_text(table_markdown(table, rows, digests), folder / "table.md")
            with replacing(folder / "table.png") as file:
                file.write(table_figure(rows))
    print(f"Written: {folder / 'table.md'}")


if __name__ == "__main__":
    main()
