"""Measure a disruption against several translators at once: how far their fakes of the protected photos
break, and what the photos lose.

reads   <data_dir>/images_b/ (made by split_dataset.py), the translators, and the attack's weights or
        perturbation
writes  <result_dir>/disruption/<dataset>/<attack>-eps<eps>[-<victims>|-on-<translator>]/NNN/
        {options.yaml,grid.png,record.json}     <victims>: what dadfi's weights were trained on
        <result_dir>/attacked/<dataset>/        protected photos, a cache that all runs share

  python -m evaluation.disruption --victims stargan=A.safetensors stgan=B.safetensors \\
      --attack_type dadfi --attack_weights weights.safetensors
  python -m evaluation.disruption --victims stargan=A.safetensors stgan=B.safetensors --attack_type pgd \\
      --attack_target clean
  python -m evaluation.disruption --victims stargan=A.safetensors stgan=B.safetensors --attack_type pgd \\
      --attack_target clean --crafted_on stargan
"""

import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch

import attacks
from attacks.base import Attack
from attacks.flags import AttackOptions, add_attack_flags, attack_config, attack_from_flags, short_name
from attacks.joint import JointPGD
from common import checkpoint, cli, compiling, distributed, files, runs
from common.batch import PhotosAtATime
from common.cli import RunOptions
from common.distributed import Context
from common.errors import nearest
from evaluation.disruption_output import save_grid, summary
from faces.celeba import FaceFolder
from faces.flags import DataOptions, add_data_flags, dataset_name, open_faces
from metrics.flags import MeasureOptions, add_measure_flags
from metrics.images import summarise
from metrics.score import Score, score_versions
from models.victims import Victim, load_victims, named_file
from pipeline.attacked import AttackedPhotos, disrupt_some
from report import record

OWN, ALL = "own", "all"
SIDE = "disrupted"


@dataclass(frozen=True, kw_only=True)
class Options(RunOptions, DataOptions, MeasureOptions, AttackOptions):
    """The values of parse_args."""

    limit: int | None
    resume: str | None
    batch_size: int | str
    precision: str
    split: str
    victims: list[str]
    crafted_on: str
    test_noise_var: float

    @property
    def works_on_translators(self) -> bool:
        """Whether the attack has an image for each translator, or for one of them."""
        return self.attack_type not in attacks.WITHOUT_TRANSLATOR


def parse_args(argv: list[str] | None = None) -> Options:
    p = cli.ArgumentParser(prog="evaluation.disruption", description=__doc__)
    g = add_data_flags(p, "b")
    g.add_argument(
        "--split",
        choices=["b", "c"],
        default="b",
        help="which photos; neither purifiers nor perturbation generators are trained on them",
    )
    g = p.add_argument_group("translators and features")
    g.add_argument(
        "--victims",
        type=named_file,
        nargs="+",
        required=True,
        metavar="NAME=FILE",
        help=(
            "translators that the photos are tested on, stargan=FILE stgan=FILE starganv2=FILE; all of one"
            " image size"
        ),
    )
    g.add_argument(
        "--crafted_on",
        default=OWN,
        metavar="own|all|NAME",
        help=(
            "fgsm bim pgd mim: own = an image for each translator, made on it, the upper bound; NAME = one"
            " image for all, made on that translator; all = one image made on all of them at once (pgd"
            " --attack_target clean --attack_label iterative)"
        ),
    )
    add_measure_flags(g)
    add_attack_flags(p, rules=("original", "iterative", "joint"), through=False)
    cli.add_run_flags(p, batch_size=32, auto=True, limit=True, resume=True)
    args = p.parse_args(argv)
    options = cli.resolve(Options, args, dataset=dataset_name(args))
    check(p, options)
    return options


