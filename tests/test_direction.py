"""Imports point one way, at any depth: rooms above import rooms below, and no circle is anywhere.

  {scripts, evaluation, tools} -> purify -> attacks -> {pipeline, metrics} -> models -> faces -> common

report imports common alone, report.record may be imported by all. A "module:Name" string, as registries hold
them, is an arrow too. One form names a room above: the strings that a command hands to its own main,
`cli.run(main, build="attacks:build")` in its `if __name__ == "__main__":`, for that is the command, not the
library.
"""

import ast
import re
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
FOR_ALL = "report/record.py"
BELOW = {"common": set()}
BELOW["report"] = BELOW["faces"] = {"common"}
BELOW["models"] = BELOW["faces"] | {"faces"}
BELOW["pipeline"] = BELOW["metrics"] = BELOW["models"] | {"models"}
BELOW["attacks"] = BELOW["models"] | {"models", "pipeline", "metrics"}
BELOW["purify"] = BELOW["attacks"] | {"attacks"}
BELOW["evaluation"] = BELOW["tools"] = BELOW["purify"] | {"purify", "report"}
BELOW["scripts"] = BELOW["evaluation"] | {"evaluation"}
PLACE = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*")  # "module:Name"


@dataclass(frozen=True)
class Arrow:
    """One file names another: by an import, or by a "module:Name" string; at module level or deeper."""

    source: str
    target: str
    line: int
    string: bool = False
    deep: bool = False

    def __str__(self):
        return f"{self.source}:{self.line} ({room(self.source)}) -> {self.target} ({room(self.target)})"


def room(file):
    return file.split("/")[0] if "/" in file else "scripts"


def files_of(root):
    """Paths, relative to root, of the Python files at the top and in the rooms."""
    return sorted(
        p.relative_to(root).as_posix()
        for p in [*root.glob("*.py"), *(p for name in BELOW for p in (root / name).rglob("*.py"))]
    )


def find(module, files):
    """The file of a dotted name, None where it is not of this project."""
    path = module.replace(".", "/")
    return next((f for f in (f"{path}.py", f"{path}/__init__.py") if f in files), None)


def imported(node, source, files):
    """Files that an import names: of `from a import b` the file a/b.py where there is one, else a."""
    if isinstance(node, ast.Import):
        return [find(alias.name, files) for alias in node.names]
    package = source.split("/")[:-1]
    start = package[: len(package) + 1 - node.level] if node.level else []
    module = ".".join([*start, *([node.module] if node.module else [])])
    return [find(f"{module}.{alias.name}", files) or find(module, files) for alias in node.names]


def is_main_block(node):
    return isinstance(node, ast.If) and ast.unparse(node.test) == "__name__ == '__main__'"


def handed(tree):
    """The strings that a command hands to its main: exactly cli.run(main, name="module:Name", ...)."""
    calls = [
        statement.value
        for block in tree.body
        if is_main_block(block)
        for statement in block.body
        if isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Call)
    ]
    return {
        id(keyword.value)
        for call in calls
        if ast.unparse(call.func) == "cli.run" and [ast.unparse(a) for a in call.args] == ["main"]
        for keyword in call.keywords
    }


def at_import(tree):
    """Nodes that run when the module is imported: in no function, not below `if __name__ == "__main__":`."""
    waiting, nodes = list(tree.body), []
    while waiting:
        node = waiting.pop()
        nodes.append(node)
        if not (isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda) or is_main_block(node)):
            waiting += ast.iter_child_nodes(node)
    return {id(node) for node in nodes}


def names_of_modules(tree):
    """The strings by which a call imports a module: import_module("room.module") and its like."""
    calls = [n for n in ast.walk(tree) if isinstance(n, ast.Call)]
    importing = [
        c for c in calls if re.search(r"(import_module|__import__|run_module)$", ast.unparse(c.func))
    ]
    return {id(word) for call in importing for word in call.args}


def arrows_of(root):
    """All arrows between the files below root."""
    files, arrows = set(files_of(root)), []
    for source in sorted(files):
        tree = ast.parse((root / source).read_text(encoding="utf-8"))
        allowed, shallow, named = handed(tree), at_import(tree), names_of_modules(tree)
        for node in ast.walk(tree):
            string, targets = False, []
            if isinstance(node, ast.Import | ast.ImportFrom):
                targets = imported(node, source, files)
            elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in allowed:
                string = True
                place = PLACE.fullmatch(node.value) or id(node) in named
                targets = [find(node.value.split(":")[0], files)] if place else []
            arrows += [
                Arrow(source, target, node.lineno, string, id(node) not in shallow)
                for target in dict.fromkeys(targets)
                if target and target != source
            ]
    return arrows


