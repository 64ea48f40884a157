"""Pictures of a defence: a grid of the first photos with their fakes, and every image on demand."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import torch

from common import files, images
from faces.celeba import FaceFolder
from models.conditions import targets

SHOWN, ROWS = 3, 8  # domains and photos in grid.png


@dataclass(frozen=True)
class Pictures:
    """What is drawn of one defence.

    kinds        {"disrupted", "purified"}: domain number -> names -> (N, 3, H, W) in [-1, 1]
    fakes        (x, c) -> fakes of x (N, 3, H, W);  translator, attributes  whose domains they are
    own_domains  whether each domain has disrupted and purified photos of its own
    kept         fakes of photos and of disrupted photos that were drawn before: handed on from one defence to
                 the next of the same translator and disruption
    """

    kinds: dict[str, Callable[[int], Callable[[list[str]], torch.Tensor]]]
    fakes: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
    translator: Callable
    attributes: list[str]
    own_domains: bool
    kept: dict = field(default_factory=dict)

    def save(self, folder: Path, faces: FaceFolder, device: torch.device, every: bool = False) -> None:
        """grid.png of the first photos (photo, disrupted, purified, and the fakes of each beside it) in
        `folder`; with `every` each image of all photos in images/."""
        columns, number = [], len(faces) if every else min(ROWS, len(faces))  # of the grid, (n, 3, H, W) each
        for start in range(0, number, ROWS):
            rows = range(start, min(start + ROWS, number))
            names, x, c = faces.names[start : rows.stop], faces.floats(rows).to(device), faces.labels[rows]
            for k, target in enumerate(targets(self.translator, c.to(device), self.attributes)):
                if k >= SHOWN and not every:
                    break
                shown = {"photo": x, **{kind: of(k)(names).to(device) for kind, of in self.kinds.items()}}
                fakes = {kind: self._fakes((start, k, kind), image, target) for kind, image in shown.items()}
                if every:
                    self._save_each(folder, k, names, shown, fakes)
                if start == 0 and k < SHOWN:
                    columns += ([*shown.values()] if k == 0 or self.own_domains else []) + [*fakes.values()]
        grid = zip(*(column.cpu() for column in columns), strict=True)
        images.save_png(folder / "grid.png", images.make_grid(list(grid)))

    def _fakes(self, place, x, c):
        """The fakes of x; those of photos and disrupted photos of the grid are kept for the next defence."""
        start, _, kind = place
        if start or kind == "purified":
            return self.fakes(x, c)
        if place not in self.kept:
            self.kept[place] = self.fakes(x, c)
        return self.kept[place]

    def _save_each(self, folder, k, names, shown, fakes):
        for kind, image in shown.items():
            own = self.own_domains and kind != "photo"
            if k == 0 or own:
                _save(folder, kind + (f"_{self.attributes[k]}" if own else ""), names, image)
            _save(folder, f"fake_of_{kind}_{self.attributes[k]}", names, fakes[kind])


def _save(folder, kind, names, several):
    files.make_folder(folder / "images" / kind)
    for name, image in zip(names, images.to_uint8(several), strict=True):
        images.save_png(folder / "images" / kind / f"{Path(name).stem}.png", image)
