"""Measure a disruption against several translators at once: how far their fakes of the protected photos
break, and what the photos lose.

reads   <data_dir>/images_b/ (made by split_dataset.py), the translators, and the attack's weights or
        perturbation
writes  <result_dir>/disruption/<dataset>/<attack>-eps<eps>[-<what dadfi's weights were trained
        on>|-on-<translator>]/NNN/{options.yaml,grid.png,record.json}
        <result_dir>/attacked/<dataset>/   protected photos, a cache that all runs share

  python -m evaluation.disruption --victims stargan=A.safetensors stgan=B.safetensors \\
      --attack_type dadfi --attack_weights weights.safetensors
  python -m evaluation.disruption --victims stargan=A.safetensors stgan=B.safetensors --attack_type pgd \\
      --attack_target clean
  python -m evaluation.disruption --victims stargan=A.safetensors stgan=B.safetensors --attack_type pgd \\
      --attack_target clean --crafted_on stargan
"""

import json
import time
import warnings
from pathlib import Path

import numpy as np

from attacks import GRADIENT
from attacks.flags import add_attack_flags, attack_config, attack_from_flags, short_name
from attacks.joint import JointPGD
from common import checkpoint, cli, distributed, files, images, runs
from common.cli import nearest
from faces.flags import add_data_flags, dataset_name, open_faces
from metrics.fid import load_extractor
from metrics.images import summarise
from metrics.score import Score, score_versions
from models.victims import load_victims, named_file
from pipeline.attacked import AttackedPhotos
from report import record

OWN, ALL = "own", "all"
SIDE = "disrupted"
SHOWN = 6  # photos in grid.png
AMPLIFIED = 10  # times the change of a photo, in grid.png


def parse_args(argv=None):
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
    g.add_argument(
        "--inception_weights",
        default=None,
        metavar="FILE",
        help="standard Inception weights; with them FID and KID are measured",
    )
    g.add_argument(
        "--features",
        choices=["auto", "none"],
        default="auto",
        help="none: measure no distance between sets of fakes",
    )
    add_attack_flags(p, rules=("original", "iterative", "joint"), through=False)
    cli.add_run_flags(p, batch_size=32, limit=True, resume=True)
    args = p.parse_args(argv)
    args.dataset = dataset_name(args)
    names = [text.partition("=")[0] for text in args.victims]
    if args.crafted_on not in (OWN, ALL, *names):
        p.error(
            f"--crafted_on {args.crafted_on}: expected own, all or one of --victims,"
            f" {', '.join(names)}{nearest(args.crafted_on, [OWN, ALL, *names])}"
        )
    if args.crafted_on != OWN and args.attack_type not in GRADIENT:
        p.error(
            f"--crafted_on {args.crafted_on} is for attacks that use a translator, {' '.join(GRADIENT)}; "
            f"{args.attack_type} makes one image for all as it is"
        )
    if args.crafted_on == ALL and (
        args.attack_type,
        args.attack_target,
        args.attack_label,
        args.attack_blur,
    ) != ("pgd", "clean", "iterative", "none"):
        p.error(
            "--crafted_on all is made for --attack_type pgd --attack_target clean --attack_label iterative"
        )
    return args


def sources(args, victims):
    """[(attack, the victim that it works on or None, the victims that its images are tested on)].  Raises
    UserError for flags that do not fit."""
    if args.attack_type not in GRADIENT:
        attack = attack_from_flags(args, None)
        return [(attack, None, victims)]
    if args.crafted_on == OWN:
        return [(attack_from_flags(args, victim.translator), victim, [victim]) for victim in victims]
    if args.crafted_on == ALL:
        return [
            (JointPGD(victims, args.test_noise_var, args.attack_steps, args.attack_step_size), None, victims)
        ]
    (victim,) = [v for v in victims if v.name == args.crafted_on]
    return [(attack_from_flags(args, victim.translator), victim, victims)]


def trained_on(args):
    """What dadfi's weights say of their training, for the record's config and provenance; nulls for any other
    attack."""
    meta = checkpoint.read_weights(args.attack_weights)[1] if args.attack_type == "dadfi" else {}
    victims = meta.get("victims") or []
    tuned = {True: "yes", False: "no"}.get(meta.get("finetuning"))
    variant = meta.get("variant", "without-finetuning" if tuned == "no" else "") or None
    return {
        "trained_on_victims": [v["gan"] for v in victims] or None,
        "finetuning": tuned,
        "variant": variant,
    }, {v["gan"]: v["sha256"] for v in victims} or None


def name_of(args, attack, trained):
    """<attack>-eps<eps>, with the victims of dadfi's training or the one that a gradient attack works on."""
    words = ["+".join(trained["trained_on_victims"])] if trained["trained_on_victims"] else []
    words += [trained["variant"]] if trained["variant"] else []
    words += [f"on-{args.crafted_on}"] if args.crafted_on != OWN else []
    return "-".join([short_name(attack, args), *words])


def measure(score, ctx):
    """(figures of one translator, number of photos): of the fakes of protected photos, with rmse, the root of
    each pair's l2; call on every process."""
    metrics, groups, num_images, num_pairs = score.result(ctx)
    rows, names = score.rows(ctx, SIDE)
    return {
        **metrics[SIDE],
        **summarise({"rmse": np.sqrt(rows["l2"])}, names, score.seed),
        "num_pairs": num_pairs,
        "input": metrics["input"][SIDE],
        "domain": {domain: found[SIDE] for domain, found in groups["domain"].items()},
    }, num_images


