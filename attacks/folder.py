"""A folder of photos in, a folder of disrupted PNGs out: what is read, what is there already, what is written beside it."""
import csv
import io
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
import yaml

from common import files, images
from common.cli import UserError

SMALLEST = 8    # pixels a side: two halvings of the translator must leave something to normalise
HEADER = ["file", "source", "width", "height", "linf", "l2"]


def read_photo(path, image_size=0):
    """uint8 (H, W, 3); image_size > 0 resizes the short side to it and crops the centre square, 0 keeps the photo's size."""
    image = images.read_rgb(path)
    return np.asarray(images.center_crop_resize(image, 0, image_size) if image_size else image)


def inspect(paths, image_size=0, skip_damaged=False, num_workers=0):
    """Decode every photo once, before anything is written.

    Returns: (sizes {path: (H, W)} in the order of paths, damaged [path])
    Raises:  UserError naming a damaged photo (unless skip_damaged), or one that is too small
    """
    def size_of(path):
        try:
            return read_photo(path, image_size).shape[:2]
        except UserError:
            if not skip_damaged:
                raise
    with ThreadPoolExecutor(max(1, num_workers)) as pool:
        sizes = dict(zip(paths, pool.map(size_of, paths)))
    damaged = [p for p, size in sizes.items() if size is None]
    sizes = {p: size for p, size in sizes.items() if size is not None}
    for path, (h, w) in sizes.items():
        if min(h, w) < SMALLEST:
            raise UserError(f"{path}: {w} x {h} pixels, the translator needs at least {SMALLEST} a side; --image_size N enlarges it")
    return sizes, damaged


def batches(sizes, batch_size):
    """Lists of at most batch_size paths of equal (H, W)."""
    groups = {}
    for path, size in sizes.items():
        groups.setdefault(size, []).append(path)
    return [group[i:i + batch_size] for group in groups.values() for i in range(0, len(group), batch_size)]


def pad_to(x, multiple):
    """Reflect the right and lower border until H and W are multiples; crop with [..., :H, :W] afterwards."""
    h, w = x.shape[-2:]
    down, right = -h % multiple, -w % multiple
    return F.pad(x, (0, right, 0, down), mode="reflect") if down or right else x


class Output:
    """The output folder: <stem>.png per photo, attack.yaml (all parameters), attack.csv (what was reached, per file).

    Raises UserError if the folder is the input's, holds images of other parameters, or two photos would share a name.
    """

    def __init__(self, folder, sources):
        self.folder = Path(folder)
        if self.folder.resolve() in {p.resolve().parent for p in sources[:1]}:
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

    def missing(self, sources):
        return [p for p in sources if not self.path(p).exists()]

    @property
    def described(self):
        return (self.folder / "attack.yaml").exists()

    def check(self, parameters, sources):
        """Existing images are kept if they were made with these parameters; refuse to mix with others."""
        if not self.described:
            there = [p for p in sources if self.path(p).exists()]
            if there:
                raise UserError(f"{self.path(there[0])}: exists, without an attack.yaml that says how it was made; choose another --output")
            return
        try:
            saved = yaml.safe_load((self.folder / "attack.yaml").read_text())["parameters"]
            changed = [f"{k}: {saved.get(k)} -> {parameters.get(k)}" for k in {**saved, **parameters} if saved.get(k) != parameters.get(k)]
        except (OSError, yaml.YAMLError, TypeError, KeyError, AttributeError):
            changed = ["attack.yaml cannot be read"]
        if changed:
            raise UserError(f"{self.folder}: holds images of other parameters ({'; '.join(changed)}); choose another --output, or restore these flags")

    def describe(self, parameters, facts):
        """Write attack.yaml, unless it is there: `parameters` decide the images, `facts` say where they came from."""
        files.make_folder(self.folder)
        if not self.described:
            files.write_atomic(self.folder / "attack.yaml", yaml.safe_dump({"parameters": parameters, **facts}, sort_keys=False))

    def save(self, sources, x, x_adv):
        """Write the batch x_adv of uint8 (N, H, W, 3) and return its rows for attack.csv."""
        for path, image in zip(sources, x_adv):
            images.save_png(self.path(path), image)
        return [self.row(*each) for each in zip(sources, x, x_adv)]

    def row(self, source, before, after):
        d = torch.from_numpy(after.astype(np.float32) - before.astype(np.float32)) / 127.5
        return [self.path(source).name, source.name, after.shape[1], after.shape[0], f"{float(d.abs().max()):.6f}", f"{float(d.square().mean()):.8f}"]

    def report(self, sources, rows, image_size):
        """Write attack.csv for all sources: `rows` of this run, rows of earlier runs, measured again where a killed run left none."""
        path = self.folder / "attack.csv"
        known = {}
        if path.exists():
            known = {r[0]: r for r in csv.reader(io.StringIO(path.read_text())) if len(r) == len(HEADER) and r != HEADER}
        known.update({r[0]: r for r in rows})
        for source in sources:
            name = self.path(source).name
            if name not in known:
                known[name] = self.row(source, read_photo(source, image_size), images.load_png(self.path(source)))
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerows([HEADER, *(known[name] for name in sorted(known))])
        files.write_atomic(path, text.getvalue())
        return [known[self.path(source).name] for source in sources]
