"""Compare the runs below a results folder: tables, plots and one self-contained page.

reads   <results>/**/record.json (and the pictures beside each), of one results folder or several
writes  <out>/comparison.csv  comparison.md  <plot>-<dataset>-<gan>.png  report.html
        with records of detectors: <out>/comparison_detectors.csv
        detectors_{accuracy,rate}-<dataset>-<gan>-<detector>[-<base>].png with records of disruptions against
        several translators: <out>/comparison_disruptions.csv
        disruptions_l2-<dataset>-<translators>-<size>.png with records of finders of poisoned samples:
        <out>/comparison_filters.csv  filters_auc-<dataset>-<size>-rate<poison rate>.png with records of scans
                                      of diffusion weights: <out>/comparison_scans.csv
                                      scans_kl-<dataset>-<size>.png

  python compare_results.py results/
  python compare_results.py results/ --readme README.md    \\
      # rewrite what stands between its markers (report/docs.py lists them)
  python compare_results.py demo_out/results --readme README.md --keep_missing     \\
      # only those whose records are here
"""

import re

from common import cli, files
from report import docs, figures, rows
from report import page as report
from report import text as tables
from report.kinds import (
    dadfi,
    dadfi_figures,
    depois,
    depois_figures,
    detector,
    detector_figures,
    terd,
    terd_figures,
)


def parse_args(argv=None):
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
        default=None,
        help="also rewrite the tables between the markers of this Markdown file",
    )
    p.add_argument(
        "--keep_missing",
        action="store_true",
        help=(
            "leave the parts of --readme as they are for which there are no records here, and say which (else"
            " an error)"
        ),
    )
    args = p.parse_args(argv)
    if args.keep_missing and not args.readme:
        p.error("--keep_missing is about the parts of a Markdown file; give --readme FILE with it")
    return args


def write_pictures(out, drawn, suffixes):
    """<plot>-<suffix>.png of pictures {index of the table: {plot name: PNG bytes}}, `suffixes` one per
    table."""
    for i, pictures in drawn.items():
        suffix = re.sub(r"[^\w.-]+", "_", suffixes[i])
        for name, data in pictures.items():
            files.write_atomic(out / f"{name}-{suffix}.png", data)


def main(argv=None):
    args = parse_args(argv)
    comparison, kept = rows.compare(*args.results), []
    # before anything is written
    rewritten = (
        docs.text_of(args.readme, comparison, kept if args.keep_missing else None) if args.readme else None
    )
    out = files.make_folder(args.out or args.results[0])
    text = tables.markdown(comparison)
    pictures = {i: figures.draw(table) for i, table in enumerate(comparison.tables)}
    of_detectors = {i: detector_figures.draw(table) for i, table in enumerate(comparison.detectors)}
    of_disruptions = {i: dadfi_figures.draw(table) for i, table in enumerate(comparison.disruptions)}
    of_filters = {i: depois_figures.draw(table) for i, table in enumerate(comparison.filters)}
    of_scans = {i: terd_figures.draw(table) for i, table in enumerate(comparison.scans)}
    write_pictures(out, pictures, [f"{table.dataset}-{table.gan}" for table in comparison.tables])
    write_pictures(out, of_detectors, detector.file_names(comparison.detectors))
    write_pictures(out, of_disruptions, [table.file_name for table in comparison.disruptions])
    write_pictures(out, of_filters, [table.file_name for table in comparison.filters])
    write_pictures(out, of_scans, [table.file_name for table in comparison.scans])
    if rewritten is not None:
        files.write_atomic(args.readme, rewritten)
    page = report.html(comparison, pictures, of_detectors, of_disruptions, of_filters, of_scans)
    written = {"report.html": page, "comparison.md": text, "comparison.csv": tables.csv_text(comparison)}
    if comparison.detectors:
        written["comparison_detectors.csv"] = tables.detectors_csv_text(comparison)
    if comparison.disruptions:
        written["comparison_disruptions.csv"] = dadfi.csv_text(comparison.disruptions)
    if comparison.filters:
        written["comparison_filters.csv"] = depois.csv_text(comparison.filters)
    if comparison.scans:
        written["comparison_scans.csv"] = terd.csv_text(comparison.scans)
    for name, content in written.items():
        files.write_atomic(out / name, content)
    print(text)
    print("written: " + ", ".join(str(out / name) for name in written))
    if kept:
        print(f"kept as they are in {args.readme}, no records here: {', '.join(kept)}")


if __name__ == "__main__":
    cli.run(main)
