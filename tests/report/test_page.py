"""Plots hold what the records say; the page holds everything and fetches nothing."""

import io
import re

import pytest
from PIL import Image

from report import page as report
from report import rows
from report.comparison import remarks
from report.kinds import dadfi as dadfi_kind
from report.kinds import defense as defense_kind
from report.kinds import defense_figures as figures
from report.kinds import depois as depois_kind
from report.kinds import detector as detector_kind
from report.kinds import terd as terd_kind
from synthetic import LOOKS, compare_runs, defense, detector, disruption, filtering, save, scan


@pytest.fixture(scope="module")
def comparison(tmp_path_factory):
    tmp_path = tmp_path_factory.mktemp("page")
    for eps, disrupted in ((0.02, 0.1), (0.05, 0.4)):
        level = round(eps * 127.5) / 127.5
        save(tmp_path, defense("none", l2=disrupted, clean=0, eps=eps, linf=level), grid=True)
        save(tmp_path, defense("jpeg-q75", l2=disrupted / 50, eps=eps, linf=level), grid=True)
        save(tmp_path, defense("one-step", l2=disrupted / 500, nfe=1, eps=eps, linf=level))
    save(tmp_path, defense("one-step", l2=0.3, attack_through="one-step"))
    save(tmp_path, detector())
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "record.json").write_text("<script>alert(1)</script>")
    return compare_runs(tmp_path)


@pytest.fixture(scope="module")
def pictures(comparison):
    return defense_kind.KIND.draw(comparison.tables["defense"][0])


def test_curves_run_over_the_eps_reached_from_the_undisturbed_photo(comparison):
    # an attack through a defence is no part of a curve
    (by_defence,) = figures.curves(comparison.tables["defense"][0]).values()
    assert {d: [(round(eps, 4), cell.value) for eps, cell in points] for d, points in by_defence.items()} == {
        # its 0 at eps 0 has no place on a log axis
        "none": [(0.0235, 0.1), (0.0471, 0.4)],
        "jpeg-q75": [(0, 0.0012), (0.0235, 0.002), (0.0471, 0.008)],
        "one-step": [(0, 0.0012), (0.0235, 0.0002), (0.0471, 0.0008)],
    }


def test_every_plot_is_drawn_and_can_be_opened(pictures):
    # the last two are of attacks that know the defence
    assert list(pictures) == list(defense_kind.KIND.plots)[:-2]
    for data in pictures.values():
        image = Image.open(io.BytesIO(data))
        assert image.format == "PNG" and min(image.size) > 150
        assert len(image.convert("RGB").getcolors(1 << 24)) > 10  # something is drawn


def test_bars_stand_at_the_values_of_the_main_eps(comparison):
    figure = figures.l2_by_defence(comparison.tables["defense"][0])
    (axes,) = [a for a in figure.axes if a.get_visible()]
    assert [round(bar.get_width(), 6) for bar in axes.patches] == [0.4, 0.008, 0.0008]
    assert [t.get_text() for t in axes.get_yticklabels()] == ["none", "jpeg-q75", "one-step"]


def test_defences_of_equal_cost_stand_side_by_side(comparison):
    (axes,) = figures.cost_against_fake(comparison.tables["defense"][0]).axes
    xs = [line.get_xdata()[0] for line in axes.lines if line.get_marker() in figures.MARKERS]
    assert sorted(round(x, 3) for x in xs) == [-0.05, 0.05, 1]


def test_colours_and_markers_tell_defences_apart():
    labels = [
        "none",
        "jpeg-q30",
        "jpeg-q50",
        "jpeg-q75",
        "ddpm-t10",
        "ddpm-t20",
        "one-step",
        "one-step-plain-t10",
        "something-new",
    ]
    table = rows.Table("d", "g", [rows.Row((), label, []) for label in labels], (), looks=LOOKS)
    look = figures.styles(table)
    assert len({(s.color, s.marker) for s in look.values()}) == len(labels)
    assert look["one-step-plain-t10"].color != look["one-step"].color


def test_a_table_without_figures_draws_nothing(tmp_path):
    found = defense("jpeg-q75")
    found.metrics.update(disrupted=None, purified=None, clean_purified=None, input=None)
    save(tmp_path, found)
    empty = compare_runs(tmp_path)
    assert defense_kind.KIND.draw(empty.tables["defense"][0]) == {}
    assert "jpeg-q75" in report.html(empty, {})


def test_the_page_is_self_contained(comparison, pictures):
    page = report.html(comparison, {"defense": {0: pictures}})
    assert (
        not re.search(r"https?://", page)
        and "<script" not in page
        and "<link" not in page
        and "@import" not in page
        and "url(" not in page
    )
    sources = re.findall(r'src="([^"]{0,30})', page)
    assert len(sources) == 4 + 4 and all(
        s.startswith(("data:image/png;base64,", "data:image/jpeg;base64,")) for s in sources
    )
    assert not re.search(r"\s(srcset|on\w+)\s*=", page)
    assert all(target.startswith("#") for target in re.findall(r'\shref\s*=\s*"([^"]*)', page))


