"""A new kind of record is a file and a line of report.kinds.KINDS: all else follows from what it declares."""

import pytest

from common import registry
from common.errors import UserError
from report import comparison, kinds, page, record
from synthetic import LOOKS, compare_runs

TOY = """
from matplotlib.figure import Figure

from report.kind import Csv, Kind, Marker, Plot
from report.rows import Row, Table
from report.schema import NUMBER, TEXT
from report.text import Grid


def tables_of(runs, comparison):
    rows = [Row((), found.name, [(path, found)]) for path, found in runs]
    return [Table("toys", "shelf", rows, ())] if rows else []


def grids(table):
    cells = [[row.defence, f"{row.cell('metrics.fun').value:.2f}"] for row in table.rows]
    return [Grid(["toy", "fun"], cells, 1, [False] * len(cells))]


def lines(tables):
    return [line for table in tables for line in grids(table)[0].cells]


def count(comparison, dataset, options):
    return f"{len(comparison.tables['toy'])} of toys"


def draw(table):
    figure = Figure(figsize=(2, 2))
    figure.add_subplot().bar([0], [1])
    return figure


KIND = Kind(
    name="toy",
    schema={"config": {"colour": TEXT}, "metrics": {"fun": NUMBER}},
    tables=tables_of,
    title="Toys",
    counted="toys",
    markdown=lambda table: "\\n".join(grids(table)[0].markdown()),
    grids=grids,
    legends=("*fun*: as told by a child.",),
    csv=Csv("comparison_toys.csv", ["toy", "fun"], lines),
    plots={"toys_fun": Plot("toy_kind:draw", "Fun by toy.")},
    markers={"toys": Marker(count, {}, "how many there are")},
)
"""


@pytest.fixture
def toy(tmp_path, monkeypatch):
    """The kind is registered by one line."""
    (tmp_path / "modules").mkdir()
    (tmp_path / "modules" / "toy_kind.py").write_text(TOY)
    monkeypatch.syspath_prepend(tmp_path / "modules")
    monkeypatch.setitem(kinds.KINDS, "toy", "toy_kind:KIND")


def ball(fun=0.5, colour="red"):
    stamp = {"commit": None, "command": None, "versions": {}, "started": None, "finished": None}
    return record.Record(
        "toy", "ball", "toys", "none", 0, {"colour": colour}, {"fun": fun}, {}, None, {"device": "cpu"}, stamp
    )


def test_its_records_are_validated(toy, tmp_path):
    record.write(tmp_path / "record.json", ball())
    assert record.read(tmp_path / "record.json") == ball()
    with pytest.raises(ValueError, match=r"kind 'toy': config.colour: .*; metrics.fun: "):
        record.write(tmp_path / "wrong.json", ball(fun="much", colour=3))
    assert not (tmp_path / "wrong.json").exists()


def test_it_has_a_section_a_csv_file_a_plot_and_a_marker(toy, tmp_path):
    import compare_results

    (tmp_path / "results" / "ball").mkdir(parents=True)
    record.write(tmp_path / "results" / "ball" / "record.json", ball())
    readme, out = tmp_path / "README.md", tmp_path / "out"
    readme.write_text("<!-- toys:any --><!-- /table -->")
    compare_results.main([str(tmp_path / "results"), "--out", str(out), "--readme", str(readme)])
    text, html = (out / "comparison.md").read_text(), (out / "report.html").read_text()
    assert "## Toys\n\n### toys, shelf\n\n| toy  |  fun |\n" in text and "| ball | 0.50 |" in text
    assert "*fun*: as told by a child." in text
    assert (out / "comparison_toys.csv").read_text() == "toy,fun\nball,0.50\n"
    assert (out / "toys_fun-toys_shelf.png").read_bytes().startswith(b"\x89PNG")
    for part in (
        '<a href="#toy">Toys</a>',
        '<h2 id="toy">Toys</h2>',
        "<td>0.50</td>",
        "Fun by toy.",
        "1 of toys",
    ):
        assert part in html
    assert readme.read_text() == "<!-- toys:any -->\n1 of toys\n<!-- /table -->"


def test_a_kind_that_nobody_declares_is_listed(toy, tmp_path, monkeypatch):
    (tmp_path / "results").mkdir()
    record.write(tmp_path / "results" / "record.json", ball())
    monkeypatch.delitem(kinds.KINDS, "toy")
    unknown = compare_runs(tmp_path / "results")
    assert f"- not compared: kind toy ({tmp_path}/results/record.json)" in comparison.markdown(unknown)
    assert "kind toy" in page.html(unknown, {})
    with pytest.raises(UserError, match="no such results folder"):
        comparison.compare(tmp_path / "nowhere", looks=lambda: LOOKS)


def test_every_registered_kind_bears_its_name_and_says_what_its_plots_are():
    for name, place in kinds.KINDS.items():
        kind = registry.load(place)
        assert kind.name == name
        assert all(callable(registry.load(plot.draw)) and plot.caption for plot in kind.plots.values())
