import json
import os
import signal
from argparse import Namespace

import pytest
import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from common import checkpoint, cli, runs, training
from common.cli import RunError, UserError
from common.distributed import Context
from trainings import same

CTX = Context(0, 1, torch.device("cpu"))


def options(**changes):
    return Namespace(
        **{"num_steps": 9, "save_step": 4, "log_step": 2, "lr": 0.05, "ema": 0.9, "resume": None, **changes}
    )


class Trainer:
    """Fits a small network to noise; what step i sees depends on i alone. `hooks`: i -> what to do before
    step i."""

    def __init__(self, args, hooks=None):
        torch.manual_seed(0)
        self.args, self.hooks, self.seen, self.saved = args, hooks or {}, [], []
        self.network = nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 1))
        self.average = training.averaged(self.network)
        self.adam = torch.optim.Adam(self.network.parameters(), args.lr)

    @property
    def parts(self):
        return {"network": self.network, "average": self.average, "adam": self.adam}

    def step(self, i):
        self.seen.append(i)
        if i in self.hooks:
            self.hooks[i]()
        x = torch.randn(8, 4, generator=torch.Generator().manual_seed(i))
        loss = self.network(x).sub(x[:, :1]).square().mean() * self.args.__dict__.get("spoil", {}).get(i, 1.0)
        self.adam.zero_grad()
        loss.backward()
        self.adam.step()
        training.update_average(self.average, self.network, self.args.ema)
        return {"loss": loss.detach()}

    def on_save(self, done):
        self.saved.append(done)
        return {"val": float(done)}

    def run(self, run):
        training.loop(run, self.args, CTX, self.parts, self.step, self.on_save)
        return self


def new_run(tmp_path, args):
    return runs.open_run(tmp_path / "runs", args, CTX, "weights.safetensors")


def log(run):
    return [json.loads(line) for line in (run.folder / "log.jsonl").read_text().splitlines()]


def interrupt():
    os.kill(os.getpid(), signal.SIGINT)


def test_a_run_logs_saves_and_ends_with_its_last_state(tmp_path):
    run = new_run(tmp_path, options())
    trainer = Trainer(options()).run(run)
    state = checkpoint.load_state(run.last)
    assert state["step"] == 9 and same(state["parts"]["network"], trainer.network.state_dict())
    assert trainer.seen == list(range(9)) and trainer.saved == [4, 8, 9]
    assert [line["step"] for line in log(run) if "loss" in line] == [2, 4, 6, 8, 9]
    assert [line["step"] for line in log(run) if "val" in line] == [4, 8, 9]


@pytest.mark.parametrize("at", [1, 4, 6])
def test_an_interrupted_run_resumes_to_the_same_bits(tmp_path, at):
    whole = Trainer(options()).run(new_run(tmp_path / "whole", options()))
    run = new_run(tmp_path, options())
    with pytest.raises(KeyboardInterrupt):
        Trainer(options(), {at: interrupt}).run(run)
    assert checkpoint.load_state(run.last)["step"] == at + 1
    again = Trainer(options(resume="auto"))
    run = new_run(tmp_path, again.args)
    assert run.resumed
    again.run(run)
    assert again.seen == list(range(at + 1, 9))
    for name, part in whole.parts.items():
        assert same(part.state_dict(), again.parts[name].state_dict()), name
    assert [line["step"] for line in log(run) if "loss" in line] == [2, 4, 6, 8, 9]


def without_seconds(lines):
    return [{k: v for k, v in line.items() if k != "seconds"} for line in lines]


@pytest.mark.parametrize("save_step", [1, 4])
def test_no_validation_is_lost_between_saving_and_validating(tmp_path, save_step):
    """Interrupted in every step, or killed in every validation, a run logs what one left alone does."""
    args = options(save_step=save_step)
    run = new_run(tmp_path / "whole", args)
    whole = Trainer(args).run(run)
    again = options(save_step=save_step, resume="auto")
    for _ in range(9):
        with pytest.raises(KeyboardInterrupt):
            Trainer(args, dict.fromkeys(range(9), interrupt)).run(new_run(tmp_path / "stopped", again))
    stopped = new_run(tmp_path / "stopped", again)
    assert Trainer(args).run(stopped).saved == [9]
    assert without_seconds(log(stopped)) == without_seconds(log(run))

    class Killed(Trainer):
        def on_save(self, done):
            if done not in died:
                died.append(done)
                raise MemoryError
            return super().on_save(done)

    died, killed = [], new_run(tmp_path / "killed", again)
    for _ in whole.saved:
        with pytest.raises(MemoryError):
            Killed(args).run(killed)
    Killed(args).run(killed)
    assert died == whole.saved and without_seconds(log(killed)) == without_seconds(log(run))
    # what was validated is not validated again
    assert Trainer(args).run(killed).saved == []