def test_the_page_shows_rows_detectors_marks_and_problems(comparison):
    page = report.html(comparison, {})
    for text in (
        "drawn, stargan",
        "one-step",
        "through one-step",
        "Detectors",
        "0.950",
        "Not read",
        "bad/record.json",
        "<b>0.00080</b>",
    ):
        assert text in page
    assert "prefers-color-scheme: dark" in page


def test_detectors_have_a_section_with_tables_plots_and_the_pictures_of_their_first_seed(tmp_path):
    for name, accuracy, rate in (
        ("clean", 0.95, 0.0),
        ("disrupted", 0.75, 1.0),
        ("disrupted", 0.85, 0.5),
        ("one-step", 0.90, 1.0),
    ):
        folder = save(tmp_path, detector(name, accuracy, rate)).parent
        save(tmp_path, detector(name, accuracy, rate, seed=1))
        Image.new("RGB", (1200, 600), "red").save(folder / "roc.png")
    save(tmp_path, detector("jpeg-q75", 0.6, photos=8))
    found = compare_runs(tmp_path)
    page = report.html(found, {"detector": {0: detector_kind.KIND.draw(found.tables["detector"][0])}})
    for text in (
        ">Detectors</h2>",
        ">drawn, stargan, meso4 (scratch): pgd",
        "<b>0.75</b>",
        "at 0: clean",
        "†1 8 photos",
        "4 pictures of the trainings",
        "<em>training photos</em>",
        "Missing from the tables of detectors",
    ):
        assert text in page
    assert (
        "<b>–</b>" not in page
        and len(re.findall("data:image/jpeg", page)) == 4
        and len(re.findall("data:image/png", page)) == 2
    )
    assert "<b>" not in page.split("†1")[1].split("</tr>")[0] and "1 of detectors" in page


def test_disruptions_have_a_section_with_both_tables_a_plot_and_grids(tmp_path):
    for found in (
        disruption("random-sign", (0.01, 0.02)),
        disruption(l2=(0.2, 0.1)),
        disruption(l2=(0.9, 0.8), images=8),
    ):
        save(tmp_path, found, grid=True)
    found = compare_runs(tmp_path)
    page = report.html(found, {"dadfi": {0: dadfi_kind.KIND.draw(found.tables["dadfi"][0])}})
    for text in (
        ">Disruptions against several translators</h2>",
        ">drawn, stargan + stgan, 64 pixels</h3>",
        "DADFI, trained on stargan+stgan †1",
        "†1 8 photos",
        "<b>0.1000 (stgan)</b>",
        "× random sign",
        "3 grids",
        "1 of disruptions",
        "<em>worst l2</em>",
    ):
        assert text in page
    assert (
        len(re.findall("data:image/jpeg", page)) == 3
        and len(re.findall("data:image/png", page)) == 1
        and "Other records" not in page
    )


def test_finders_of_poisoned_samples_have_a_section_with_both_tables_and_a_plot(tmp_path):
    for found in (
        filtering(auc=0.95),
        filtering("loss", auc=0.91),
        filtering(poison="bypass", auc=0.52, params={"mode": "critic"}),
        filtering("loss", "bypass", 0.97, params={"mode": "critic"}),
        filtering("knn-labels", auc=0.99, num_trusted=50),
    ):
        folder = save(tmp_path, found).parent
        # of the run, above the folders of its methods
        Image.new("RGB", (1200, 600), "red").save(folder.parent / "found.png")
    found = compare_runs(tmp_path)
    page = report.html(found, {"depois": {0: depois_kind.KIND.draw(found.tables["depois"][0])}})
    for text in (
        ">Finding poisoned samples</h2>",
        ">drawn, 28 pixels, poison rate 0.3</h3>",
        "1000 samples of 2 classes examined; 600 trusted",
        "knn-labels †1",
        "†1 150 trusted samples (the others: 600)",
        '<td class="missed">not found</td>',
        "rowspan=3>noise</td>",
        "rowspan=2>bypass critic</td>",
        "1 of finders of poisoned samples",
        "<em>verdict</em>",
        "2 pictures: samples dropped and kept",
    ):
        assert text in page
    # once in each table
    assert (
        page.count("<b>0.950</b>") == 2
        and page.count('<td class="missed">0.520') == 2
        and "<b>0.990</b>" not in page
    )
    assert (
        len(re.findall("data:image/png", page)) == 1
        and len(re.findall("data:image/jpeg", page)) == 2
        and "Other records" not in page
    )


