"""A folder of photos in, a folder of PNGs of the same names out: what is read, what is there already, what is
written beside it."""

import argparse
import json
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import yaml

from common import files, images
from common.cli import UserError
from common.listing import relative, some, tell


def add_input_flags(group: argparse._ArgumentGroup) -> None:
    """--input, --recursive and --skip_damaged of a command that takes any photos."""
    group.add_argument(
        "--input", required=True, metavar="DIR|FILE", help="photos, in any format that Pillow decodes"
    )
    group.add_argument(
        "--recursive", action="store_true", help="also the photos in subfolders; images keep those"
    )
    group.add_argument(
        "--skip_damaged", action="store_true", help="go on without images that cannot be read, and list them"
    )


def inspect(
    paths: Sequence[Path], skip_damaged: bool = False, num_workers: int = 0
) -> tuple[dict[Path, tuple[int, int]], dict[Path, str]]:
    """Decode every photo once, before anything is written, and tell of those whose transparency was composed
    or that are animations.

    Returns: (sizes {path: (H, W)} in the order of paths, what is wrong with others {path: words})
    Raises:  UserError naming a damaged photo (unless skip_damaged)
    """

    def look(path):
        try:
            image = images.read_rgb(path)
            return image.size[::-1], image.info["remarks"]
        except UserError as e:
            if not skip_damaged:
                raise
            return str(e), ()

    with ThreadPoolExecutor(max(1, num_workers)) as pool:
        found = dict(zip(paths, pool.map(look, paths), strict=True))
    tell(*images.remarks((path.name, words) for path, (_, words) in found.items()))
    wrong = {p: what.partition("; ")[0] for p, (what, _) in found.items() if isinstance(what, str)}
    return {p: size for p, (size, _) in found.items() if p not in wrong}, wrong


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
    """The output folder: <stem>.png per photo, a YAML file named `description` that says how they were made,
    and sources.json, what each was made from.

    Making one writes nothing. Raises UserError if it is the photos' own folder, cannot be written, or two
    photos would share a name.

    Args: sources  photos, directly in `place` or in its subfolders, which are repeated in the output; without
                   `place` each goes by its name alone
    """

    def __init__(
        self, folder: Path | str, sources: Iterable[Path], description: str, place: Path | str | None = None
    ):
        self.folder, self.place = Path(folder), place
        self.description = self.folder / description
        self.prints = self.folder / "sources.json"
        check_apart(folder, sources)
        if self.folder.exists() and not self.folder.is_dir():
            raise UserError(f"--output {folder}: is a file, expected a folder")
        files.check_writable(self.folder)
        self._found = {}  # {photo: 16 hex digits of its sha256}, taken when asked for
        targets = {}
        for path in sources:
            target = self.path(path)
            if targets.setdefault(target, path) != path:
                raise UserError(
                    f"{path}: {targets[target].name} has the same stem, both would become {target.name};"
                    " rename one"
                )

    def name(self, source: Path) -> str:
        """What the photo is called: its name, below a subfolder with that in front."""
        return source.name if self.place is None else relative(source, self.place)

    def image_name(self, source: Path) -> str:
        """Name of the photo's image in the folder, <stem>.png."""
        folder = self.name(source).rpartition("/")[0]
        return f"{folder}/{source.stem}.png" if folder else f"{source.stem}.png"

    def path(self, source: Path) -> Path:
        return self.folder / self.image_name(source)

    def save_image(self, source: Path, image: np.ndarray) -> None:
        """Write uint8 (H, W, 3) as the photo's image."""
        path = self.path(source)
        if path.parent != self.folder:
            files.make_folder(path.parent)
        images.save_png(path, image)

    @property
    def described(self) -> bool:
        return self.description.exists()

    def missing(self, sources: Sequence[Path], parameters: dict) -> list[Path]:
        """The photos that still have no image made with these parameters (JSON types) from what they are now.

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
        stale = self.stale(there)
        if stale:
            tell(f"made anew, for the photo was replaced since: {some(map(self.name, stale))}")
        there = set(there) - set(stale)
        return [p for p in sources if p not in there]

    def stale(self, sources: Iterable[Path]) -> list[Path]:
        """Those photos, all with an image, that are not what it was made from. Where no fingerprint was
        taken, as before there were any, the times of the two files decide."""
        known = self._recorded()
        return [p for p in sources if self._differs(p, known.get(self.image_name(p)))]

    def _differs(self, source, known):
        found = self._fingerprint(source)
        if not found or known is not None:  # a link to a photo that is gone has none
            return found != known
        return source.stat().st_mtime_ns > self.path(source).stat().st_mtime_ns

    def _fingerprint(self, source):
        if source not in self._found:
            try:
                self._found[source] = files.sha256(source)[:16]
            except OSError:
                self._found[source] = ""
        return self._found[source]

    def _recorded(self):
        try:
            return dict(json.loads(self.prints.read_bytes()).items())
        except (OSError, ValueError, AttributeError):  # none yet, or damaged: as in a folder of before
            return {}

    def claim(self, sources: Iterable[Path]) -> list[Path]:
        """Record what the photos are now, before the first image of them is made.

        Images of what they were before are removed first, so that a killed run leaves none. Returns their
        photos.
        """
        sources = list(sources)
        stale = self.stale([p for p in sources if self.path(p).exists()])
        for path in stale:
            self.path(path).unlink()
        known = self._recorded()
        recorded = {**known, **{self.image_name(p): self._fingerprint(p) for p in sources}}
        if recorded != known:
            files.make_folder(self.folder)
            files.write_json(self.prints, recorded)
        return stale

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
