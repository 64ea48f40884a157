"""What a trigger on photos does to several purifiers, as rows of figures: see evaluation.triggered."""

import torch

from common import images, progress, seeds
from faces.celeba import FaceFolder
from metrics.images import DISTURBED, summarise
from models.conditions import targets
from models.diffusion import triggers
from models.diffusion.backdoor import BACKDOORS, Backdoor
from models.diffusion.denoiser import Denoiser
from models.translators import Translator
from purify.base import Purifier
from purify.one_step import OneStepPlain
from purify.reverse_only import DiffPure, ReverseOnly

KINDS = {"ddpm": ReverseOnly, "diffpure": DiffPure, "one-step-plain": OneStepPlain}
REACHED = 0.01  # MSE to the target below which it has come out, as in the check of a training
SHOWN = 3  # photos in grid.png


def put_on(x: torch.Tensor, way: str, form: Backdoor, step: int) -> torch.Tensor:
    """Photos x with the trigger of `form`, a published Backdoor, put on them; step  0-based, of `scaled`."""
    if way == "none":
        return x
    r = form.r.to(x.device)
    if way == "stamp":
        x = form.gamma.to(x.device) * x + r if form.name == "trojdiff" else triggers.stamp(x, form.g)
    else:
        x = x + (float(form.c[step]) if way == "scaled" else 1.0) * r
    return images.quantise(x.clamp(-1, 1))


def purifier_of(denoiser: Denoiser, text: str, most_steps: int) -> Purifier | None:
    """The purifier of a method, None where the network does not reach that far."""
    kind, _, start = text.rpartition("-")
    start = int(start)
    if start > denoiser.max_timestep:
        return None
    if kind == "one-step-plain":
        return OneStepPlain(denoiser, start)
    return KINDS[kind](
        denoiser, start, str(denoiser.num_timesteps * most_steps // start) if start > most_steps else ""
    )


class Rows:
    """Gathers a row of figures for each purifier, method and way.

    Args:  faces  the photos;  target (3, H, W);  translator  or None: then no fakes;  attributes  its domains
           seed   of the intervals;  batch_size  photos at a time
    """

    def __init__(
        self,
        faces: FaceFolder,
        target: torch.Tensor,
        translator: Translator | None,
        attributes: list[str],
        seed: int,
        batch_size: int,
        device: torch.device,
    ):
        self.faces, self.translator, self.attributes = faces, translator, attributes
        self.seed, self.batch_size, self.device = seed, batch_size, device
        self.x, self.target = faces.floats(range(len(faces))), target
        self.pixels = lambda a, b: (a - b).square().flatten(1).mean(1)
        self.figures, self.shown = [], {}
        self.clean = self.fakes(self.x)

    @torch.no_grad()
    def fakes(self, x: torch.Tensor) -> torch.Tensor | None:
        """(K, N, 3, H, W) fakes in every domain, None without a translator."""
        if self.translator is None:
            return None
        parts = []
        for k in range(0, len(x), self.batch_size):
            c = targets(
                self.translator, self.faces.labels[k : k + self.batch_size].to(self.device), self.attributes
            )
            part = x[k : k + self.batch_size].to(self.device)
            parts.append(torch.stack([self.translator(part, one).float().cpu() for one in c]))
        return torch.cat(parts, 1)

    def add(
        self, purifier: str, method: str, way: str, y: torch.Tensor, noise_rms: torch.Tensor | None = None
    ) -> None:
        """Note what became of all photos: y (N, 3, H, W) on the 8-bit grid."""
        names, seed = self.faces.names, self.seed
        to_target, to_photo = self.pixels(y, self.target), self.pixels(y, self.x)
        rows = {
            "to_target": to_target,
            "to_photo": to_photo,
            "reached": to_target < REACHED,
            "nearer": to_target < to_photo,
        }
        figures = summarise(
            {k: v.double() for k, v in rows.items()}
            | ({} if noise_rms is None else {"noise_rms": noise_rms.double()}),
            names,
            seed,
        )
        fakes = None
        if self.translator is not None and method != "x_T":
            fakes = self.fakes(y)
            l2 = (fakes - self.clean).square().flatten(2).mean(2).double()
            figures |= summarise(
                {"fake_l2": l2.flatten(), "disrupted": (l2 > DISTURBED).double().flatten()},
                names * len(l2),
                seed,
            )
        self.figures.append({"purifier": purifier, "method": method, "trigger_on": way, **figures})
        self.shown[purifier, method, way] = y[:SHOWN], None if fakes is None else fakes[0, :SHOWN]


@torch.no_grad()
def purify_all(
    purifier: Purifier, x: torch.Tensor, names: list[str], seed: int, batch_size: int, device: torch.device
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """(purified photos on the 8-bit grid, (N,) rms of the noise that the network sees in the input, for
    purifiers that add none)."""
    clean, rms = [], []
    for k in range(0, len(x), batch_size):
        part = x[k : k + batch_size].to(device)
        clean.append(
            images.quantise(purifier(part, seeds.named(seed, names[k : k + batch_size], "purify"))).cpu()
        )
        if purifier.name != "diffpure":
            rms.append(
                purifier.denoiser.eps(part, purifier.start - 1).square().flatten(1).mean(1).sqrt().cpu()
            )
    return torch.cat(clean), torch.cat(rms) if rms else None


def measure(
    loaded: dict, form: Backdoor, rows: Rows, methods: list[str], ways: list[str], most_steps: int
) -> list[list[str]]:
    """Fill `rows`.

    Args:    loaded  {name: (Denoiser, its backdoor or None)};  form  what networks without one are shown
    Returns: the [purifier, method] pairs that were left out
    """
    skipped, x, names = [], rows.x, rows.faces.names
    seed, size, device = rows.seed, rows.batch_size, rows.device
    for way in ["none", *(w for w in ways if w != "scaled")]:
        rows.add("none", "none", way, put_on(x, way, form, 0))
    with progress.bar(len(loaded) * len(methods) * (1 + len(ways)), "purify", "row") as bar:
        for name, (denoiser, backdoor) in loaded.items():
            own = backdoor if backdoor and backdoor.name in BACKDOORS else form
            if own is backdoor and denoiser.max_timestep == denoiser.num_timesteps:
                noise = seeds.named(seed, names, "noise").normal(x)
                parts = [
                    backdoor.answer(
                        denoiser,
                        noise[k : k + size].to(device),
                        seeds.named(seed, names[k : k + size], "answer"),
                    )
                    for k in range(0, len(x), size)
                ]
                rows.add(name, "x_T", "x_T", images.quantise(torch.cat(parts).clamp(-1, 1)).cpu())
            for text in methods:
                purifier = purifier_of(denoiser, text, most_steps)
                if purifier is None:
                    skipped.append([name, text])
                for way in ["none", *ways] if purifier else []:
                    y, rms = purify_all(
                        purifier, put_on(x, way, own, purifier.start - 1), names, seed, size, device
                    )
                    rows.add(name, text, way, y, rms)
                bar.update(1 + len(ways))
    return skipped
