"""Train one detector for a fixed number of epochs (called by train_detector.py, one process per seed)."""

from dataclasses import dataclass, field

import numpy as np
import torch
import torch.nn.functional as F

from common import checkpoint, distributed, seeds, training
from common.distributed import Context, to_device
from common.runs import Run
from faces.loader import Batches
from models.detector.network import Detector, probabilities
from models.detector.samples import Samples

STAGES = ((3, 1.0), (16, 0.1), (None, 0.01))  # the tutorial's: epochs 0-2, 3-15 and from 16


def learning_rate(schedule: str, lr: float, epoch: int, epochs: int) -> float:
    """`tutorial`: lr, a tenth of it from epoch 3, a hundredth from 16; `linear`: from lr towards 0, constant
    within an epoch."""
    if schedule == "linear":
        return lr * (1 - epoch / epochs)
    return lr * next(factor for end, factor in STAGES if end is None or epoch < end)


@dataclass
class Epoch:
    """Sums over the samples of the epoch in progress; part of the saved state, so that a resumed run logs
    what it would have logged."""

    sums: torch.Tensor = field(default_factory=lambda: torch.zeros(3))  # loss, right answers, samples

    def state_dict(self) -> dict[str, torch.Tensor]:
        return {"sums": self.sums}

    def load_state_dict(self, state: dict[str, torch.Tensor]) -> None:
        self.sums = state["sums"].to(self.sums.device)


@torch.no_grad()
def features_of(
    detector: Detector, samples: Samples, batch_size: int, device: torch.device | str, mirror: bool = False
) -> torch.Tensor:
    """A frozen base's features of every image, or of its mirror image, (N, num_features) on the device."""
    detector.eval()
    return torch.cat(
        [detector.features((x.flip(-1) if mirror else x).to(device)) for x in samples.batches(batch_size)]
    )


def both_ways(
    detector: Detector, samples: Samples, batch_size: int, device: torch.device | str
) -> torch.Tensor:
    """features_of every image and of its mirror image, (N, 2, num_features) on the device."""
    return torch.stack(
        [features_of(detector, samples, batch_size, device, mirror) for mirror in (False, True)], 1
    )


def steps_per_epoch(count: int, batch_size: int) -> int:
    return -(-count // batch_size)


def train(
    options: training.TrainingOptions,
    run: Run,
    ctx: Context,
    detector: Detector,
    samples: Samples,
    validation: Samples,
    meta: dict,
    features: dict[str, torch.Tensor] | None = None,
) -> None:
    """Minimise the cross-entropy of real and fake; the weights of the last epoch stay, nothing is selected.

    Args:   options   frozen: epochs, batch_size, lr, lr_schedule, seed, precision, data_augmentation;
                      num_steps, save_step and log_step, all of an epoch's steps
            detector  models.detector.network.Detector on ctx.device;  samples, validation
                      models.detector.samples.Samples
            features  of a frozen base, where they are known: {"training": (N, 2, D) of both_ways,
                      "validation": (M, D) of features_of}
    Writes: run.folder / log.jsonl: a line for each epoch's training and one for its validation; last.pt,
    weights.safetensors
    """
    frozen, steps = detector.base == "frozen", options.save_step
    if frozen:
        known = features or {
            "training": both_ways(detector, samples, options.batch_size, ctx.device),
            "validation": features_of(detector, validation, options.batch_size, ctx.device),
        }
        features, judged = known["training"], known["validation"]
    learned = detector.head if frozen else detector
    learns = [p for p in learned.parameters() if p.requires_grad]
    optimiser = torch.optim.Adam(learns, options.lr, fused=ctx.device.type == "cuda")
    batches, epoch = (
        Batches(samples, options.batch_size, options.seed, ctx, flip=False),
        Epoch(torch.zeros(3, device=ctx.device)),
    )
    labels = samples.labels.to(ctx.device)

    def logits_of(places, rows, mirrored):
        """Of the samples at `rows`; places: on the CPU."""
        if frozen:
            return detector.head(features[rows, to_device(mirrored.long(), ctx.device)])
        x = samples.floats(places)
        x[mirrored] = x[mirrored].flip(-1)
        return detector(to_device(x, ctx.device))

    def step(i):
        detector.train()
        places, positions = batches.rows(i), batches.positions(i)
        rows = to_device(places, ctx.device)
        mirrored = (
            batches.mirrored(positions)
            if options.data_augmentation == "flip"
            else torch.zeros(len(rows), dtype=torch.bool)
        )
        with torch.random.fork_rng(devices=[ctx.device] if ctx.device.type == "cuda" else []):
            torch.manual_seed(seeds.derive(options.seed, "dropout", i))
            with distributed.autocast(ctx.device, options.precision):
                logits = logits_of(places, rows, mirrored)
        target = labels[rows]
        loss = F.cross_entropy(logits.float(), target)
        rate = learning_rate(options.lr_schedule, options.lr, i // steps, options.epochs)
        training.descend(loss, learned, optimiser, rate, ctx)
        if i % steps == 0:
            epoch.sums.zero_()
        right = (logits.detach().argmax(1) == target).sum()
        epoch.sums += torch.stack([loss.detach() * len(rows), right, torch.full_like(right, len(rows))])
        return {
            "loss": epoch.sums[0] / epoch.sums[2],
            "accuracy": epoch.sums[1] / epoch.sums[2],
            "lr": rate,
            "epoch": i // steps,
        }

    @torch.no_grad()
    def on_save(done):
        detector.eval()
        if frozen:
            logits = detector.head(judged)
        else:
            logits = torch.cat([detector(x.to(ctx.device)) for x in validation.batches(options.batch_size)])
        target = validation.labels.to(ctx.device)
        return {
            "val_loss": float(F.cross_entropy(logits.float(), target)),
            "val_accuracy": float((logits.argmax(1) == target).double().mean()),
        }

    training.loop(
        run,
        options,
        ctx,
        {"network": learned, "optimiser": optimiser, "epoch": epoch},
        step,
        on_save,
        f"{detector.name} seed {options.seed}",
    )
    checkpoint.save_weights(run.folder / "weights.safetensors", detector.state_dict(), meta)


def history(run: Run) -> list[dict]:
    """[{"epoch", "loss", "accuracy", "lr", "val_loss", "val_accuracy", "seconds"}] of a run's log.jsonl, by
    epoch."""
    epochs = {}
    for values in run.logged():
        epochs.setdefault(values.pop("step"), {}).update(values)
    return [
        {**values, "epoch": int(values["epoch"])} for _, values in sorted(epochs.items()) if "epoch" in values
    ]


def score(
    detector: Detector,
    samples: Samples,
    batch_size: int,
    device: torch.device | str,
    features: torch.Tensor | None = None,
) -> np.ndarray:
    """Probability of fake of every image, (N,) float64 array; from the features of a frozen base where they
    are known."""
    if features is not None:
        return probabilities(detector.head, [features], device).numpy()
    return probabilities(detector, samples.batches(batch_size), device).numpy()
