"""What models.detector.export is handed: the flags of train_detector.py that decide samples, and the
samples."""

from dataclasses import dataclass

from common import cli, runs
from common.distributed import Context
from evaluation.detector_flags import OTHERS, TRAINING, Options, add_flags, resolve
from evaluation.detector_stage import Stage
from faces.flags import open_faces
from models.detector.export import OWN, ExportOptions, Source, resolve_export
from pipeline.training_set import TrainingSet


@dataclass(frozen=True, kw_only=True)
class ExportedOptions(Options, ExportOptions):
    """What the flags of the export say, resolved."""


def parse(p: cli.ArgumentParser, argv: list[str] | None) -> ExportedOptions:
    """The options of a parser that has the export's own flags."""
    add_flags(p, network=False)
    parsed = p.parse_args(argv)
    vars(parsed).update(resolve_export(p, parsed.output, parsed.name, parsed.frames_root))
    return resolve(p, parsed, ExportedOptions, network=False)


def open_source(options: ExportedOptions, ctx: Context) -> Source:
    """The Source of train_detector.py's samples.  Raises: UserError as train_detector.py does"""
    stage = Stage(options, ctx)
    trusted = open_faces(options, "a") if options.trusted else None

    def make():
        sets = dict(zip(("training", "validation"), stage.training(), strict=True)) | stage.tests()
        if trusted is not None:
            sets["trusted"] = TrainingSet(options, ctx, trusted, stage.translator).samples()
        return sets

    counts = dict(zip(("training", "validation"), map(len, stage.parts), strict=True))
    counts["each test set"] = 2 * len(stage.c)
    if trusted is not None:
        counts["trusted"] = 2 * len(trusted)
    values = runs.options_of(stage.options).items()
    left_out = {*runs.MAY_CHANGE, *TRAINING, *OTHERS, *OWN}
    return Source({k: v for k, v in values if k not in left_out}, counts, make)
