"""What a detector is trained and tested on: split B as the condition has it, the test sets of split C, and
the names of both."""

import dataclasses
from dataclasses import dataclass
from pathlib import Path

from attacks.flags import AttackOptions, ThroughOptions, attack_from_flags, short_name
from common import files, seeds
from common.cli import RunOptions, UserError
from common.distributed import Context
from evaluation.detector_protocol import ProtocolOptions, chosen, load_others, saved_as_jpeg
from faces.celeba import held_out
from faces.flags import open_faces
from metrics import detection
from models.detector.network import CLASSES, takes_imagenet
from models.detector.samples import FAKE, REAL, Samples, join, kept_filter, read_kept, recompressed, sample_id
from models.detector.self_blended import self_blended
from models.flags import gan_name
from pipeline.training_set import TrainingSet, TrainingSetOptions
from purify.base import Purifier
from purify.defences import defence_folder
from purify.flags import PurifierOptions
from purify.trained import load_defence
from purify.trial import known_to_attacker
from report.kinds.detector_words import FILTERED, SELF_BLENDED

OUTSIDE = "outside"  # in place of a base: a detector that was trained elsewhere


@dataclass(frozen=True, kw_only=True)
class DetectorOptions(
    RunOptions, TrainingSetOptions, PurifierOptions, AttackOptions, ThroughOptions, ProtocolOptions
):
    """The values of train_detector.py's flags that its trainings share."""

    condition: str
    poison_rate: float
    kept_names: str | None
    # None of samples alone, and of a detector that was trained elsewhere
    detector: str | None
    weights: str | None
    base: str | None
    epochs: int | None
    lr: float | None
    lr_schedule: str | None
    data_augmentation: str | None
    scores: list[str] | None
    scores_name: str | None
    adv_gan_weights: str | None
    gan_training_data: str | None
    defense_noise: str | None
    test_noise_var: float
    attack_through: str | None
    batch_size: int | None
    limit: int | None
    resume: str | None
    training_fakes: str


def of_seed(options: DetectorOptions, seed: int, /, **more: object) -> object:
    """The options of one training, frozen: what the others share, its own seed, and `more`."""
    values = {k: v for k, v in vars(options).items() if k != "seeds"} | {"training_seed": seed, **more}
    return dataclasses.make_dataclass("SeedOptions", [(k, object) for k in values], frozen=True)(**values)


