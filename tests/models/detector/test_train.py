"""The trainer of detectors: it learns, forgets nothing when it is stopped, mirrors what it was asked to
mirror and no more."""

import json
import os
import signal
from argparse import Namespace

import numpy as np
import pytest
import torch

from common import checkpoint, runs, seeds
from common.distributed import Context
from faces.loader import Batches
from models.detector import train
from models.detector.network import Detector, load_detector, probabilities
from models.detector.samples import Samples, join

CPU = Context(0, 1, torch.device("cpu"))


def noise(n, seed):
    """n photos and a fake of each, (32, 32) grey noise that no mirror maps to itself; fakes are brighter."""
    rng, names = np.random.default_rng(seed), [f"{seed}{i:03d}.png" for i in range(n)]
    real, fake = (rng.integers(low, low + 100, (n, 32, 32, 3), dtype=np.uint8) for low in (20, 130))
    return join(
        [
            Samples(names, [None] * n, torch.zeros(n, dtype=torch.int64), real),
            Samples(names, ["Male"] * n, torch.ones(n, dtype=torch.int64), fake),
        ]
    )


@pytest.fixture(scope="module")
def sets():
    """20 images to train on, 5 steps an epoch of batch size 4; 6 to validate."""
    return noise(10, 1), noise(3, 2)


def options(epochs=3, **changes):
    steps = train.steps_per_epoch(20, changes.get("batch_size", 4))
    return Namespace(
        **{
            "epochs": epochs,
            "batch_size": 4,
            "lr": 0.01,
            "lr_schedule": "linear",
            "seed": 0,
            "precision": "fp32",
            "data_augmentation": "flip",
            "num_steps": steps * epochs,
            "save_step": steps,
            "log_step": steps,
            "resume": None,
            **changes,
        }
    )


def detector(init=0, name="meso4", base="scratch"):
    with torch.random.fork_rng():
        torch.manual_seed(init)
        return Detector(name, 32, base)


def fit(parent, sets, net=None, **changes):
    """Train in the next folder below `parent`.  Returns the run."""
    args, net = options(**changes), net or detector()
    run = runs.open_run(parent, args, CPU, "weights.safetensors")
    train.train(args, run, CPU, net, *sets, {"kind": "detector", "options": net.options})
    return run


def weights(run):
    return (run.folder / "weights.safetensors").read_bytes()


def history(run):
    """Without the seconds, which differ from run to run."""
    return [{k: v for k, v in row.items() if k != "seconds"} for row in train.history(run)]


def test_the_tutorials_learning_rate():
    rates = {epoch: train.learning_rate("tutorial", 1e-3, epoch, 20) for epoch in (0, 2, 3, 15, 16, 19)}
    assert rates == pytest.approx({0: 1e-3, 2: 1e-3, 3: 1e-4, 15: 1e-4, 16: 1e-5, 19: 1e-5})


def test_the_linear_learning_rate():
    assert [train.learning_rate("linear", 0.01, epoch, 4) for epoch in range(4)] == pytest.approx(
        [0.01, 0.0075, 0.005, 0.0025]
    )


@pytest.mark.parametrize("count, batch_size, steps", [(20, 4, 5), (21, 4, 6), (3, 8, 1)])
def test_an_epoch_covers_all_samples(count, batch_size, steps):
    assert train.steps_per_epoch(count, batch_size) == steps


def test_it_learns_which_images_are_fakes(tmp_path, sets):
    torch.manual_seed(123)
    before = torch.random.get_rng_state()
    run = fit(tmp_path, sets, epochs=12)
    assert torch.equal(torch.random.get_rng_state(), before)  # dropout has a stream of its own
    found = train.history(run)
    assert (
        [row["epoch"] for row in found] == list(range(12))
        and found[-1]["val_accuracy"] == 1
        and found[-1]["val_loss"] < found[0]["loss"]
    )
    assert {p.name for p in run.folder.iterdir()} == {
        "options.yaml",
        "log.jsonl",
        "last.pt",
        "previous.pt",
        "weights.safetensors",
    }
    net = load_detector(run.folder / "weights.safetensors")
    p = train.score(net, sets[1], 4, "cpu")
    assert p.shape == (6,) and p.dtype == np.float64 and ((p >= 0.5) == (sets[1].labels.numpy() == 1)).all()
    assert np.allclose(p, probabilities(net, [sets[1].floats(range(6))]).numpy(), atol=1e-5)


