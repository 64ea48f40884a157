"""A folder of photos in, a folder of PNGs of the same names out: what is read, what is there already, what is
written beside it."""

from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import yaml

from common import files, images
from common.cli import UserError


def inspect(
    paths: Sequence[Path], skip_damaged: bool = False, num_workers: int = 0
) -> tuple[dict[Path, tuple[int, int]], list[Path]]:
    """Decode every photo once, before anything is written.

    Returns: (sizes {path: (H, W)} in the order of paths, damaged [path])
    Raises:  UserError naming a damaged photo (unless skip_damaged)
    """

    def size_of(path):
        try:
            return images.read_rgb(path).size[::-1]
        except UserError:
            if not skip_damaged:
                raise

    with ThreadPoolExecutor(max(1, num_workers)) as pool:
        sizes = dict(zip(paths, pool.map(size_of, paths), strict=True))
    return {p: size for p, size in sizes.items() if size is not None}, [
        p for p, size in sizes.items() if size is None
    ]


def batches(sizes: dict[Path, tuple[int, int]], batch_size: int) -> list[list[Path]]:
    """Lists of at most batch_size paths of equal (H, W)."""
    groups = {}
    for path, size in sizes.items():
        groups.setdefault(size, []).append(path)
    return [group[i : i + batch_size] for group in groups.values() for i in range(0, len(group), batch_size)]


def largest(sizes: dict[Path, tuple[int, int]]) -> Path:
    """The photo of most pixels."""
    return max(sizes, key=lambda path: sizes[path][0] * sizes[path][1])


def check_apart(folder: Path | str, sources: Iterable[Path]) -> None:
    """Raises UserError if --output is the folder of the photos. A photo may be a link: neither where it is
    listed nor where it lies is written to."""
    if Path(folder).resolve() in {p.resolve().parent for p in sources} | {
        p.parent.resolve() for p in sources
    }:
        raise UserError(
            f"--output {folder}: is the folder of the photos; choose another, the originals are never touched"
        )


class Output:
    """The output folder: <stem>.png per photo, and a YAML file named `description` that says how they were
    made.

    Making one writes nothing. Raises UserError if it is the photos' own folder, cannot be written, or two
    photos would share a name.
    """

    def __init__(self, folder: Path | str, sources: Iterable[Path], description: str):
        self.folder = Path(folder)
        self.description = self.folder / description
        check_apart(folder, sources)
        if self.folder.exists() and not self.folder.is_dir():
            raise UserError(f"--output {folder}: is a file, expected a folder")
        files.check_writable(self.folder)
        stems = {}
        for path in sources:
            if stems.setdefault(path.stem, path) != path:
                raise UserError(
                    f"{path}: {stems[path.stem].name} has the same stem, both would become {path.stem}.png;"
                    " rename one"
                )

    def path(self, source: Path) -> Path:
        return self.folder / f"{source.stem}.png"

    @property
    def described(self) -> bool:
        return self.description.exists()

    def missing(self, sources: Sequence[Path], parameters: dict) -> list[Path]:
        """The photos that still have no image made with these parameters (JSON types).

        Raises UserError for a folder made with others, or images without a description.
        """
        there = [p for p in sources if files.is_whole(self.path(p))]
        if self.described:
            changed = self.changed(parameters)
            if changed:
                raise UserError(
                    f"{self.folder}: holds images of other parameters ({'; '.join(changed)}); "
                    "choose another --output, or restore these flags"
                )
        elif there:
            name = self.description.name
            raise UserError(
                f"{self.path(there[0])}: exists, without {'an' if name[0] in 'aeiou' else 'a'} {name} "
                "that says how it was made; choose another --output"
            )
        there = set(there)
        return [p for p in sources if p not in there]

    def changed(self, parameters: dict) -> list[str]:
        """["name: described -> given"] for every parameter that differs from the description's."""
        try:
            saved = yaml.safe_load(self.description.read_text())["parameters"]
            return [
                f"{k}: {saved.get(k)} -> {parameters.get(k)}"
                for k in {**saved, **parameters}
                if saved.get(k) != parameters.get(k)
            ]
        except (OSError, UnicodeDecodeError, yaml.YAMLError, TypeError, KeyError, AttributeError):
            return [f"{self.description.name} cannot be read"]

    def describe(self, parameters: dict, facts: dict) -> None:
        """Write the description: `parameters` decide the images, `facts` say where they came from and what
        they took."""
        files.make_folder(self.folder)
        files.sweep(self.folder)
        files.write_atomic(
            self.description, yaml.safe_dump({"parameters": parameters, **facts}, sort_keys=False, width=200)
        )
