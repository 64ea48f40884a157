"""Compare the runs below a results folder: tables, plots and one self-contained page.

reads   <results>/**/record.json (and the pictures beside each), of one results folder or several
writes  <out>/comparison.csv  comparison.md  <plot>-<dataset>-<gan>.png  report.html
        and of each further kind of record that is there (report/kinds/) a CSV file and plots of its own:
        comparison_detectors.csv  comparison_disruptions.csv  comparison_filters.csv  comparison_scans.csv

  python compare_results.py results/
  # rewrite what stands between the markers of these files, or of those in a folder (report/docs.py)
  python compare_results.py results/ --readme README.md docs/results
  # only those whose records are here
  python compare_results.py demo_out/results --readme README.md --keep_missing
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from common import cli, files
from report import docs, kinds, page
from report.comparison import Comparison, compare, markdown
from report.looks import Looks


@dataclass(frozen=True, kw_only=True)
class Options:
    results: list[str]
    out: str | None
    readme: list[str] | None
    keep_missing: bool
    debug: bool


def parse_args(argv: Sequence[str] | None = None) -> Options:
    p = cli.ArgumentParser(description=__doc__)
    p.add_argument("results", nargs="+", help="folders of runs, searched with all their subfolders")
    p.add_argument(
        "--out",
        metavar="DIR",
        default=None,
        help="where the comparison goes; by default the first results folder",
    )
    p.add_argument(
        "--readme",
        metavar="FILE",
        nargs="+",
        default=None,
        help="also rewrite the tables between the markers of these Markdown files, or of those in a folder",
    )
    p.add_argument(
        "--keep_missing",
        action="store_true",
        help=(
            "leave the parts of --readme as they are for which there are no records here, and say which (else"
            " an error)"
        ),
    )
    parsed = p.parse_args(argv)
    if parsed.keep_missing and not parsed.readme:
        p.error("--keep_missing is about the parts of a Markdown file; give --readme FILE with it")
    return cli.resolve(Options, parsed)


def declared_looks() -> Looks:
    """What attacks, purifiers and detectors declare of how they are shown."""
    # here, as they load torch, and --help should not wait for it
    import attacks
    from models.detector import network
    from purify import defences

    return Looks(
        defences=defences.looks(),
        attacks=attacks.looks(),
        detectors=network.looks(),
        without_translator=attacks.WITHOUT_TRANSLATOR,
    )


def write_pictures(out: Path, drawn: dict[int, dict[str, bytes]], suffixes: Sequence[str]) -> None:
    """<plot>-<suffix>.png of pictures {index of the table: {plot name: PNG bytes}}, `suffixes` one per
    table."""
    for i, pictures in drawn.items():
        suffix = re.sub(r"[^\w.-]+", "_", suffixes[i])
        for name, data in pictures.items():
            files.write_atomic(out / f"{name}-{suffix}.png", data)


def rewrite(
    paths: Sequence[str], comparison: Comparison, keep_missing: bool
) -> tuple[dict[Path, str], list[str]]:
    """{Markdown file: its new text}, and a line for each file with the markers that kept theirs."""
    texts, lines = {}, []
    for path in docs.markdown_files(paths):
        kept: list[str] = []
        texts[path] = docs.text_of(path, comparison, kept if keep_missing else None)
        if kept:
            lines.append(f"kept as they are in {path}, no records here: {', '.join(kept)}")
    return texts, lines


def main(argv: Sequence[str] | None = None) -> None:
    options = parse_args(argv)
    comparison = compare(*options.results, looks=declared_looks)
    # before anything is written
    rewritten, kept = rewrite(options.readme or [], comparison, options.keep_missing)
    out = files.make_folder(options.out or options.results[0])
    text, drawn, tables_of_kinds = markdown(comparison), {}, {}
    for kind in kinds.load_all():
        tables = comparison.tables.get(kind.name, [])
        drawn[kind.name] = {i: kind.draw(table) for i, table in enumerate(tables)}
        write_pictures(out, drawn[kind.name], kind.names(tables))
        if kind.csv and (tables or kind.csv.always):
            tables_of_kinds[kind.csv.file] = kind.csv.text(tables)
    for path, content in rewritten.items():
        files.write_atomic(path, content)
    written = {"report.html": page.html(comparison, drawn), "comparison.md": text, **tables_of_kinds}
    for name, content in written.items():
        files.write_atomic(out / name, content)
    print(text)
    print("written: " + ", ".join(str(out / name) for name in written))
    for line in kept:
        print(line)


if __name__ == "__main__":
    cli.run(main)