def test_the_history_is_of_whole_epochs(tmp_path, sets, monkeypatch):
    """Loss: the mean of the steps' losses, as the batches are equal; validation: cross-entropy and accuracy
    of the last weights."""
    losses, rates, descend = [], [], train.training.descend

    def noted(loss, network, optimiser, lr, ctx):
        losses.append(float(loss.detach()))
        rates.append(lr)
        descend(loss, network, optimiser, lr, ctx)

    monkeypatch.setattr(train.training, "descend", noted)
    run = fit(tmp_path, sets, epochs=4, lr_schedule="tutorial")
    found, of_epoch = train.history(run), np.reshape(losses, (4, 5))
    assert [row["loss"] for row in found] == pytest.approx(of_epoch.mean(1).tolist(), abs=1e-5)
    assert [row["lr"] for row in found] == pytest.approx(
        [0.01, 0.01, 0.01, 0.001]
    ) and rates == pytest.approx([0.01] * 15 + [0.001] * 5)
    assert all(20 * row["accuracy"] == pytest.approx(round(20 * row["accuracy"]), abs=1e-4) for row in found)
    p = train.score(load_detector(run.folder / "weights.safetensors"), sets[1], 6, "cpu")
    right = np.where(sets[1].labels.numpy() == 1, p, 1 - p)
    assert found[-1]["val_loss"] == pytest.approx(-np.log(right).mean(), abs=1e-5) and found[-1][
        "val_accuracy"
    ] == pytest.approx((right > 0.5).mean())


@pytest.fixture(scope="module")
def whole(tmp_path_factory, sets):
    return fit(tmp_path_factory.mktemp("whole"), sets)


def stop_at(monkeypatch, number, how):
    """Do `how` in the step of that number, after its update."""
    descend, done = train.training.descend, []

    def stops(*words):
        descend(*words)
        done.append(None)
        if len(done) == number + 1:
            how()

    monkeypatch.setattr(train.training, "descend", stops)


def interrupt():
    os.kill(os.getpid(), signal.SIGINT)


def crash():
    raise MemoryError


@pytest.mark.parametrize(
    "how, error, step",
    [
        (interrupt, KeyboardInterrupt, 7),
        (interrupt, KeyboardInterrupt, 5),
        (interrupt, KeyboardInterrupt, 9),
        (interrupt, KeyboardInterrupt, 14),
        (crash, MemoryError, 8),
    ],
    ids=["middle of an epoch", "first of an epoch", "last of an epoch", "last of all", "crash"],
)
def test_an_interrupted_training_resumes_to_the_same_bits_and_history(
    tmp_path, sets, whole, monkeypatch, how, error, step
):
    stop_at(monkeypatch, step, how)
    with pytest.raises(error):
        fit(tmp_path, sets)
    monkeypatch.undo()
    assert checkpoint.load_state(tmp_path / "000" / "last.pt")["step"] == (
        step + 1 if how is interrupt else 5
    )
    # all that counts is in last.pt, not in the network it is given
    run = fit(tmp_path, sets, detector(init=9), resume="auto")
    assert run.resumed and weights(run) == weights(whole)
    assert history(run) == history(whole) and len(history(run)) == 3
    lines = [json.loads(line)["step"] for line in (run.folder / "log.jsonl").read_text().splitlines()]
    assert lines == [5, 5, 10, 10, 15, 15]


def test_equal_seeds_give_equal_weights_and_others_others(tmp_path, sets, whole):
    assert weights(fit(tmp_path, sets)) == weights(whole)
    assert weights(fit(tmp_path, sets, seed=1)) != weights(whole)
    assert weights(fit(tmp_path, sets, data_augmentation="none")) != weights(whole)


def test_dropout_draws_from_seed_and_step_alone(tmp_path, sets):
    def drawn(state, seed):
        net, found = detector(), []
        net.head.register_forward_pre_hook(
            lambda m, x: found.append(float(torch.rand(()))) if m.training else None
        )
        with torch.random.fork_rng():
            # of the process, which is nobody's business
            torch.manual_seed(state)
            fit(tmp_path, sets, net, epochs=2, seed=seed)
        return found

    first = drawn(1, 0)
    assert len(set(first)) == 10 and drawn(2, 0) == first and not set(drawn(1, 1)) & set(first)


def test_the_weights_are_the_last_epochs_and_the_detector_is_left_with_them(tmp_path, sets):
    net = detector()
    run = fit(tmp_path, sets, net)
    state = checkpoint.load_state(run.last)["parts"]["network"]
    written = checkpoint.read_weights(run.folder / "weights.safetensors")[0]
    assert all(torch.equal(v, written[k]) and torch.equal(v, state[k]) for k, v in net.state_dict().items())


def seen(monkeypatch):
    """What a detector is shown from now on: {"train": [batches], "eval": [batches]}."""
    found, forward = {"train": [], "eval": []}, Detector.forward

    def noted(self, x):
        found["train" if self.training else "eval"].append(x.clone())
        return forward(self, x)

    monkeypatch.setattr(Detector, "forward", noted)
    return found


