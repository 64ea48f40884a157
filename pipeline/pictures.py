"""Pictures of a defence: a grid of the first photos with their fakes, and every image on demand."""

from collections.abc import Callable
from dataclasses import dataclass
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
    """

    kinds: dict[str, Callable[[int], Callable[[list[str]], torch.Tensor]]]
    fakes: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
    translator: Callable
    attributes: list[str]
    own_domains: bool

    def save(self, folder: Path, faces: FaceFolder, device: torch.device, every: bool = False) -> None:
        """grid.png of the first photos (photo, disrupted, purified, and the fakes of each beside it) in
        `folder`; with `every` each image of all photos in images/."""
        rows = []
        for i, name in enumerate(faces.names if every else faces.names[:ROWS]):
            x, c = faces.floats([i]).to(device), faces.labels[[i]].to(device)
            row = []
            for k, target in enumerate(targets(self.translator, c, self.attributes)):
                if k >= SHOWN and not every:
                    break
                shown = {"photo": x, **{kind: of(k)([name]).to(device) for kind, of in self.kinds.items()}}
                fakes = {kind: self.fakes(image, target) for kind, image in shown.items()}
                if every:
                    self._save_each(folder, k, name, shown, fakes)
                if k < SHOWN and i < ROWS:
                    row += ([*shown.values()] if k == 0 or self.own_domains else []) + [*fakes.values()]
            if i < ROWS:
                rows.append([cell[0].cpu() for cell in row])
        images.save_png(folder / "grid.png", images.make_grid(rows))

    def _save_each(self, folder, k, name, shown, fakes):
        for kind, image in shown.items():
            own = self.own_domains and kind != "photo"
            if k == 0 or own:
                _save(folder, kind + (f"_{self.attributes[k]}" if own else ""), name, image)
            _save(folder, f"fake_of_{kind}_{self.attributes[k]}", name, fakes[kind])


def _save(folder, kind, name, image):
    files.make_folder(folder / "images" / kind)
    images.save_png(folder / "images" / kind / f"{Path(name).stem}.png", images.to_uint8(image[0]))
