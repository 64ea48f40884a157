"""A folder of photos in, a folder of purified PNGs of the same names and sizes out: checks before work, purify.yaml beside them."""
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import yaml

from common import files, images
from common.cli import UserError

DESCRIPTION = "purify.yaml"


def inspect(paths, skip_damaged=False, num_workers=0):
    """Decode every photo once, before anything is written.

    Returns: (sizes {path: (width, height)} in the order of paths, damaged [path])
    Raises:  UserError naming a damaged photo (unless skip_damaged); if none is left
    """
    def size_of(path):
        try:
            return images.read_rgb(path).size
        except UserError:
            if not skip_damaged:
                raise
    with ThreadPoolExecutor(max(1, num_workers)) as pool:
        sizes = dict(zip(paths, pool.map(size_of, paths)))
    damaged = [p for p, size in sizes.items() if size is None]
    if len(damaged) == len(paths):
        raise UserError(f"{paths[0].parent}: all {len(paths)} images are damaged; give other photos")
    return {p: size for p, size in sizes.items() if size is not None}, damaged


def batches(sizes, batch_size):
    """Lists of at most batch_size paths of equal size."""
    groups = {}
    for path, size in sizes.items():
        groups.setdefault(size, []).append(path)
    return [group[i:i + batch_size] for group in groups.values() for i in range(0, len(group), batch_size)]


class Output:
    """The output folder: <stem>.png per photo and purify.yaml.

    Raises UserError if it is the photos' own folder, cannot be written, or two photos would share a name.
    """

    def __init__(self, folder, sources):
        self.folder = Path(folder)
        if self.folder.resolve() in {p.resolve().parent for p in sources} | {p.parent.resolve() for p in sources}:
            raise UserError(f"--output {folder}: is the folder of the photos; choose another, the originals are never touched")
        if self.folder.exists() and not self.folder.is_dir():
            raise UserError(f"--output {folder}: is a file, expected a folder")
        files.check_writable(self.folder)
        stems = {}
        for path in sources:
            if stems.setdefault(path.stem, path) != path:
                raise UserError(f"{path}: {stems[path.stem].name} has the same stem, both would become {path.stem}.png; rename one")

    def path(self, source):
        return self.folder / f"{source.stem}.png"

    def missing(self, sources, parameters):
        """The photos that still have no image made with these parameters.  Raises UserError for images made with others."""
        there = [p for p in sources if self.path(p).exists()]
        description = self.folder / DESCRIPTION
        if not description.exists():
            if there:
                raise UserError(f"{self.path(there[0])}: exists, without a {DESCRIPTION} that says how it was made; choose another --output")
            return sources
        try:
            saved = yaml.safe_load(description.read_text())["parameters"]
            changed = [f"{k}: {saved.get(k)} -> {parameters.get(k)}" for k in {**saved, **parameters} if saved.get(k) != parameters.get(k)]
        except (yaml.YAMLError, TypeError, KeyError, AttributeError):
            changed = [f"{DESCRIPTION} cannot be read"]
        if changed:
            raise UserError(f"{self.folder}: holds images of other parameters ({'; '.join(changed)}); choose another --output, or restore these flags")
        return [p for p in sources if not self.path(p).exists()]

    def describe(self, parameters, facts):
        """Write purify.yaml: `parameters` decide the images, `facts` say what it took."""
        files.make_folder(self.folder)
        files.write_atomic(self.folder / DESCRIPTION, yaml.safe_dump({"parameters": parameters, **facts}, sort_keys=False, width=200))