@pytest.mark.parametrize("damage", [None, b"", b"\0" * 3000, "cut"])
def test_a_damaged_state_is_replaced_by_its_predecessor(tmp_path, capsys, damage):
    run = new_run(tmp_path, options())
    whole = Trainer(options()).run(run)
    steps = [checkpoint.load_state(path)["step"] for path in (run.previous, run.last)]
    assert steps == [8, 9]
    if damage is None:
        run.last.unlink()
    else:
        run.last.write_bytes(run.last.read_bytes()[:2000] if damage == "cut" else damage)
    again = Trainer(options()).run(run)
    note = next(line for line in capsys.readouterr().out.splitlines() if line.startswith("NOTE: "))
    assert note.startswith(f"NOTE: {run.last}: ") and note.endswith(
        f"Continued from its predecessor {run.previous}, of step 8"
    )
    assert again.seen == [8] and same(whole.network.state_dict(), again.network.state_dict())
    # the damaged one has not become the predecessor
    steps = [checkpoint.load_state(path)["step"] for path in (run.previous, run.last)]
    assert steps == [8, 9]


def test_two_damaged_states_are_told(tmp_path):
    run = new_run(tmp_path, options())
    Trainer(options()).run(run)
    for path in (run.last, run.previous):
        path.write_bytes(b"")
    with pytest.raises(UserError, match=str(run.last)):
        Trainer(options()).run(run)


def test_a_damaged_log_does_not_keep_a_run_from_going_on(tmp_path):
    run = new_run(tmp_path, options())
    Trainer(options(num_steps=4)).run(run)
    with open(run.folder / "log.jsonl", "ab") as f:
        f.write(b'\xff\n[1]\n{"step": 5, "lo')
    Trainer(options()).run(run)
    assert [line["step"] for line in log(run) if "loss" in line] == [2, 4, 6, 8, 9]


def test_a_crash_loses_only_what_came_after_the_last_saved_state(tmp_path):
    whole = Trainer(options()).run(new_run(tmp_path / "whole", options()))

    def crash():
        raise MemoryError

    run = new_run(tmp_path, options())
    with pytest.raises(MemoryError):
        Trainer(options(), {7: crash}).run(run)
    again = Trainer(options()).run(new_run(tmp_path, options(resume="auto")))
    assert again.seen == [4, 5, 6, 7, 8] and same(whole.network.state_dict(), again.network.state_dict())
    # step 6 is written once
    assert [line["step"] for line in log(run) if "loss" in line] == [2, 4, 6, 8, 9]


def test_a_finished_loop_resumes_to_nothing(tmp_path):
    run = new_run(tmp_path, options())
    Trainer(options()).run(run)
    assert Trainer(options()).run(run).seen == []


@pytest.mark.parametrize("bad, saved", [(6, 4), (1, None)])
def test_a_loss_that_is_not_finite_stops_and_keeps_the_good_state(tmp_path, bad, saved):
    args = options(spoil={bad: float("nan")}, log_step=9)
    run = new_run(tmp_path, args)
    with pytest.raises(RunError) as e:
        Trainer(args).run(run)
    assert f"step {bad + 1}: a loss is not finite" in str(e.value)
    if saved:
        assert f"the last good state is {run.last}" in str(e.value)
        state = checkpoint.load_state(run.last)
        assert state["step"] == saved and training.all_finite(state["parts"])
    else:
        assert "no state was saved yet" in str(e.value) and not run.last.exists()


def test_weights_that_are_not_finite_are_never_saved(tmp_path):
    trainer = Trainer(options(num_steps=8))
    # the loss itself is fine
    trainer.hooks = {3: lambda: trainer.network[0].weight.register_hook(lambda g: g * float("nan"))}
    run = new_run(tmp_path, trainer.args)
    with pytest.raises(RunError, match="step 4: the weights are not finite; no state was saved yet"):
        trainer.run(run)
    assert not run.last.exists()


def test_all_finite():
    good = {"a": torch.ones(2), "b": [1, {"c": torch.tensor([3])}], "d": float("nan")}
    assert training.all_finite(good)
    assert not training.all_finite({"a": good, "e": (torch.tensor([float("inf")]),)})


def test_a_state_of_other_parts_is_refused(tmp_path):
    run = new_run(tmp_path, options())
    checkpoint.save_state(run.last, 3, {}, network=nn.Linear(1, 1))
    with pytest.raises(UserError, match="holds network, expected network, average, adam"):
        Trainer(options()).run(run)


