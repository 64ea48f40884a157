"""The 8-bit crop cache: every photo of a folder is decoded once, whatever runs read it later.

Two files: crops.npy (N, H, W, 3) uint8, sparse until filled, and marks.npy (N,) int64, one mark per row: 0 =
not decoded, +signature = decoded from the file of that size and time, -signature = found damaged. A row is
written before its mark, so a killed process leaves no half row, two processes may fill the same cache (they
write equal bytes), and a photo that was replaced has another signature and is decoded again.
"""

import errno
import hashlib
import os
import shutil
import tempfile
import warnings
import weakref
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from pathlib import Path

import numpy as np

from common import files, images, progress
from common.cli import UserError
from common.listing import tell

RULE = 1  # version of images.center_crop_resize: raise it when the same photo would give another crop
CHUNK = 256  # photos decoded between two writes


def signatures(stats: Iterable[os.stat_result]) -> np.ndarray:
    """int64 (N,), at least 1, from size in bytes and modification time in ns of each file (os.stat): what
    tells a replaced photo."""
    digests = (hashlib.blake2b(b"%d:%d" % (s.st_size, s.st_mtime_ns), digest_size=8).digest() for s in stats)
    return np.array([(int.from_bytes(d, "big") >> 2) + 1 for d in digests], np.int64)