def is_allowed(arrow):
    source, target = room(arrow.source), room(arrow.target)
    return source == target or target in BELOW[source] or arrow.target == FOR_ALL


def wrong_arrows(arrows):
    return [str(arrow) for arrow in arrows if not is_allowed(arrow)]


def circles(arrows):
    """Circles of imports between files: "a.py -> b.py -> a.py"; none where there is none."""
    ahead = {}
    for arrow in arrows:
        if not arrow.string:
            ahead.setdefault(arrow.source, set()).add(arrow.target)
    seen, done = {}, set()

    def walk(file, path):
        if file in path:
            circle = path[path.index(file) :]
            first = circle.index(min(circle))
            circle = circle[first:] + circle[:first]
            seen[tuple(circle)] = " -> ".join([*circle, circle[0]])
        elif file not in done:
            for target in sorted(ahead.get(file, ())):
                walk(target, [*path, file])
            done.add(file)

    for file in sorted(ahead):
        walk(file, [])
    return sorted(seen.values())


def comes_with_record(way):
    """Whether a way enters report at report.record and ends in report."""
    inside = [file for file in way.split(" -> ") if file.startswith("report/")]
    return inside[:1] == ["report/record.py"] and way.endswith(inside[-1])


def loaded_above(arrows):
    """Files whose import alone loads a file of a room that they may not import, with the way there."""
    files, ahead = {file for arrow in arrows for file in (arrow.source, arrow.target)}, {}
    for arrow in arrows:
        if not (arrow.string or arrow.deep):
            packages = {f"{p}/__init__.py" for p in list(Path(arrow.target).parents)[:-1]} & files
            ahead.setdefault(arrow.source, set()).update({arrow.target}, packages)
    wrong = []
    for file in sorted(files):
        ways, waiting = {file: file}, [file]
        while waiting:
            source = waiting.pop()
            for target in sorted(ahead.get(source, set()) - set(ways)):
                ways[target] = f"{ways[source]} -> {target}"
                waiting.append(target)
        may = {target for target in ways if is_allowed(Arrow(file, target, 0))} | {"report/__init__.py"}
        # What report.record loads of its own room comes with it.
        wrong += [way for target, way in ways.items() if target not in may and not comes_with_record(way)]
    return wrong


@pytest.fixture(scope="module")
def arrows():
    return arrows_of(ROOT)


def test_direction_of_imports(arrows):
    wrong = wrong_arrows(arrows)
    assert not wrong, f"{len(wrong)} arrows point the wrong way:\n" + "\n".join(wrong)


def test_direction_has_no_circle_of_files(arrows):
    assert not circles(arrows), "\n".join(circles(arrows))


def test_direction_of_what_an_import_loads(arrows):
    wrong = loaded_above(arrows)
    assert not wrong, "importing the first file of a line loads its last:\n" + "\n".join(wrong)


def test_direction_knows_the_room_of_every_file():
    try:
        listed = subprocess.run(
            ["git", "-C", ROOT, "ls-files", "*.py"], capture_output=True, text=True, check=True
        ).stdout.split()
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("not a git checkout")
    assert {room(f) for f in listed} <= {*BELOW, "tests"}


# ----------------------------------------------------------------- the checker itself, on small made-up trees


@pytest.fixture
def tree(tmp_path):
    """make({file: text}) -> a folder of these files, with an empty __init__.py in every package."""

    def make(files):
        for name, text in files.items():
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
            for folder in list(path.relative_to(tmp_path).parents)[:-1]:
                (tmp_path / folder / "__init__.py").touch()
        return tmp_path

    return make


