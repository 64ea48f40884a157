"""Compare the runs below a results folder: tables, plots and one self-contained page.

reads   <results>/**/record.json (and the grid.png beside each), of one results folder or several
writes  <out>/comparison.csv  comparison.md  <plot>-<dataset>-<gan>.png  report.html

  python compare_results.py results/
  python compare_results.py results/ --readme README.md     # rewrite what stands between its markers (evaluation/readme.py lists them)
"""
import re

from common import cli, files
from evaluation import compare, plots, readme, report, tables


def parse_args(argv=None):
    p = cli.ArgumentParser(description=__doc__)
    p.add_argument("results", nargs="+", help="folders of runs, searched with all their subfolders")
    p.add_argument("--out", metavar="DIR", default=None, help="where the comparison goes; by default the first results folder")
    p.add_argument("--readme", metavar="FILE", default=None, help="also rewrite the tables between the markers of this Markdown file")
    return p.parse_args(argv)


def main(argv=None):
    args = parse_args(argv)
    comparison = compare.compare(*args.results)
    rewritten = readme.text_of(args.readme, comparison) if args.readme else None      # before anything is written
    out = files.make_folder(args.out or args.results[0])
    text = tables.markdown(comparison)
    pictures = {}
    for i, table in enumerate(comparison.tables):
        pictures[i] = plots.draw(table)
        suffix = re.sub(r"[^\w.-]+", "_", f"{table.dataset}-{table.gan}")
        for name, data in pictures[i].items():
            files.write_atomic(out / f"{name}-{suffix}.png", data)
    if rewritten is not None:
        files.write_atomic(args.readme, rewritten)
    files.write_atomic(out / "comparison.csv", tables.csv_text(comparison))
    files.write_atomic(out / "comparison.md", text)
    files.write_atomic(out / "report.html", report.html(comparison, pictures))
    print(text)
    print("written: " + ", ".join(str(out / name) for name in ("report.html", "comparison.md", "comparison.csv")))


if __name__ == "__main__":
    cli.run(main)