class CropCache:
    """Crops of the photos `names` of `folder`, made on demand.

    Args:  folder, names, signatures  the photos, in the cache's row order
           crop, size                 centre crop in pixels of the photo, then side of the stored square
           cache_dir                  where to keep it; default beside the folder, in ../.crops/; a private
                                      temporary folder, with a warning, where that cannot be written
           num_workers                threads that decode (Pillow decodes outside Python's lock)
    """

    def __init__(
        self,
        folder: Path | str,
        names: Sequence[str],
        signatures: np.ndarray,
        crop: int,
        size: int,
        cache_dir: Path | str | None = None,
        num_workers: int = 0,
    ):
        self.folder, self.names, self.signatures = Path(folder), names, signatures
        self.crop, self.size, self.cache_dir, self.num_workers = crop, size, cache_dir, num_workers
        self._said = []  # (name, what was done beyond decoding) of the photos decoded last

    @cached_property
    def place(self) -> Path:
        """The cache's folder, made when the first crop is asked for: a dry run writes nothing."""
        folder, beside = self.folder.resolve(), self.cache_dir is None
        definition = {
            "crop": self.crop,
            "size": self.size,
            "rule": RULE,
            "folder": folder.name if beside else str(folder),
            "names": files.key_of(list(self.names)),
        }
        name = f"{folder.name}-crop{self.crop}-size{self.size}-{files.key_of(definition)[:12]}"
        parent = folder.parent / ".crops" if beside else Path(self.cache_dir)
        try:
            # root may write there all the same, and should not
            if beside and not folder.parent.stat().st_mode & 0o222:
                raise PermissionError(errno.EACCES, "marked read-only", str(folder.parent))
            return self._create(parent, name)
        except OSError as e:
            private = tempfile.mkdtemp(prefix="crops-")
            weakref.finalize(self, shutil.rmtree, private, ignore_errors=True)
            warnings.warn(
                f"{parent}: cannot be written ({e.strerror}); the crops are kept in {private} for this run"
                " only, so every run decodes the photos again: give --cache_dir a folder that can be"
                " written",
                stacklevel=6,
            )
            return self._create(Path(private), name)

    # The mapped files are read only: a full disk kills a process that writes through a map, so writing goes
    # through file handles.
    @cached_property
    def crops(self) -> np.ndarray:
        return self._map("crops.npy", np.uint8, (len(self.names), self.size, self.size, 3))

    @cached_property
    def marks(self) -> np.ndarray:
        return self._map("marks.npy", np.int64, (len(self.names),))

    def _create(self, parent, name):
        """Make both files, empty, in a temporary folder and rename it: of two processes one wins and both use
        its folder."""
        place = parent / name
        if place.is_dir():
            for file in ("crops.npy", "marks.npy"):
                # raises where another user's cache cannot be extended
                os.close(os.open(place / file, os.O_RDWR))
            return place
        parent.mkdir(parents=True, exist_ok=True)
        files.sweep(parent)
        temporary = Path(tempfile.mkdtemp(files.ending(), f".{name}.", parent))
        temporary.chmod(0o755)
        try:
            np.lib.format.open_memmap(
                temporary / "crops.npy", "w+", np.uint8, (len(self.names), self.size, self.size, 3)
            )
            np.lib.format.open_memmap(temporary / "marks.npy", "w+", np.int64, (len(self.names),))
            os.rename(temporary, place)
        except OSError:
            shutil.rmtree(temporary, ignore_errors=True)
            if not place.is_dir():
                raise
        return place

    def _map(self, file, dtype, shape):
        try:
            array = np.load(self.place / file, mmap_mode="r")
        except (OSError, ValueError) as e:
            raise UserError(
                f"{self.place / file}: damaged crop cache ({e}); remove the folder {self.place}, it is made"
                " again"
            ) from e
        if array.shape != shape or array.dtype != dtype:
            raise UserError(
                f"{self.place / file}: damaged crop cache, found {array.dtype} {array.shape}, expected"
                f" {shape}; remove the folder {self.place}, it is made again"
            )
        return array

    def get(self, rows: np.ndarray) -> np.ndarray:
        """rows (n,) int -> uint8 (n, H, W, 3).  Raises UserError naming a damaged photo."""
        rows = np.asarray(rows, np.int64)
        self.fill(rows)
        for row in self.missing(rows).tolist():
            self._store([row], [self._decode(row)])  # says what is wrong with the photo
        return self._read(rows)

    def _read(self, rows):
        # through a file handle, not the map: mapped pages that were read count as memory of the process
        crops = np.empty((len(rows), self.size, self.size, 3), np.uint8)
        with open(self.place / "crops.npy", "rb", buffering=0) as f:
            for crop, row in zip(crops, rows.tolist(), strict=True):
                f.seek(self.crops.offset + row * crop.size)
                if f.readinto(crop.data) != crop.size:
                    raise UserError(
                        f"{self.place / 'crops.npy'}: damaged crop cache, shorter than its {len(self.names)}"
                        f" photos; remove the folder {self.place}, it is made again"
                    )
        return crops

    def damaged(self) -> np.ndarray:
        """Rows that were found damaged, of those decoded so far."""
        return np.flatnonzero(self.marks == -self.signatures)

    def missing(self, rows: np.ndarray) -> np.ndarray:
        """The rows, each once, that hold no crop yet; a damaged photo is tried again, its disk may have come
        back."""
        rows = np.unique(rows)
        return rows[self.marks[rows] != self.signatures[rows]]

    def fill(self, rows: np.ndarray, show: bool = False) -> None:
        """Decode what is missing among `rows`; damaged photos are marked and passed over."""
        missing = self.missing(rows)
        if not len(missing):
            return
        with (
            progress.bar(len(missing), "decoding photos", show=show) as bar,
            ThreadPoolExecutor(max(1, self.num_workers)) as pool,
        ):
            for start in range(0, len(missing), CHUNK):
                chunk = missing[start : start + CHUNK]
                todo = self.missing(chunk).tolist()  # another process may have come by
                crops = (
                    map(self._try, todo)
                    if self.num_workers < 2 or len(todo) < 8
                    else pool.map(self._try, todo)
                )
                self._store(todo, crops)
                bar.update(len(chunk))
        tell(*images.remarks(sorted(self._said)))
        self._said.clear()

    def _decode(self, row):
        image = images.read_rgb(self.folder / self.names[row])
        if image.info["remarks"]:
            self._said.append((self.names[row], image.info["remarks"]))
        return np.asarray(images.center_crop_resize(image, self.crop, self.size))

    def _try(self, row):
        try:
            return self._decode(row)
        except UserError:
            return None

    def _store(self, rows, crops):
        with (
            open(self.place / "crops.npy", "r+b", buffering=0) as f,
            open(self.place / "marks.npy", "r+b", buffering=0) as m,
        ):
            for row, crop in zip(rows, crops, strict=True):
                if crop is not None:
                    f.seek(self.crops.offset + row * crop.size)
                    written = f.write(crop.tobytes())
                    if written != crop.size:
                        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self.place))
                m.seek(self.marks.offset + 8 * row)
                m.write(np.int64(self.signatures[row] * (1 if crop is not None else -1)).tobytes())
