"""One defence under test: what is loaded for it before any work is done, and the photos that it purifies."""

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from attacks.base import Attack
from attacks.flags import attack_from_flags, short_name
from attacks.through import ThroughDefence
from common import compiling, images, seeds
from common.ahead import parts
from common.distributed import Context
from faces.celeba import FaceFolder
from metrics.fid import Extractor
from metrics.score import SIDES, Score, score_all
from models.flags import gan_name
from models.translators import Translator
from pipeline.attacked import AttackedPhotos, disrupt_some
from pipeline.purified import PurifiedPhotos
from purify.base import Purifier
from purify.defences import defence_folder
from purify.flags import PurifierOptions, purifier_from_flags
from purify.trained import load_defence, trained_noise, weights_of


@dataclass(frozen=True)
class Trial:
    """options  of the command, with the weights and the start that are used;  noise  that the weights were
    trained on;  standard  the ordinary translator, translator  the one that makes the defence's fakes"""

    options: object
    purifier: Purifier
    standard: Translator
    translator: Translator
    attack: Attack
    noise: str

    @property
    def name(self) -> str:
        """<defense+params>, the first folder of its runs."""
        return defence_folder(self.options.defense_model_type, self.purifier)

    def at(self, batch_size: int) -> "Trial":
        """The same with so many photos at a time."""
        return dataclasses.replace(self, options=dataclasses.replace(self.options, batch_size=batch_size))

    @property
    def folder(self) -> Path:
        """Where its runs go; attack part: <attack>-eps<eps>, with what differs from the default protocol, the
        way through a defence too."""
        o = self.options
        through = f"-through-{o.attack_through}" if o.attack_through else ""
        attack = short_name(self.attack, o) + through + ("-self" if o.attack_on == "self" else "")
        return Path(o.result_dir) / self.name / o.dataset / gan_name(o) / self.noise / attack

    def score(self, extractor: Extractor | None, shared: dict[int, Score]) -> Score:
        """Its empty score.  shared: translator's id -> the Score of the disrupted side, made once for
        all defences of that translator."""
        translator, o = self.translator, self.options
        known, ssim = (translator, o.selected_attrs, extractor, o.seed), o.ssim == "fakes"
        if id(translator) not in shared:
            standard = self.standard if translator is not self.standard else None
            shared[id(translator)] = Score(*known, standard=standard, sides=SIDES[:1], ssim=ssim)
        return Score(*known, sides=SIDES[1:], ssim=ssim, shared=shared[id(translator)])

    def compile(self, attacked: AttackedPhotos, ctx: Context) -> None:
        """Compile the networks that it asks, as --compile has it."""
        o, names = self.options, attacked.faces.names
        batches = len(names) / o.batch_size / ctx.world
        missing = sum(len(cached.missing(names)) for cached in attacked.caches) / o.batch_size / ctx.world
        steps, asked = getattr(self.attack, "steps", 1), self.purifier.networks()
        networks = [self.standard, self.translator]
        if self.attack.defence:
            asked = [*asked, *self.attack.defence.purifier.networks()]
        compiling.fix(
            networks, o.compile, ctx, o.batch_size, missing * steps + batches * len(o.selected_attrs)
        )
        compiling.fix(asked, o.compile, ctx, o.batch_size, 2 * batches * self.purifier.passes)

    def attacked(self, faces: FaceFolder) -> AttackedPhotos:
        """The disrupted photos that it meets."""
        o = self.options
        root = Path(o.result_dir) / "attacked" / o.dataset
        rule, attributes = o.attack_label, o.selected_attrs
        return AttackedPhotos(self.attack, rule, faces, attributes, root, faces.preparation, o.seed)

    def purified(self, attacked: AttackedPhotos, faces: FaceFolder) -> "Purified":
        """What its purifier makes of the disrupted photos and of the photos themselves; nothing is made yet,
        see Purified.fill."""
        o = self.options
        root = Path(o.result_dir) / "purified" / o.dataset

        def photos(key, inputs):
            return PurifiedPhotos(self.purifier, key, inputs, root, o.seed, o.precision, attacked.sources)

        return Purified(
            [photos(cached.key, cached.floats) for cached in attacked.caches],
            photos({"photos": faces.preparation}, faces.named),
        )


def rehearse(
    trials: Sequence[Trial], faces: FaceFolder, extractor: Extractor | None, device: torch.device, count: int
) -> None:
    """All that is done to photos for defences that meet one disruption, done to the first `count` of them:
    nothing of it is kept."""
    trial, options = trials[0], trials[0].options
    rule, attributes, seed = options.attack_label, options.selected_attrs, options.seed
    some, x, disrupted = disrupt_some(trial.attack, rule, faces, attributes, seed, count, device)
    names = some.names

    def source(photos):
        return lambda asked: photos[[names.index(name) for name in asked]].cpu()

    shared: dict[int, Score] = {}
    scores, purified = [], []
    with torch.no_grad():
        for trial in trials:
            clean, cured = (
                source(images.quantise(trial.purifier(y, seeds.named(seed, names, "purify"))))
                for y in (x, disrupted)
            )
            scores.append(trial.score(extractor, shared))
            purified.append(([cured], clean))
    score_all(scores, some, [source(disrupted)], purified, Context(0, 1, device), count)


@dataclass(frozen=True)
class Purified:
    """disrupted: purified forms of the disrupted photos, one set or one a domain;  clean  of the photos."""

    disrupted: list[PurifiedPhotos]
    clean: PurifiedPhotos

    def fill(self, names: list[str], ctx: Context, batch_size: int) -> None:
        """Purify what is missing."""
        for photos in [*self.disrupted, self.clean]:
            photos.fill(names, ctx, batch_size)

    def carriers(self, screen: Callable, names: list[str]) -> dict[str, list[str]]:
        """The names of the photos that a purify.terd.screen.Screen finds its trigger on."""

        def flagged(inputs):
            marks = [mark for part in parts(names, 64) for mark in screen(inputs(part)).tolist()]
            return [name for name, mark in zip(names, marks, strict=True) if mark]

        return {"clean": flagged(self.clean.inputs), "disrupted": flagged(self.disrupted[0].inputs)}


def load_trial(options: PurifierOptions, ctx: Context, translators: dict[str, Translator]) -> Trial:
    """Load a defence and make its attack.

    Args:   options      of test_defense.py, one defence;  translators  file -> Translator, those that were
                         loaded before; shared by the defences of one command
    Raises: UserError, before anything is written, for what is missing or does not fit together
    """
    purifier, weights, standard, translator = load_defence(options, ctx, translators)
    target = translator if options.attack_on == "self" else standard
    attack = attack_from_flags(options, _attacked_generator(options, purifier, target, ctx.device))
    used = dataclasses.replace(options, defense_weights=weights, ddpm_start_num=purifier.params.get("start"))
    return Trial(used, purifier, standard, translator, attack, trained_noise(weights))


def _attacked_generator(
    options, purifier: Purifier, target: Translator, device: torch.device
) -> Translator | ThroughDefence:
    """What the attacker differentiates: a translator, or a translator behind a purifier."""
    name = options.attack_through
    if name is None:
        return target
    through = purifier
    if name != purifier.name:
        through = purifier_from_flags(options, weights_of(name, options), name=name, device=device)
    return ThroughDefence(target, through, options.gradient, options.eot)