def check(p: cli.ArgumentParser, options: Options) -> None:
    """Raises UserError for a --crafted_on that does not fit."""
    names = [text.partition("=")[0] for text in options.victims]
    if options.crafted_on not in (OWN, ALL, *names):
        p.error(
            f"--crafted_on {options.crafted_on}: expected own, all or one of --victims,"
            f" {', '.join(names)}{nearest(options.crafted_on, [OWN, ALL, *names])}"
        )
    if options.crafted_on != OWN and not options.works_on_translators:
        using = [name for name in attacks.ATTACKS if name not in attacks.WITHOUT_TRANSLATOR]
        p.error(
            f"--crafted_on {options.crafted_on} is for attacks that use a translator, {' '.join(using)}; "
            f"{options.attack_type} makes one image for all as it is"
        )
    if options.crafted_on == ALL and (
        options.attack_type,
        options.attack_target,
        options.attack_label,
        options.attack_blur,
        options.attack_jpeg,
    ) != ("pgd", "clean", "iterative", "none", None):
        p.error(
            "--crafted_on all is made for --attack_type pgd --attack_target clean --attack_label iterative"
        )


def sources(
    options: Options, victims: Sequence[Victim]
) -> list[tuple[Attack, Victim | None, Sequence[Victim]]]:
    """[(attack, the victim that it works on or None, the victims that its images are tested on)].  Raises
    UserError for flags that do not fit."""
    if not options.works_on_translators:
        attack = attack_from_flags(options, None)
        return [(attack, None, victims)]
    if options.crafted_on == OWN:
        return [(attack_from_flags(options, victim.translator), victim, [victim]) for victim in victims]
    if options.crafted_on == ALL:
        return [
            (
                JointPGD(victims, options.test_noise_var, options.attack_steps, options.attack_step_size),
                None,
                victims,
            )
        ]
    (victim,) = [v for v in victims if v.name == options.crafted_on]
    return [(attack_from_flags(options, victim.translator), victim, victims)]


def trained_on(attack_weights: str | None) -> tuple[dict, dict | None]:
    """What dadfi's weights say of their training, for config and provenance; nulls of other attacks."""
    meta = {} if attack_weights is None else checkpoint.read_weights(attack_weights)[1]
    victims = meta.get("victims") or []
    tuned = {True: "yes", False: "no"}.get(meta.get("finetuning"))
    variant = meta.get("variant", "without-finetuning" if tuned == "no" else "") or None
    return {
        "trained_on_victims": [v["gan"] for v in victims] or None,
        "finetuning": tuned,
        "variant": variant,
    }, {v["gan"]: v["sha256"] for v in victims} or None


def name_of(options: Options, attack: Attack, trained: dict) -> str:
    """<attack>-eps<eps>, with the victims of dadfi's training or the one that a gradient attack works on."""
    words = ["+".join(trained["trained_on_victims"])] if trained["trained_on_victims"] else []
    words += [trained["variant"]] if trained["variant"] else []
    words += [f"on-{options.crafted_on}"] if options.crafted_on != OWN else []
    return "-".join([short_name(attack, options), *words])


def measure(score: Score, ctx: Context) -> tuple[dict, int]:
    """(figures of one translator, rmse of each pair among them; number of photos); call on every process."""
    metrics, groups, num_images, num_pairs = score.result(ctx)
    rows, names = score.rows(ctx, SIDE)
    return {
        **metrics[SIDE],
        **summarise({"rmse": np.sqrt(rows["l2"])}, names, score.seed),
        "num_pairs": num_pairs,
        "input": metrics["input"][SIDE],
        "domain": {domain: figures[SIDE] for domain, figures in groups["domain"].items()},
    }, num_images


def photos_of(scores: Sequence[Score], ctx: Context, seed: int) -> dict:
    """Figures of the protected photos themselves, pooled over the `scores`, one for each image of a photo."""
    parts = [score.rows(ctx, SIDE, of="photos") for score in scores]
    return summarise(
        {k: np.concatenate([rows[k] for rows, _ in parts]) for k in parts[0][0]},
        [name for _, names in parts for name in names],
        seed,
    )


def rehearse(
    crafted: Sequence[tuple[AttackedPhotos, Sequence[Victim]]],
    faces: FaceFolder,
    score_of: Callable[[Victim], Score],
    ctx: Context,
    count: int,
) -> None:
    """All that is done to photos, done to the first `count` of them: nothing of it is kept."""
    alone = Context(0, 1, ctx.device)
    for photos, tested in crafted:
        some, _, y = disrupt_some(
            photos.attack, photos.rule, photos.faces, photos.attributes, photos.seed, count, ctx.device
        )
        found = dict(zip(some.names, y.cpu(), strict=True))
        for victim in tested:
            part = victim.faces(faces.subset(some.names))
            source = [lambda names, found=found: torch.stack([found[name] for name in names])]
            score_versions(score_of(victim), part, {SIDE: source}, alone, count)