class Stage:
    """Split B as the condition has it, and the test sets of split C; all images from the shared caches."""

    def __init__(self, options: DetectorOptions, ctx: Context) -> None:
        self.ctx = ctx
        purifier, weights, standard, translator = load_defence(options, ctx)
        self.purifier, self.standard, self.translator = purifier, standard, translator
        options, attacked = known_to_attacker(options, purifier, weights, standard, ctx.device)
        # what the defaults of the purifier came to
        self.options = options = dataclasses.replace(
            options, defense_weights=weights, ddpm_start_num=purifier.params.get("start")
        )
        self.b, self.c = open_faces(options, "b"), open_faces(options, "c")
        shared = sorted(set(self.b.names) & set(self.c.names))
        if shared:
            raise UserError(
                f"{self.c.folder}: {len(shared)} of its photos are also in {self.b.folder} ({shared[0]},"
                " ...); a test set shares no photo with the training set: split again"
            )
        detection.check_test_size(len(self.c))
        self.attack = attack_from_flags(options, attacked)
        mixed = load_others("--train_gan", options.train_gan, options, ctx.device, whole=True)
        makers = [(options, self.translator), *((o.options(options), o.translator) for o in mixed)]
        # the photos as a detector's maker has them, with the fakes of each translator
        self.scraped = [TrainingSet(o, ctx, self.b, by, self.attack, self.purifier) for o, by in makers]
        self.others = load_others("--test_gan", options.test_gan, options, ctx.device)
        self.judged = TrainingSet(options, ctx, self.c, self.standard, self.attack, self.purifier)
        # a rate that comes to no photo is told before any work
        self.scraped[0].disrupted(options.poison_rate)
        self.kept = read_kept(options.kept_names, self.b.names) if options.kept_names else None
        # another list under the same name is another training
        self.kept_sha256 = files.sha256(options.kept_names) if options.kept_names else None
        self.kept_filter = kept_filter(options.kept_names) if options.kept_names else None
        self.parts = self._parts()

    def _parts(self) -> list[set[str]]:
        """(training, validation): sets of sample ids, whole photos apart.  Raises UserError where one of them
        lacks a class."""
        parts = []
        for names in held_out(self.b.names, self.options.seed):
            ids = chosen(self.options, names, self.options.seed)
            parts.append(ids if self.kept is None else ids & self.kept)
            count = {c: sum(i.startswith(c + "/") for i in parts[-1]) for c in CLASSES}
            if not all(count.values()):
                what = "training set" if len(parts) == 1 else "validation part of it"
                raise UserError(
                    f"{self.b.folder}: the {what} holds {count['real']} real photos and {count['fake']}"
                    " fakes, expected both; "
                    + (
                        f"{self.options.kept_names} keeps too little"
                        if self.kept is not None
                        else "give more photos, or a higher --limit"
                    )
                )
        return parts

    @property
    def attacked_key(self) -> str | None:
        return self.judged.attacked_key

    @property
    def attacked_through(self) -> str | None:
        """The purifier that the attacker knows, as folders of runs call it."""
        return self.attack.defence.purifier.folder_name if self.attack.defence else None

    def training(self) -> list[Samples]:
        """(training, validation): Samples of B.  Photos of which no sample is left are not made; each photo's
        fake is by one of the translators, drawn from its name."""
        options, left = self.options, set().union(*self.parts)
        names = [n for n in self.b.names if not left.isdisjoint({sample_id(n, REAL), sample_id(n, FAKE)})]
        shares = [[] for _ in self.scraped]
        for name in names:
            shares[seeds.derive(options.seed, "translator", name) % len(shares)].append(name)
        whole = join(
            [
                self._samples(made_by, set(share))
                for made_by, share in zip(self.scraped, shares, strict=True)
                if share
            ]
        )
        if options.recompress_training:
            whole = recompressed(whole, options.recompress_training)
        return [whole.subset([i for i, one in enumerate(whole.ids) if one in part]) for part in self.parts]

    def _samples(self, made_by, only):
        """Photos and fakes of some of B, these by the translator or of the photos alone."""
        options = self.options
        rate, purified = options.poison_rate, options.condition == "purified"
        if options.training_fakes != SELF_BLENDED:
            return made_by.samples(rate, purified, only)
        photos = made_by.samples(rate, purified, only, fakes=False)
        return join([photos, self_blended(photos, options.seed)])

    def _photos_with(self, attributes):
        """The photos of C with these labels alone."""
        if attributes == list(self.options.selected_attrs):
            return self.c
        return open_faces(self.options, "c", attributes)

    def tests(self) -> dict[str, Samples]:
        """{"clean", "disrupted", "purified"}: Samples of C; the last two where there is an attack, and a
        purifier. Then those of detector_protocol, clean photos all of them: by other translators, saved as
        JPEG."""
        sets = {"clean": self.judged.samples()}
        other = {
            o.name: TrainingSet(
                o.options(self.options), self.ctx, self._photos_with(o.attributes), o.translator
            ).samples()
            for o in self.others
        }
        other |= saved_as_jpeg({"clean": sets["clean"], **other}, self.options.recompress)
        disrupted = float(self.options.attack_type != "none")
        if disrupted:
            sets["disrupted"] = self.judged.samples(1.0)
        if self.purifier.name != "none":
            sets["purified"] = self.judged.samples(disrupted, purified=True)
        return sets | other


def condition_name(options: DetectorOptions, purifier: Purifier) -> str:
    """clean, disrupted or filtered; of purified photos the purifier's folder name, with +filtered where
    samples were dropped before."""
    if options.condition != "purified":
        return options.condition
    return defence_folder(options.defense_model_type, purifier) + (FILTERED if options.kept_names else "")


def training_ending(options: DetectorOptions) -> str:
    """What folders add to the detector's name where its training set is not the usual one."""
    gans = "".join(f"+{word.partition('=')[0]}" for word in options.train_gan)
    quality, balance = options.recompress_training, (options.balance or "").replace(":", "to")
    return (
        gans
        + (f"-jpeg{quality}" if quality else "")
        + ("-unpaired" if options.unpaired else "")
        + (f"-{balance}" if balance else "")
    )


def run_folder(options: DetectorOptions, stage: Stage, seed: int) -> Path:
    """.../<detector>/<condition>/<attack>-eps<eps>[-rate<r>]/seed<s>, the base told where it is not the usual
    one, and fakes that no translator makes behind the condition."""
    usual = {
        "frozen": "",
        "finetuned": "-finetuned",
        "layernorm": "-layernorm",
        OUTSIDE: "-outside",
        "scratch": "-scratch" if options.base == "scratch" and takes_imagenet(options.detector) else "",
    }
    name, rate = condition_name(options, stage.purifier), options.poison_rate
    through = stage.attacked_through
    attack = (
        short_name(stage.attack, options)
        + (f"-through-{through}" if through else "")
        + (f"-rate{rate:g}" if options.condition != "clean" and rate != 1 else "")
    )
    return (
        Path(options.result_dir)
        / "detector"
        / options.dataset
        / gan_name(options)
        / (options.detector + usual[options.base] + training_ending(options))
        / (name + (f"-{SELF_BLENDED}" if options.training_fakes == SELF_BLENDED else ""))
        / attack
        / f"seed{seed}"
    )
