"""The labelled samples that a detector learns from, photos of a split and a fake of each: train_detector.py
trains on them, a filter judges the same ones.

    scraped = TrainingSet(options, ctx, open_faces(options, "b"), translator, attack)
    samples, poisoned = scraped.samples(0.5), scraped.disrupted(0.5)  # as --condition disrupted has them
    trusted = TrainingSet(options, ctx, open_faces(options, "a"), translator).samples()  # of split A, clean
"""

from collections.abc import Collection
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch

from common import compiling, images, seeds
from common.batch import PhotosAtATime
from common.cli import UserError
from common.distributed import Context, autocast
from faces.celeba import FaceFolder
from faces.flags import DataOptions
from models.conditions import targets
from models.detector.samples import FAKE, REAL, Samples, join
from models.flags import TranslatorOptions, gan_name
from models.translators import Translator
from pipeline.attacked import AttackedPhotos, Disrupter, disrupt_some
from pipeline.fakes import FakePhotos, random_domains
from pipeline.purified import Cleaner
from pipeline.scraped import Scraped, disrupted_names


@dataclass(frozen=True, kw_only=True)
class TrainingSetOptions(DataOptions, TranslatorOptions):
    """The values that say what the samples are and where they are kept."""

    seed: int
    precision: str
    attack_label: str
    image_batch_size: int | str


class TrainingSet:
    """The photos of one split as a detector's maker may have them, and one fake of each in a random domain
    that changes its label.

    All images come from the caches that all runs share, below options.result_dir, and are made there where
    they are missing. Equal flags give the same samples, whichever command asks.

    Args:   options     TrainingSetOptions
            ctx         common.distributed.Context
            faces       faces.celeba.FaceFolder of the split
            translator  models.translators.Translator that makes the fakes
            attack      a Disrupter of the disrupted photos; may be None where none is disrupted
            purifier    a Cleaner of the purified ones; may be None where none is purified
    Attributes: domains       {name: index into options.selected_attrs} of the fakes, drawn from (seed,
                              name) alone
                attacked_key  what records call the disrupted photos; None until some are made
                at_a_time     how many photos were made at a time; None before
    Raises: UserError for a photo that no domain would change
    """

    def __init__(
        self,
        options: TrainingSetOptions,
        ctx: Context,
        faces: FaceFolder,
        translator: Translator,
        attack: Disrupter | None = None,
        purifier: Cleaner | None = None,
    ) -> None:
        self.options, self.ctx, self.faces, self.translator, self.attack, self.purifier = (
            options,
            ctx,
            faces,
            translator,
            attack,
            purifier,
        )
        self.domains = dict(
            zip(
                faces.names,
                random_domains(faces.names, faces.labels, options.selected_attrs, options.seed),
                strict=True,
            )
        )
        self.root, self.attacked_key, self.at_a_time = Path(options.result_dir), None, None

    def disrupted(self, rate: float) -> set[str]:
        """Names of the share `rate` of the photos that carries a disruption: both of their samples are
        poisoned.

        Raises: UserError for a rate above 0 that comes to no photo
        """
        names = disrupted_names(self.faces.names, rate, self.options.seed)
        if rate and not names:
            raise UserError(
                f"--poison_rate {rate:g} of {len(self.faces)} photos is none of them; give a higher rate, or"
                " more photos"
            )
        return names

    def samples(
        self,
        rate: float = 0.0,
        purified: bool = False,
        only: Collection[str] | None = None,
        fakes: bool = True,
    ) -> Samples:
        """Photos and fakes, in the order of (name, label).

        Args:    rate      share of all photos of the split that is disrupted before anything else is done to
                           them
                 purified  every photo goes through the purifier before its fake is made
                 only      names of photos: no others are made; None = all
                 fakes     False: the photos alone, no fake of them is made
        Returns: models.detector.samples.Samples
        """
        faces = self.faces if only is None else self.faces.subset([n for n in self.faces.names if n in only])
        wanted = PhotosAtATime(
            self.options.image_batch_size,
            -(-len(faces) // self.ctx.world),
            self.options.image_size**2,
            "--image_batch_size",
        )
        return wanted.run(self.ctx, self._rehearse, partial(self._made, faces, rate, purified, fakes))

    def _rehearse(self, count: int) -> None:
        """All that is done to photos, done to the first `count` of them: nothing of it is kept."""
        options, device = self.options, self.ctx.device
        some = self.faces.subset(self.faces.names[:count])
        x, attributes = some.floats(range(len(some))).to(device), options.selected_attrs
        if self.attack is not None:
            rule, seed = options.attack_label, options.seed
            _, _, x = disrupt_some(self.attack, rule, some, attributes, seed, count, device)
        with torch.no_grad():
            if self.purifier is not None:
                x = self.purifier(x, seeds.named(options.seed, some.names, "purify"))
            with autocast(device, options.precision):
                self.translator(x, targets(self.translator, some.labels.to(device), attributes)[0])

    def _compile(self, batches: float, size: int) -> None:
        steps = batches * getattr(self.attack, "steps", 1)
        compiling.fix([self.translator], self.options.compile, self.ctx, size, steps)
        if self.purifier is not None:
            calls = batches * self.purifier.passes
            compiling.fix(self.purifier.networks(), self.options.compile, self.ctx, size, calls)

    def _made(self, faces: FaceFolder, rate: float, purified: bool, fakes: bool, size: int) -> Samples:
        """The samples of some photos, made `size` photos at a time."""
        options, parts, self.at_a_time = self.options, [], size
        self._compile(len(faces) / size / self.ctx.world, size)
        hit, attacked = self.disrupted(rate) & set(faces.names), None
        if hit:
            some = faces.subset([n for n in faces.names if n in hit])
            attacked = AttackedPhotos(
                self.attack,
                options.attack_label,
                some,
                options.selected_attrs,
                self.root / "attacked" / options.dataset,
                faces.preparation,
                options.seed,
            )
            attacked.fill(self.ctx, size)
            self.attacked_key = attacked.key
        scraped = Scraped(
            faces,
            attacked,
            hit,
            self.purifier if purified else None,
            self.root / "purified" / options.dataset,
            options.seed,
            options.precision,
        )
        scraped.fill(self.ctx, size)
        labels, sources = dict(zip(faces.names, faces.labels, strict=True)), faces.fingerprints()
        for part in scraped.parts:
            n = len(part.names)
            reals = [images.to_uint8(part.floats(part.names[k : k + size])) for k in range(0, n, size)]
            parts.append(Samples(part.names, [None] * n, torch.full((n,), REAL), np.concatenate(reals)))
            if not fakes:
                continue
            made = FakePhotos(
                self.translator,
                gan_name(options),
                options.selected_attrs,
                part.key,
                part.floats,
                labels,
                {n: self.domains[n] for n in part.names},
                self.root / "fakes" / options.dataset,
                sources,
                options.precision,
            )
            made.fill(part.names, self.ctx, size)
            domains = [options.selected_attrs[self.domains[name]] for name in part.names]
            parts.append(Samples(part.names, domains, torch.full((n,), FAKE), made.load(part.names)))
        return join(parts)
