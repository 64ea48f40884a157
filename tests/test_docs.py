"""README.md and docs/: links lead somewhere, commands name what is there, README stays a page."""

import re
from collections import Counter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
HELP = ROOT / "docs/help"
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
LINK = re.compile(r"(?:\]\(|<img src=\")([^)\s\"]+)[)\"]")
MARKER = re.compile(r"^<!-- (?!/)([^>]*?) -->$", re.M)
COMMAND = re.compile(r"\bpython3? (?:-m ([\w.]*\w)|([\w/]+\.py))|\b(?:sh|bash) ([\w/]+\.sh)")
FLAG = re.compile(r"(?<=\s)--[a-z]\w*")

each_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))


def without_code(text):
    return re.sub(r"```.*?```", "", text, flags=re.S)


def anchors(text):
    """What GitHub calls the headings of a page."""
    return {
        re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")
        for heading in re.findall(r"^#+ (.*)$", without_code(text), re.M)
    }


def commands(text):
    """(command as docs/help calls it, its file or None if there is none, rest of its line) of each one."""
    text = text.replace("\\\n", " ")
    for found in COMMAND.finditer(text):
        module, script, shell = found.groups()
        rest = re.split(r"[`\n#;]", text[found.end() :], maxsplit=1)[0]
        if module in ("pytest", "pip", "venv"):
            continue
        if module:
            place = ROOT / module.replace(".", "/")
            file = next((f for f in (place.with_suffix(".py"), place / "__main__.py") if f.is_file()), None)
        else:
            file = ROOT / (script or shell)
            file = file if file.is_file() else None
        yield module or (script or shell).removesuffix(".py"), file, rest


@each_page
def test_links_and_pictures_lead_somewhere(page):
    for target in LINK.findall(without_code(page.read_text())):
        if target.startswith(("http://", "https://")):
            continue
        assert not target.startswith("/"), f"{target}: expected a relative link"
        path, _, anchor = target.partition("#")
        there = (page.parent / path).resolve() if path else page
        assert there.exists(), f"{target}: is not there"
        assert not anchor or anchor in anchors(there.read_text()), f"{target}: no such heading"


@each_page
def test_commands_name_what_is_there(page):
    missing = [name for name, file, _ in commands(page.read_text()) if file is None]
    assert not missing


@each_page
@pytest.mark.skipif(not HELP.is_dir(), reason="docs/help is not there")
def test_commands_have_the_flags_that_their_help_knows(page):
    wrong = []
    for name, _, rest in commands(page.read_text()):
        text = HELP / f"{name}.txt"
        if text.is_file():
            known = set(re.findall(r"--[a-z]\w*", text.read_text()))
            wrong += [f"{name} {flag}" for flag in FLAG.findall(rest) if flag not in {*known, "--help"}]
    assert not wrong


@each_page
def test_links_lead_from_readme_to_every_page(page):
    seen, ahead = set(), [ROOT / "README.md"]
    while ahead:
        at = ahead.pop()
        if at not in seen:
            seen.add(at)
            targets = (t.partition("#")[0] for t in LINK.findall(without_code(at.read_text())))
            ahead += [(at.parent / t).resolve() for t in targets if t.endswith(".md")]
    assert page in seen


def test_pictures_of_docs_are_shown_somewhere():
    shown = {(page.parent / target).resolve() for page in PAGES for target in LINK.findall(page.read_text())}
    assert not [p.name for p in (ROOT / "docs").glob("*.png") if p not in shown]


def test_readme_is_a_page():
    lines = (ROOT / "README.md").read_text().splitlines()
    assert len(lines) <= 250
    assert not [line for line in lines if len(line) > 200 and not line.startswith("|")]


def test_a_marker_stands_once_and_is_closed():
    count = Counter(marker for page in PAGES for marker in MARKER.findall(page.read_text()))
    assert count and not [marker for marker, times in count.items() if times > 1]
    for page in PAGES:
        text = page.read_text()
        assert len(MARKER.findall(text)) == text.count("<!-- /table -->")


def test_legends_stand_in_metrics_alone():
    from report import kinds

    legends = [legend for kind in kinds.load_all() for legend in kind.legends if "paper" not in legend]
    for page in PAGES:
        text = page.read_text()
        assert not [legend[:60] for legend in legends if legend in text], page


def test_a_stranger_finds_celeba_on_the_first_screen():
    first = (ROOT / "README.md").read_text().splitlines()[:40]
    assert all(
        any(name in line for line in first) for name in ("split_dataset.py", "train_CelebA.sh", "demo.sh")
    )


def test_the_purifier_of_the_recipe_works(tmp_path, monkeypatch):
    """docs/architecture.md holds a whole purifier: its file and its line do what the page says."""
    import torch

    import purify

    text = (ROOT / "docs/architecture.md").read_text()
    (example,) = re.findall(r"```python\n(\"\"\".*?)```", text, re.S)
    (tmp_path / "median_of_the_recipe.py").write_text(example)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(purify.PURIFIERS, "median", "median_of_the_recipe:Median")
    x = 2 * torch.rand(2, 3, 20, 24, generator=torch.Generator().manual_seed(0)) - 1
    median = purify.build("median", side=5)
    y = median(x)
    assert y.shape == x.shape and y.abs().max() <= 1
    assert y[0, 1, 10, 7] == x[0, 1, 8:13, 5:10].flatten().median()
    assert (median.folder_name, median.nfe) == ("median-k5", 0)
