"""One defence under test: what is loaded for it before any work is done, and the photos that it purifies."""

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import torch

from attacks.base import Attack
from attacks.flags import attack_from_flags, short_name, usual_draws
from attacks.through import ThroughDefence
from common import compiling, images, seeds
from common.ahead import parts
from common.distributed import Context
from common.errors import UserError
from faces.celeba import FaceFolder
from metrics.fid import Extractor
from metrics.score import SIDES, Score, score_all
from models.flags import gan_name
from models.translators import Translator
from pipeline.attacked import AttackedPhotos, disrupt_some
from pipeline.purified import PurifiedPhotos
from purify.base import Purifier
from purify.defences import defence_folder
from purify.flags import PurifierOptions, purifier_from_flags, through_of
from purify.trained import load_defence, trained_noise, weights_of

T = TypeVar("T")


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
        through += f"@{self.attack.defence.purifier.sha256[:6]}" if o.through_weights else ""
        through += "-known-noise" if o.known_noise else ""
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
    if purifier.made_for not in (None, standard.sha256):
        ctx.print(
            f"note: {weights}: {purifier.name} learned to protect another translator (sha256"
            f" {purifier.made_for[:8]}) than {options.gan_weights} ({standard.sha256[:8]}): this measures how"
            " it carries over"
        )
    attacked = translator if options.attack_on == "self" else standard
    options, attacked = known_to_attacker(options, purifier, weights, attacked, ctx.device)
    attack = attack_from_flags(options, attacked)
    used = dataclasses.replace(options, defense_weights=weights, ddpm_start_num=purifier.params.get("start"))
    return Trial(used, purifier, standard, translator, attack, trained_noise(weights))


def known_to_attacker(
    options: T, purifier: Purifier, weights: str | None, translator: Translator, device: torch.device
) -> tuple[T, Translator | ThroughDefence]:
    """(options with --eot resolved, what the attacker differentiates): the translator, or that behind the
    purifier that --attack_through names, `self` being `purifier` with its weights.  Raises UserError"""
    if through := _attacked_purifier(options, purifier, weights, device):
        eot = _draws(options, through.name, through.stochastic)
        translator = ThroughDefence(translator, through, options.gradient, eot, options.known_noise)
    else:
        eot = _draws(options, "none", False)
    return dataclasses.replace(options, eot=eot), translator


def _attacked_purifier(
    options, purifier: Purifier, weights: str | None, device: torch.device
) -> Purifier | None:
    """What stands between the attacker and the translator: the defence's own purifier (weights: its file) or
    another, None where there is nothing."""
    asked = through_of(options)
    if asked is None:
        return purifier if options.attack_through == "self" and purifier.name != "none" else None
    own = asked.name == purifier.name
    if own and not asked.params and not options.through_weights:
        return purifier
    file = options.through_weights or (weights if own else weights_of(asked.name, options))
    return purifier_from_flags(options, file, name=options.attack_through, device=device)


def _draws(options, through: str, stochastic: bool) -> int:
    """Draws of the attacked purifier per step.  Raises UserError where there is nothing to draw."""
    noise = [f"--eot {options.eot}"] if (options.eot or 1) > 1 else []
    noise += ["--known_noise"] if options.known_noise else []
    if noise and not stochastic:
        raise UserError(
            f"{noise[0]} is for an attack through a purifier that draws noise, and {through} draws none; drop"
            " the flag"
        )
    if len(noise) > 1:
        raise UserError(f"{noise[0]} averages over noise, which --known_noise knows; drop one of them")
    return options.eot or usual_draws(options.attack_type, stochastic and not options.known_noise)
