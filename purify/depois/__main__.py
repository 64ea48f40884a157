"""Find and drop poisoned training samples with De-Pois (Chen et al. 2021): a critic that learned from a small
trusted set says which samples are clean.

reads   what --dataset names, see below; critics that were trained before by the same options (others are
        trained now)
writes  <result_dir>/depois/<dataset>/train/<variant>/NNN/
        a critic for each seed, see python -m models.depois.train
        <result_dir>/depois/<dataset>/examined/<poison>[-rate<r>]/seed<s>/NNN/
        {options.yaml,scores.csv,found.png,<method>/{kept.txt,record.json}}
        every sample's score and verdict, the names to keep

Two uses. (1) A test: put a poison into a share of clean samples, and see who finds it; De-Pois, its ablations
and the baselines that one would try first.

  python -m purify.depois --dataset digits
  python -m purify.depois --dataset mnist --data_root /path/to/mnist --poison label-flip blend \\
      --poison_rate 0.1 --methods de-pois loss
  python -m purify.depois --dataset detector --data_dir dataset/CelebA --gan_weights 200000-G.ckpt \\
      --poison disruption --poison_rate 0.5 --seeds 0 --methods de-pois --kept_names kept-rate0.5.txt

The last writes what train_detector.py --condition filtered --poison_rate 0.5 --kept_names kept-rate0.5.txt
keeps of split B with half of its photos disrupted; give both the same flags of photos, translator and attack.

(2) A filter: samples of which nobody knows which are poisoned. Both folders hold a folder of images for each
class; nothing is measured.

  python -m purify.depois --dataset folder --input scraped --trusted known_good --seeds 0 \\
      --kept_names kept.txt

A sample is dropped where its score is at or below the boundary, which held-out trusted samples set: their
quantile --clean_quantile, the share of clean samples that is dropped wrongly, or their mean - z std
(published: z = 1, which would drop 16 % of clean samples if scores were Gaussian).
"""

from pathlib import Path

from common import cli, distributed, files, runs
from common.cli import UserError
from models.depois.data import content
from purify.depois import options as flags
from purify.depois.examiner import Examiner
from purify.depois.options import Options, options_of_examination
from purify.depois.output import write_output


def parse_args(argv: list[str] | None = None) -> Options:
    p = cli.ArgumentParser(prog="python -m purify.depois", description=__doc__)
    flags.add_flags(p)
    return flags.resolve(p, p.parse_args(argv))


def folder_of(options: Options, name: str, seed: int) -> Path:
    """.../examined/<poison>[-rate<r>]/seed<s>"""
    kind = name if name in ("none", "unknown") else f"{name}-rate{options.poison_rate:g}"
    return Path(options.result_dir) / "depois" / options.dataset_name / "examined" / kind / f"seed{seed}"


def run_examination(options: Options, name: str, examiner: Examiner, ctx: distributed.Context) -> runs.Run:
    """The finished run of one poison and one seed, made now where there is none.

    Args: name  of the poison, `none`, or `unknown` where nobody knows which samples are poisoned
    """
    sha256 = examiner.trusted_sha256[:16] + content(examiner.task.examined)[:16]
    own = options_of_examination(options, name, examiner.seed, sha256)
    run = runs.open_run(folder_of(options, name, examiner.seed), own, ctx, "scores.csv")
    if run.finished:
        ctx.print(f"this run is finished: {run.folder}")
    else:
        write_output(run, options, examiner.examine(name), ctx)
    return run


def main(argv: list[str] | None = None) -> None:
    options = parse_args(argv)
    with distributed.session(options.device) as ctx:
        files.check_writable(options.result_dir)
        if ctx.world > 1:
            raise UserError("De-Pois runs in one process; start the command without torchrun (GPUS=1)")
        first = Examiner(options, options.seeds[0], ctx)
        if first.detector is None or not options.dry_run:
            first.check()
        runs.show(options, ctx)
        if options.dry_run:
            return
        if options.kept_names:
            files.check_writable(Path(options.kept_names).parent)
        for seed in options.seeds:
            examiner = first if seed == options.seeds[0] else Examiner(options, seed, ctx)
            for name in options.poison or ["unknown"]:
                run = run_examination(options, name, examiner, ctx)
                if options.kept_names:
                    files.make_folder(Path(options.kept_names).parent)
                    kept = (run.folder / options.methods[0] / "kept.txt").read_bytes()
                    files.write_atomic(options.kept_names, kept)
                    ctx.print(f"names to keep: {options.kept_names}")


if __name__ == "__main__":
    cli.run(main)
