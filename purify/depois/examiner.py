"""The finders of one seed: critics, classifiers and baselines, made once whatever is examined."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from torch import nn

from attacks.poison.base import Poison, poisoned_rows
from attacks.poison.flags import poison_from_flags
from common import runs
from common.cli import UserError
from common.distributed import Context
from faces.labelled import Labelled
from metrics import finding
from models.depois.classifier import Classifier, accuracy_taught, fit, in_batches
from models.depois.data import Task, content
from models.depois.network import load_mimic
from models.depois.options import changed_losses, critic_options
from models.depois.train import obtain_critic
from purify.depois import outliers
from purify.depois.examined import DetectorSet, open_task
from purify.depois.options import BYPASSES, CRITICS, Options, poison_class
from purify.depois.output import Examination, Verdict

BYPASS_SEED = 1000  # added to the seed of a critic that the attacker trains


@dataclass(frozen=True)
class Finder:
    """What finds poisoned samples: `scores` Labelled -> (N,) float64, higher = cleaner; params, train_s
    (seconds) and weights as in Verdict."""

    scores: Callable[[Labelled], np.ndarray]
    params: dict
    train_s: float | None
    weights: Path | None


class Examiner:
    """The finders of one seed: each trained or fitted once, whatever is examined."""

    def __init__(self, options: Options, seed: int, ctx: Context) -> None:
        self.options, self.seed, self.ctx = options, seed, ctx
        self.finders: dict[str, Finder] = {}
        self.detector = DetectorSet(options, ctx) if options.dataset == "detector" else None

    @cached_property
    def task(self) -> Task:
        """Of a detector's samples all images, made where they are missing."""
        task = (
            self.detector.task(self.seed) if self.detector else open_task(self.options, self.seed, self.ctx)
        )
        finding.check_held(len(task.held), *self.options.rule)
        return task

    def check(self) -> None:
        """Raises UserError for what cannot be examined, and a given critic that does not fit it, before
        anything is trained."""
        _ = self.task
        if self.options.depois_weights:
            self.critic()

    @cached_property
    def trusted_sha256(self) -> str:
        return content(self.task.trusted)

    @cached_property
    def network(self) -> tuple[Classifier, float]:
        """The classifier of the trusted images that all baselines share, and the seconds of its training."""
        began = time.perf_counter()
        return fit(self.task.trusted, self.seed, device=self.ctx.device), time.perf_counter() - began

    @cached_property
    def taught_clean(self) -> float | None:
        """What the examined samples teach before they are poisoned; the same whatever the poison."""
        return self.measure_teaching(self.task.examined)

    def measure_teaching(self, samples: Labelled) -> float | None:
        """See models.depois.classifier.accuracy_taught."""
        return accuracy_taught(samples, self.task.test, self.seed, self.options.judge_steps, self.ctx.device)

    def critic(self, variant: str = "full", seed: int | None = None) -> tuple[nn.Module, Path]:
        """(critic, path of its weights), trained now where there is none.  seed: that of the attacker's own
        critic."""
        examined = self.task.examined
        given = self.options.depois_weights if variant == "full" and seed is None else None
        path = Path(given) if given else self.obtain(variant, self.seed if seed is None else seed)
        critic, meta = load_mimic(path, self.ctx.device, examined.shape, examined.classes)
        if given and meta.get("trusted_sha256") != self.trusted_sha256:
            raise UserError(
                f"{path}: learned from other trusted images than those of seed {self.seed} here, perhaps"
                " from those that set the boundary; give the same data, --trusted_share and seed as in"
                " its training, or train one here"
            )
        return critic, path

    def obtain(self, variant: str, seed: int) -> Path:
        """Weights of a finished training of this variant, trained now where there are none."""
        options, trusted = self.options, self.task.trusted
        critic = critic_options(options, options, variant, seed, len(trusted), self.trusted_sha256)
        return obtain_critic(critic, options.result_dir, trusted, self.ctx) / "weights.safetensors"

    def finder(self, method: str) -> Finder:
        """The finder of options.METHODS, made once."""
        if method not in self.finders:
            make = self._baseline if method in outliers.METHODS else self._depois
            self.finders[method] = make(method)
        return self.finders[method]

    def _baseline(self, method):
        network, seconds = self.network
        began = time.perf_counter()
        fitted = outliers.build(method, self.task.trusted, self.seed, self.ctx.device, network)
        return Finder(fitted.scores, fitted.params, seconds + time.perf_counter() - began, None)

    def _depois(self, method):
        critic, path = self.critic(CRITICS[method][0])

        def scores(labelled):
            values = in_batches(critic, labelled, self.ctx.device, self.options.batch_size)
            return values.numpy().astype(np.float64)

        params = changed_losses(self.options, self.options.dataset)
        return Finder(scores, params, trained_seconds(path), path)

    def poison(self, name: str) -> tuple[Poison | None, np.ndarray]:
        """The poison, None of a clean set, and the rows of the examined set that it hits."""
        options, examined = self.options, self.task.examined
        if name == "disruption":
            return self.detector.disruption(options.poison_rate)
        if name == "unknown":
            return None, np.zeros(0, np.int64)
        rows = poisoned_rows(examined, options.poison_rate if name != "none" else 0.0, self.seed)
        if name == "none":
            return None, rows
        networks = {"device": self.ctx.device}
        if name in BYPASSES:
            critic = self.critic()[0] if name == "bypass" else self.critic(seed=self.seed + BYPASS_SEED)[0]
            networks |= {"critic": critic, "classifier": self.network[0]}
        return poison_from_flags(poison_class(name), options, **networks), rows

    def examine(self, name: str) -> Examination:
        """The examined set with this poison in it, and what each method says of it; of `unknown` samples
        nothing can be measured.

        Raises: UserError for scores that are NaN
        """
        task = self.task
        poison, rows = self.poison(name)
        samples = task.examined if poison is None else poison(task.examined, rows, self.seed)
        verdicts = self.judge(samples)
        known = name != "unknown"
        return Examination(
            name,
            poison,
            task.examined,
            samples,
            np.isin(np.arange(len(samples)), rows) if known else None,
            verdicts,
            self.measure_kept(samples, verdicts) if known else {},
            self.seed,
            len(task.trusted),
            len(task.held),
            self.trusted_sha256,
            self.detector and self.detector.translator.sha256,
        )

    def measure_kept(self, samples: Labelled, verdicts: dict[str, Verdict]) -> dict[str, dict]:
        """{method: {"clean", "poisoned", "kept"}} of measure_teaching."""
        both = {"clean": self.taught_clean, "poisoned": self.measure_teaching(samples)}
        return {
            method: {**both, "kept": self.measure_teaching(samples.subset(np.flatnonzero(~v.dropped)))}
            for method, v in verdicts.items()
        }

    def judge(self, samples: Labelled) -> dict[str, Verdict]:
        """{method: Verdict}.  Raises UserError for scores that are NaN."""
        verdicts = {}
        for method in self.options.methods:
            finder = self.finder(method)
            began = time.perf_counter()
            of_held, of_samples = finder.scores(self.task.held), finder.scores(samples)
            each = (time.perf_counter() - began) / (len(of_held) + len(of_samples))
            try:
                threshold = finding.boundary(of_held, *self.options.rule)
                finding.checked_scores(of_samples)
            except UserError as e:
                raise UserError(f"{method}: {e}") from e
            name = CRITICS[method][1] if method in CRITICS else method
            verdicts[method] = Verdict(
                name, finder.params, of_samples, threshold, finder.train_s, each, finder.weights
            )
        return verdicts


def trained_seconds(weights: Path) -> float | None:
    """Seconds of the training that made the weights, all its parts together; None where its log is not beside
    them."""
    run = runs.Run(weights.parent, weights.name)
    return run.logged_seconds() if (run.folder / "log.jsonl").is_file() else None