def main(argv: list[str] | None = None) -> None:
    options = parse_args(argv)
    with distributed.session(options.device) as ctx:
        files.check_writable(options.result_dir)
        victims, columns = load_victims(
            options.victims, options.selected_attrs, options.image_size, options.precision, ctx.device
        )
        faces = open_faces(options, options.split, columns)
        extractor = options.extractor(ctx.device)
        made_by = sources(options, victims)
        trained, trained_sha256 = trained_on(options.attack_weights)
        root, attack = Path(options.result_dir), made_by[0][0]
        name = name_of(options, attack, trained)
        run = runs.begin(options, ctx, root / "disruption" / options.dataset / name)
        if run is None:
            return

        def of(victim):
            return (victim.faces(faces), victim.attributes) if victim else (faces, columns)

        # JointPGD makes each victim's conditions itself
        cache = root / "attacked" / options.dataset
        rule = "original" if options.crafted_on == ALL else options.attack_label
        crafted = [
            (AttackedPhotos(attack, rule, *of(source), cache, faces.preparation, options.seed), tested)
            for attack, source, tested in made_by
        ]

        def score_of(victim):
            known = (victim.translator, victim.attributes, extractor, options.seed)
            return Score(*known, sides=(SIDE,), ssim=options.ssim == "fakes")

        def work(size):
            calls = len(faces) / size / ctx.world * options.attack_steps
            compiling.fix([victim.translator for victim in victims], options.compile, ctx, size, calls)
            began = time.perf_counter()
            num_attacked = sum(photos.fill(ctx, size) for photos, _ in crafted)
            seconds = (time.perf_counter() - began) / num_attacked if num_attacked else None
            scores = {victim.name: score_of(victim) for victim in victims}
            for photos, tested in crafted:
                for victim in tested:
                    own, versions = victim.faces(faces), {SIDE: [photos.floats]}
                    score_versions(scores[victim.name], own, versions, ctx, size, f"score {victim.name}")
            return size, seconds, scores

        at_a_time = PhotosAtATime(options.batch_size, -(-len(faces) // ctx.world), options.image_size**2)
        tried = partial(rehearse, crafted, faces, score_of, ctx)
        size, seconds, scores = at_a_time.run(ctx, tried, work)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            measured = {victim.name: measure(scores[victim.name], ctx) for victim in victims}
        for text in sorted({str(w.message) for w in caught}):
            ctx.print(f"note: {text}")
        protected = photos_of([scores[tested[0].name] for _, tested in crafted], ctx, options.seed)
        if not ctx.is_main:
            return
        save_grid(run.folder / "grid.png", faces, crafted, scores, ctx.device)
        per_victim = {victim: figures for victim, (figures, _) in measured.items()}
        worst = min(per_victim, key=lambda victim: per_victim[victim]["l2"])
        config = {
            "translators": list(per_victim),
            **attack_config(options, attack),
            "crafted_on": options.crafted_on if options.works_on_translators else None,
            **trained,
            "num_images": measured[worst][1],
            "image_size": options.image_size,
            "skipped": faces.skipped,
        }
        cost = {
            "attack_s_per_image": seconds,
            "peak_memory_mb": distributed.peak_memory_mb(ctx.device),
            "photos_at_a_time": size,
            "device": str(ctx.device),
        }
        provenance = runs.provenance(
            run.started,
            gan_sha256={v.name: v.translator.sha256 for v in victims},
            trained_on_sha256=trained_sha256,
            attacked_key=files.key_of([photos.key for photos, _ in crafted]),
        )
        metrics = {"input": protected, "worst": {"l2": per_victim[worst]["l2"], "translator": worst}}
        result = record.Record(
            "dadfi",
            name,
            options.dataset,
            options.split,
            options.seed,
            config,
            metrics,
            {"translator": per_victim},
            extractor.description if extractor else None,
            cost,
            provenance,
        )
        record.write(run.folder / record.FILE, result)
        ctx.print(summary(result))
        ctx.print(f"record: {run.folder / record.FILE}")


if __name__ == "__main__":
    cli.run(main)