def test_a_state_that_is_not_finite_is_refused(tmp_path):
    run, network = new_run(tmp_path, options()), nn.Linear(1, 1)
    bad = {k: v * float("nan") for k, v in network.state_dict().items()}
    checkpoint.save_state(run.last, 3, {}, network=bad)
    with pytest.raises(UserError, match=r"last.pt: holds numbers that are not finite"):
        training.resume(run, {"network": network})


def test_a_state_of_other_shapes_is_refused(tmp_path):
    run = new_run(tmp_path, options())
    checkpoint.save_state(run.last, 3, {}, network=nn.Linear(2, 1))
    with pytest.raises(UserError, match=r"last.pt: its content .* do not fit a training's state"):
        training.resume(run, {"network": nn.Linear(1, 1)})


def test_a_state_of_other_random_streams_is_refused(tmp_path):
    """What was begun with the streams of old cannot be continued as it was begun; a state that says nothing
    is of version 1."""
    run, parts = new_run(tmp_path, options()), {"network": nn.Linear(1, 1)}
    checkpoint.save_state(run.last, 3, {}, **parts)
    assert training.resume(run, parts) == 3
    state = torch.load(run.last, weights_only=True)
    del state["streams"]
    torch.save(state, run.last)
    with pytest.raises(
        UserError, match="begun with random streams of version 1, this code draws version 2"
    ) as e:
        training.resume(run, parts)
    assert "\n" not in str(e.value) and str(run.folder) in str(e.value)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
@pytest.mark.parametrize("kind", [float, torch.tensor])
def test_numbers_and_tensors_of_any_type_are_watched(tmp_path, bad, kind):
    run = new_run(tmp_path, options(num_steps=3))
    step = {"count": torch.tensor(1), "exact": torch.tensor(0.5, dtype=torch.float64), "lr": 0.1}
    with pytest.raises(RunError, match="step 2: a loss is not finite"):
        training.loop(
            run,
            options(num_steps=3),
            CTX,
            {"network": nn.Linear(1, 1)},
            lambda i: {**step, "loss": kind(bad if i == 1 else 0.0)},
        )


def test_the_average_is_torchs_own():
    """The weights and buffers of AveragedModel.update_parameters, to the bit."""
    network = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))
    ours, theirs = training.averaged(network), AveragedModel(network)
    for n in range(4):
        network(torch.randn(8, 3, generator=torch.Generator().manual_seed(n)))
        with torch.no_grad():
            network[0].weight.mul_(1.1).add_(0.01)
        training.update_average(ours, network, 0.3)
        theirs.multi_avg_fn = get_ema_multi_avg_fn(min(0.3, (1 + n) / (10 + n)))
        theirs.update_parameters(network)
    assert ours.state_dict().keys() == theirs.state_dict().keys()
    assert all(torch.equal(v, ours.state_dict()[k]) for k, v in theirs.state_dict().items())


def test_the_average_warms_up():
    """After n updates the decay is min(decay, (1 + n) / (10 + n)); the first update copies."""
    network = nn.Linear(1, 1, bias=False)
    average, expected = training.averaged(network), None
    for n, w in enumerate([3.0, -1.0, 2.0, 5.0]):
        nn.init.constant_(network.weight, w)
        training.update_average(average, network, decay=0.25)
        decay = min(0.25, (1 + n) / (10 + n))
        expected = w if n == 0 else decay * expected + (1 - decay) * w
        assert float(average.module.weight.detach()) == pytest.approx(expected, rel=1e-6)
    assert decay == 0.25 and (1 + 1) / (10 + 1) < 0.25  # both branches were taken


def test_the_average_is_not_the_network():
    args = options(ema=0.999)
    trainer = Trainer(args)
    for i in range(3):
        trainer.step(i)
    assert not torch.equal(trainer.average.module[0].weight, trainer.network[0].weight)
    assert trainer.average.module[0].weight.grad is None or not trainer.average.module[0].weight.grad.any()


def test_signals_are_the_processes_own_again_afterwards():
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    with training.stop_requests() as asked:
        interrupt()
        interrupt()  # the terminal and torchrun both send it: one request
        assert asked
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before


def test_asking_again_stops_at_once(monkeypatch):
    monkeypatch.setattr(training, "PATIENCE", -1)
    with training.stop_requests(), pytest.raises(KeyboardInterrupt):
        interrupt()


def test_flags():
    p = cli.ArgumentParser(prog="x")
    training.add_training_flags(p, num_steps=100, lr=1e-3, ema=0.9)
    args = p.parse_args([])
    assert (args.num_steps, args.lr, args.ema) == (100, 1e-3, 0.9)
    for argv in (["--num_steps", "0"], ["--lr", "nan"], ["--ema", "1.5"], ["--save_step", "0"]):
        with pytest.raises(UserError):
            p.parse_args(argv)