@pytest.mark.parametrize(
    ("source", "text", "target"),
    [
        ("common/a.py", "import faces.b", "faces/b.py"),
        ("models/a.py", "def f():\n    from attacks import b", "attacks/b.py"),
        ("models/a.py", "class C:\n    def f(self):\n        import purify.b as b", "purify/b.py"),
        ("faces/a.py", "try:\n    from models.b import x\nexcept ImportError:\n    pass", "models/b.py"),
        ("models/a.py", "REGISTRY = {'b': 'attacks.b:B'}", "attacks/b.py"),
        ("models/a.py", "from importlib import import_module\nimport_module('attacks.b')", "attacks/b.py"),
        ("pipeline/a.py", "from metrics.b import x", "metrics/b.py"),
        ("metrics/a.py", "from pipeline import b", "pipeline/b.py"),
        ("report/a.py", "def f():\n    from models import b", "models/b.py"),
        ("attacks/a.py", "from report import text", "report/text.py"),
        ("attacks/a.py", "from report import record, text", "report/text.py"),
        ("evaluation/a.py", "import train_defense", "train_defense.py"),
        ("tools/a.py", "from train_defense import parse_args", "train_defense.py"),
        ("models/deep/a.py", "from ...attacks import b", "attacks/b.py"),
    ],
)
def test_direction_upwards_is_found(tree, source, text, target):
    wrong = wrong_arrows(arrows_of(tree({source: text, target: "", "report/record.py": ""})))
    assert len(wrong) == 1 and wrong[0].startswith(f"{source}:") and f"-> {target} " in wrong[0]


@pytest.mark.parametrize(
    ("source", "text", "target"),
    [
        ("models/a.py", "from faces import b", "faces/b.py"),
        ("purify/a.py", "REGISTRY = {'b': 'models.b:B'}", "models/b.py"),
        ("attacks/a.py", "from report import record", "report/record.py"),
        ("common/a.py", "def f():\n    from report.record import read", "report/record.py"),
        ("evaluation/a.py", "from report import text", "report/text.py"),
        ("train_defense.py", "from evaluation.b import x", "evaluation/b.py"),
        ("models/a.py", "from . import b", "models/b.py"),
        ("models/a.py", "'''See attacks.b:B for what is disrupted.'''", "attacks/b.py"),
    ],
)
def test_direction_downwards_passes(tree, source, text, target):
    arrows = arrows_of(tree({source: text, target: ""}))
    assert not wrong_arrows(arrows) and not loaded_above(arrows)


HANDED = "if __name__ == '__main__':\n    cli.run(main, build='attacks.b:B')"


def test_direction_of_what_a_command_is_handed(tree):
    arrows = arrows_of(tree({"models/train.py": HANDED, "attacks/b.py": ""}))
    assert not wrong_arrows(arrows) and not loaded_above(arrows)


@pytest.mark.parametrize(
    "text",
    [
        "cli.run(main, build='attacks.b:B')",
        "def f():\n    " + HANDED.replace("\n", "\n    "),
        HANDED.replace("main,", "other,"),
        HANDED.replace("cli.run(main, ", "registry.load("),
        HANDED.replace("'attacks.b:B'", "make('attacks.b:B')"),
        HANDED.replace("cli.run", "x = cli.run"),
        HANDED.replace("'__main__'", "'__main__' or True"),
        HANDED.replace("cli", "from attacks.b import B\n    cli", 1),
    ],
)
def test_direction_of_any_other_form_is_found(tree, text):
    assert wrong_arrows(arrows_of(tree({"models/train.py": text, "attacks/b.py": ""})))


def test_direction_of_circles(tree):
    root = tree(
        {
            "models/a.py": "from models import b",
            "models/b.py": "def f():\n    import models.c",
            "models/c.py": "from models.a import x",
            "models/d.py": "PLACES = {'e': 'models.e:E'}",
            "models/e.py": "from models.d import PLACES",
        }
    )
    assert circles(arrows_of(root)) == ["models/a.py -> models/b.py -> models/c.py -> models/a.py"]


def test_direction_of_what_an_import_loads_is_followed_through_other_files(tree):
    root = tree({"faces/a.py": "from common import b", "common/b.py": "from report import record"})
    tree({"report/record.py": ""})
    assert not loaded_above(arrows_of(root))
    tree({"report/record.py": "from report import schema", "report/schema.py": ""})
    assert not loaded_above(arrows_of(root))  # the room of records comes with them
    tree({"common/b.py": "from common import c", "common/c.py": "import attacks.d", "attacks/d.py": ""})
    assert "faces/a.py -> common/b.py -> common/c.py -> attacks/d.py" in loaded_above(arrows_of(root))


def test_direction_of_an_import_inside_a_function_loads_nothing(tree):
    root = tree({"models/a.py": "def f():\n    from attacks import b", "attacks/b.py": "import models.a"})
    assert not loaded_above(arrows_of(root))
    assert circles(arrows_of(root)) == ["attacks/b.py -> models/a.py -> attacks/b.py"]