@pytest.mark.parametrize("augmentation", ["none", "flip"])
def test_only_training_images_are_mirrored_and_only_if_asked(tmp_path, sets, monkeypatch, augmentation):
    found, (samples, validation) = seen(monkeypatch), sets
    fit(tmp_path, sets, epochs=4, data_augmentation=augmentation)
    x = torch.cat(found["train"])
    assert len(x) == 80
    rows, positions = torch.cat([Batches(samples, 4, 0, CPU).rows(k) for k in range(20)]), range(80)
    mirrored = [
        augmentation == "flip" and bool(seeds.numbered([p], 0, "flip").integers(2)) for p in positions
    ]
    assert 25 < sum(mirrored) < 55 if augmentation == "flip" else not any(mirrored)
    for image, photo, flipped in zip(x, samples.floats(rows), mirrored, strict=True):
        assert torch.equal(image, photo.flip(-1) if flipped else photo)
    y = torch.cat(found["eval"])
    # a validation after each epoch
    assert len(y) == 4 * 6 and all(
        torch.equal(y[6 * k : 6 * k + 6], validation.floats(range(6))) for k in range(4)
    )


@pytest.fixture(scope="module")
def frozen():
    """Few images, and a frozen base that tells them apart: make() -> the detector."""
    samples, validation = noise(4, 3), noise(2, 4)
    net = detector(0, "mobilenet_v2", "frozen")
    for m in net.trunk.modules():
        if isinstance(m, torch.nn.BatchNorm2d):
            m.momentum = 1.0
    with torch.no_grad():
        net.trunk.train()(torch.nn.functional.interpolate(samples.floats(range(8)), size=(96, 96)))
    state = {k: v.clone() for k, v in net.state_dict().items()}

    def make():
        net.load_state_dict(state)
        return net.train()

    return samples, validation, make


def steps(epochs):
    return {"epochs": epochs, "num_steps": 2 * epochs, "save_step": 2, "log_step": 2}


def test_a_frozen_base_sees_each_image_and_its_mirror_image_once(tmp_path, frozen, monkeypatch):
    samples, validation, make = frozen
    net, count, heard = make(), [], []
    trunk = {k: v.clone() for k, v in net.trunk.state_dict().items()}
    hooks = [
        net.trunk.register_forward_hook(lambda m, x, y: count.append(len(y))),
        net.head.register_forward_hook(lambda m, x, y: heard.append(x[0].clone()) if m.training else None),
    ]
    for epochs in (1, 6):
        count.clear()
        heard.clear()
        run = fit(tmp_path, (samples, validation), make(), **steps(epochs))
        # of validation images the mirror images may be left out
        assert sum(count) in (2 * 8 + 4, 2 * 8 + 2 * 4)
    for hook in hooks:
        hook.remove()
    assert all(torch.equal(v, trunk[k]) for k, v in net.trunk.state_dict().items()) and not net.trunk.training
    with torch.no_grad():
        net.eval()
        plain, mirrored = (
            net.features(x) for x in (samples.floats(range(8)), samples.floats(range(8)).flip(-1))
        )
    assert not torch.allclose(plain, mirrored, atol=1e-3)
    rows = torch.cat([Batches(samples, 4, 0, CPU).rows(k) for k in range(12)])
    flips = seeds.numbered(range(48), 0, "flip").integers(2).bool()
    assert torch.allclose(
        torch.cat(heard), torch.where(flips[:, None], mirrored[rows], plain[rows]), atol=1e-4
    )
    written = load_detector(run.folder / "weights.safetensors")
    assert (
        torch.equal(written.trunk.network.features[0][0].weight, trunk["network.features.0.0.weight"])
        and written.base == "frozen"
    )
    p = train.score(written, validation, 4, "cpu")
    right = np.where(validation.labels.numpy() == 1, p, 1 - p)
    # images are judged as they are, not mirrored
    assert train.history(run)[-1]["val_loss"] == pytest.approx(-np.log(right).mean(), abs=1e-4)


def test_a_frozen_training_resumes_to_the_same_bits(tmp_path, frozen, monkeypatch):
    samples, validation, make = frozen
    whole = weights(fit(tmp_path / "whole", (samples, validation), make(), **steps(3)))
    stop_at(monkeypatch, 2, interrupt)
    with pytest.raises(KeyboardInterrupt):
        fit(tmp_path, (samples, validation), make(), **steps(3))
    monkeypatch.undo()
    assert weights(fit(tmp_path, (samples, validation), make(), resume="auto", **steps(3))) == whole