def photos_of(scores, ctx, seed):
    """Figures of the protected photos themselves, pooled over the `scores`, one for each image of a photo."""
    parts = [score.rows(ctx, SIDE, of="photos") for score in scores]
    return summarise(
        {k: np.concatenate([rows[k] for rows, _ in parts]) for k in parts[0][0]},
        [name for _, names in parts for name in names],
        seed,
    )


def save_grid(path, faces, crafted, scores, device):
    """Each photo, and for each protected image of it: that image, its change amplified, and each translator's
    fake of both (one domain after the other)."""
    rows = []
    for n, name in enumerate(faces.names[:SHOWN]):
        x, labels = faces.floats([n]).to(device), faces.labels[[n]].to(device)
        row = [x]
        for photos, victims in crafted:
            y = photos.floats([name]).to(device)
            row += [y, AMPLIFIED * (y - x)]
            for victim in victims:
                conditions = victim.conditions(labels)
                row += [scores[victim.name].fakes(image, conditions[n % len(conditions)]) for image in (x, y)]
        rows.append([cell[0].cpu() for cell in row])
    images.save_png(path, images.make_grid(rows))


def main(argv=None):
    args = parse_args(argv)
    with distributed.session(args.device) as ctx:
        files.check_writable(args.result_dir)
        victims, columns = load_victims(args, ctx.device)
        faces = open_faces(args, args.split, columns)
        extractor = (
            load_extractor(args.inception_weights, device=ctx.device) if args.features == "auto" else None
        )
        made_by = sources(args, victims)
        trained, trained_sha256 = trained_on(args)
        ctx.print(json.dumps(runs.options_of(args), indent=2))
        if args.dry_run:
            return
        root, attack = Path(args.result_dir), made_by[0][0]
        name = name_of(args, attack, trained)
        run = runs.open_run(root / "disruption" / args.dataset / name, args, ctx)
        if run.finished:
            ctx.print(f"this run is finished: {run.folder / record.FILE}")
            return
        started = time.strftime("%Y-%m-%dT%H:%M:%S")

        def of(victim):
            return (victim.faces(faces), victim.attributes) if victim else (faces, columns)

        # JointPGD makes each victim's conditions itself
        rule = "original" if args.crafted_on == ALL else args.attack_label
        crafted = [
            (
                AttackedPhotos(
                    attack, rule, *of(source), root / "attacked" / args.dataset, faces.preparation, args.seed
                ),
                tested,
            )
            for attack, source, tested in made_by
        ]
        began = time.perf_counter()
        made = sum(photos.fill(ctx, args.batch_size) for photos, _ in crafted)
        seconds = (time.perf_counter() - began) / made if made else None

        scores = {
            v.name: Score(v.translator, v.attributes, extractor, args.seed, sides=(SIDE,)) for v in victims
        }
        for photos, tested in crafted:
            for victim in tested:
                score_versions(
                    scores[victim.name],
                    victim.faces(faces),
                    {SIDE: [photos.floats]},
                    ctx,
                    args.batch_size,
                    f"score {victim.name}",
                )
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            measured = {victim.name: measure(scores[victim.name], ctx) for victim in victims}
        for text in sorted({str(w.message) for w in caught}):
            ctx.print(f"note: {text}")
        protected = photos_of([scores[tested[0].name] for _, tested in crafted], ctx, args.seed)
        if not ctx.is_main:
            return
        save_grid(run.folder / "grid.png", faces, crafted, scores, ctx.device)
        per_victim = {victim: found for victim, (found, _) in measured.items()}
        worst = min(per_victim, key=lambda victim: per_victim[victim]["l2"])
        config = {
            "translators": list(per_victim),
            **attack_config(args, attack),
            "crafted_on": args.crafted_on if args.attack_type in GRADIENT else None,
            **trained,
            "num_images": measured[worst][1],
            "image_size": args.image_size,
            "skipped": faces.skipped,
        }
        cost = {
            "attack_s_per_image": seconds,
            "peak_memory_mb": distributed.peak_memory_mb(ctx.device),
            "device": str(ctx.device),
        }
        provenance = {
            "commit": runs.commit(),
            "command": runs.command(),
            "versions": runs.versions(),
            "gan_sha256": {v.name: v.translator.sha256 for v in victims},
            "trained_on_sha256": trained_sha256,
            "attacked_key": files.key_of([photos.key for photos, _ in crafted]),
            "started": started,
            "finished": time.strftime("%Y-%m-%dT%H:%M:%S"),
        }
        metrics = {"input": protected, "worst": {"l2": per_victim[worst]["l2"], "translator": worst}}
        found = record.Record(
            "dadfi",
            name,
            args.dataset,
            args.split,
            args.seed,
            config,
            metrics,
            {"translator": per_victim},
            extractor.description if extractor else None,
            cost,
            provenance,
        )
        record.write(run.folder / record.FILE, found)
        ctx.print(summary(found))
        ctx.print(f"record: {run.folder / record.FILE}")


def summary(found):
    def line(name, m):
        return (
            f"{name:15s} l2 {m['l2']:.5f} {m['l2_ci']}, rmse {m['rmse']:.4f}, disrupted pairs"
            f" {m['prop_dist']:.3f}"
        )

    photo = found.metrics["input"]
    return (
        "\n".join(line(name, m) for name, m in found.per_group["translator"].items())
        + f"\nphoto           PSNR {photo['psnr']:.1f} dB, SSIM {photo['ssim']:.3f}, linf"
        f" {photo['linf']:.4f}; the least broken: {found.metrics['worst']['translator']}"
    )


if __name__ == "__main__":
    cli.run(main)