def test_scans_have_a_section_with_every_table_a_plot_and_the_triggers(tmp_path):
    for found in (
        scan(),
        scan(trained_seed=1, flagged=1),
        scan("villan"),
        scan("villan", 0.6, scale=0.5, flagged=0, rule="fitted"),
        scan("villan", refine="none"),
    ):
        Image.new("RGB", (1200, 600), "red").save(save(tmp_path, found).with_name("trigger.png"))
    found = compare_runs(tmp_path)
    page = report.html(found, {"terd": {0: terd_kind.KIND.draw(found.tables["terd"][0])}})
    for text in (
        ">Scans of diffusion weights</h2>",
        ">drawn, 16 pixels</h3>",
        "Scanned by the reduced schedule",
        "<h4>Models</h4>",
        "<h4>Parts of the scan</h4>",
        "rowspan=2>benign</td>",
        '<td class="missed">backdoored (false alarm)</td>',
        '<td class="missed">clean (missed)</td>',
        '<td class="missed">0.60 (not recovered)</td>',
        "stop sign to shoe, psi 1, ode †1",
        "†1 judged by another rule, fitted",
        "<th>|r_hat - r|</th>",
        "<em>|r_hat - r|</em>",
        "5 pictures: triggers",
        "1 of scanned models",
    ):
        assert text in page
    assert (
        page.count('<td class="missed">') == 3
        and len(re.findall("data:image/png", page)) == 1
        and len(re.findall("data:image/jpeg", page)) == 5
    )
    assert "Other records" not in page and not re.search(r"https?://", page)


def test_the_contents_link_to_every_section(comparison):
    page = report.html(comparison, {})
    contents = page.partition("<nav>")[2].partition("</nav>")[0]
    links = re.findall(r'href="#([^"]+)"', contents)
    assert links == [
        "defense-0",
        "detector",
        "detector-0",
        *(f"remark-{i + 1}" for i, _ in enumerate(remarks(comparison))),
    ]
    assert sorted(links) == sorted(re.findall(r'<h[123] id="([^"]+)"', page))
    assert ">drawn, stargan</a>" in contents and ">Not read</a> (1)" in contents


def cells_of(line):
    """[(attributes, text)] of a line of a table."""
    return [
        (attributes, re.sub(r"<[^>]+>", "", text))
        for attributes, text in re.findall(r"<t[hd]([^>]*)>(.*?)</t[hd]>", line, re.S)
    ]


def test_wide_tables_fold_their_columns_of_detail(comparison):
    page = report.html(comparison, {})
    (table, *_) = re.findall(r"<input type=checkbox.*?</table>", page, re.S)
    assert "input.more:not(:checked) ~ .scroll .detail { display: none; }" in page
    assert '<label for="more-1">all columns (5 more)</label>' in table and "checked" not in table
    detail = {c.heading for c in defense_kind.COLUMNS if c.detail} - {"distance"}
    detail |= {"frechet (attribute-classifier)"}
    head, *lines = re.findall(r"<tr.*?</tr>", table, re.S)
    folded = [text for attributes, text in cells_of(head) if "detail" in attributes]
    assert set(folded) == detail and len(folded) == 5 and len(lines) == 7
    for line in lines:
        assert sum("detail" in attributes for attributes, _ in cells_of(line)) == 5


def test_spreads_have_three_digits_at_most(comparison):
    spreads = re.findall(r"<span class=spread>(.*?)</span>", report.html(comparison, {}))
    assert len(spreads) >= 8
    for figure in re.findall(r"-?[\d.]+(?:e-?\d+)?", " ".join(spreads)):
        digits = re.sub(r"e.*|^-?[0.]*|[.]", "", figure)
        assert len(digits) <= 3, figure


@pytest.mark.parametrize(
    "text, spread",
    [
        ("0.1110 [0.0989, 0.1230]", "[0.0989, 0.123]"),
        ("4.12 [-0.25, 12345.6]", "[-0.25, 12346]"),
        ("98.765 ± 12.345", "± 12.3"),
        ("0.00051 [0.00040, 0.00064]", "[0.00040, 0.00064]"),
        ("1.2e-06 [1.0e-06, 1.4e-06]", "[1.0e-06, 1.4e-06]"),
        ("0.5", ""),
    ],
)
def test_a_spread_is_shortened_its_figure_is_not(text, spread):
    assert report.split_spread(text, False) == (text.partition(" ")[0], spread)
    assert report.split_spread(text, True) == (text, "")


def test_grids_are_scaled_down(tmp_path):
    Image.new("RGB", (1800, 90), "red").save(tmp_path / "grid.png")
    assert Image.open(io.BytesIO(report.grid_picture(tmp_path / "grid.png"))).size == (900, 45)
    Image.new("RGB", (300, 90), "red").save(tmp_path / "grid.png")
    assert Image.open(io.BytesIO(report.grid_picture(tmp_path / "grid.png"))).size == (300, 90)
    (tmp_path / "grid.png").write_bytes(b"no image")
    assert (
        report.grid_picture(tmp_path / "grid.png") is None
        and report.grid_picture(tmp_path / "none.png") is None
    )
