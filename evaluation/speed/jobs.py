"""What each row of the published sizes does once, ours and the plain way."""

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

import purify
from common import compiling, distributed, seeds
from common.distributed import Context
from evaluation import sides
from evaluation.speed import trainings
from faces.celeba import FaceFolder
from models.conditions import targets
from models.dae import network as dae_network
from models.translators import load_translator
from purify.training_options import AUTOENCODERS

BF16 = "-bf16"
CRITIC = 5  # StarGAN's steps in a call: one of them trains the generator
DRAWN = 4  # steps of one-step's training in a call: what is attacked is drawn in each
PURIFIERS = ("one-step", "ddpm", "diffpure")
PLAIN = ("jpeg", "blur", *AUTOENCODERS)  # purifiers that cost little
TRAININGS = {  # row -> photos a step, by the trainer's own default
    "train-stargan": 16,
    "train-diffusion": 32,
    "train-one-step": 16,
    "train-adv": 16,
    **{f"train-{name}": 256 for name in AUTOENCODERS},
    "train-detector": 64,
}
SHOWN = ("attack", *PURIFIERS, "fakes", "train-stargan", "train-diffusion", "train-one-step")
ROWS = (*SHOWN, *(name for name in (*PLAIN, *TRAININGS) if name not in SHOWN))


@dataclass(frozen=True)
class Bench:
    """What all rows share.  networks  of networks.write_networks;  batches  photos a step of some trainings;
    folder  scratch;  compile  of --compile, for ours; auto is off where calls are few, as here"""

    ctx: Context
    faces: FaceFolder
    networks: dict[str, Path]
    folder: Path
    num_images: int
    repeats: int
    diffpure_start: int
    batches: dict[str, int]
    seed: int = 0
    compile: str = "off"

    def compiled(self, network: torch.nn.Module) -> torch.nn.Module:
        """Ours, as --compile has it, for batches of num_images."""
        compiling.fix([network], self.compile, self.ctx, self.num_images, 0)
        return network

    def words(self, row: str, precision: str, ours: bool = True) -> list[str]:
        """The flags of a training's command.  ours: False of the reference, which is never compiled;
        precision is told for both."""
        faces = self.faces
        flags = {"image_size": faces.size, "celeba_crop_size": faces.crop, "batch_size": self.batch(row)}
        flags |= {"precision": precision, "device": self.ctx.device, "seed": self.seed}
        flags |= {"compile": self.compile if ours else "off"}
        return [str(word) for key, value in flags.items() for word in (f"--{key}", value)]

    def batch(self, row: str) -> int:
        return self.batches.get(row, TRAININGS[row])


@dataclass(frozen=True)
class Job:
    """One call of each side.  ours  row -> call, None where the reference is the row;  units  photos or steps
    in a call;  photos  in a unit"""

    ours: dict[str, Callable[[], object] | None]
    reference: Callable[[], object]
    units: int
    photos: int


def split_row(row: str) -> tuple[str, str]:
    """attack-bf16 -> ("attack", "bf16")."""
    return (row.removesuffix(BF16), "bf16") if row.endswith(BF16) else (row, "fp32")


def group_of(row: str) -> str:
    """Rows of one group share a reference."""
    base = split_row(row)[0]
    return "purifiers" if base in PURIFIERS else base


def plain(network: torch.nn.Module) -> torch.nn.Module:
    """The same weights without channels-last."""
    return network.to(memory_format=torch.contiguous_format)


def attack_job(bench: Bench, rows: Sequence[str]) -> Job:
    faces = bench.faces.subset(bench.faces.names[: bench.num_images])
    translator, ctx = load_translator(bench.networks["stargan"], bench.ctx.device), bench.ctx
    attributes = faces.selected_attrs
    ours = sides.Attacks(faces, attributes, translator, ctx, bench.folder / "attacked", bench.compile)
    theirs = sides.Attacks(
        faces, attributes, plain(load_translator(bench.networks["stargan"], ctx.device)), ctx, bench.folder
    )
    return Job(
        {row: functools.partial(ours.ours, split_row(row)[1]) for row in rows},
        theirs.reference,
        len(faces),
        1,
    )


def purifier_job(bench: Bench, rows: Sequence[str]) -> Job:
    """All against diffpure; diffpure itself in fp32 is the reference, so its row has no ratio."""
    names = bench.faces.names[: bench.num_images]
    x = bench.faces.floats(range(len(names))).to(bench.ctx.device)

    def once(name, precision):
        start = {"ddpm": 10, "diffpure": bench.diffpure_start}.get(name)
        weights = bench.networks["one-step" if name == "one-step" else "diffusion"]
        built = purify.build(name, str(weights), bench.ctx.device, precision, start=start)
        for network in built.networks():
            bench.compiled(network)
        return torch.no_grad()(lambda: built(x, seeds.named(0, names, "purify")))

    calls = {row: once(*split_row(row)) for row in rows if row != "diffpure"}
    return Job({row: calls.get(row) for row in rows}, plain_diffpure(bench, x, names), len(names), photos=1)


def plain_diffpure(bench: Bench, x: torch.Tensor, names: Sequence[str]) -> Callable[[], object]:
    """The reference of all purifiers."""
    weights = str(bench.networks["diffusion"])
    built = purify.build("diffpure", weights, bench.ctx.device, start=bench.diffpure_start)
    plain(built.denoiser)
    return torch.no_grad()(lambda: built(x, seeds.named(0, names, "purify")))


def cheap_job(bench: Bench, rows: Sequence[str]) -> Job:
    """A purifier without a diffusion network; an autoencoder is a new one."""
    (base,) = {split_row(row)[0] for row in rows}
    names = bench.faces.names[: bench.num_images]
    x = bench.faces.floats(range(len(names))).to(bench.ctx.device)
    if base in AUTOENCODERS:
        network = dae_network.create(base).to(bench.ctx.device).eval()
        call = torch.no_grad()(lambda: network(x))
    else:
        built = purify.build(base, device=bench.ctx.device)
        call = torch.no_grad()(lambda: built(x, seeds.named(0, names, "purify")))
    return Job(dict.fromkeys(rows), call, len(names), 1)


def fakes_job(bench: Bench, rows: Sequence[str]) -> Job:
    """The fakes of a photo in all domains, one after the other, as the test of a defence makes them."""
    device, faces = bench.ctx.device, bench.faces
    n = bench.num_images
    x, c = faces.floats(range(n)).to(device), faces.labels[:n].to(device)
    translator = bench.compiled(load_translator(bench.networks["stargan"], device))
    reference = plain(load_translator(bench.networks["stargan"], device).network)

    @torch.no_grad()
    def once(network: torch.nn.Module, precision: str):
        with distributed.autocast(device, precision):
            for condition in targets(translator, c, faces.selected_attrs):
                network(x, condition)

    return Job(
        {row: functools.partial(once, translator, split_row(row)[1]) for row in rows},
        lambda: once(reference, "fp32"),
        n,
        1,
    )


def training_job(bench: Bench, rows: Sequence[str]) -> Job:
    """Steps of a training, always the same ones, as its trainer makes them; the reference is the same step in
    one process, fp32 and uncompiled."""
    (base,) = {split_row(row)[0] for row in rows}
    count = {"train-stargan": CRITIC, "train-adv": CRITIC, "train-one-step": DRAWN}.get(base, 1)

    def steps(name, precision, ours):
        folder = bench.folder / "trainings" / name
        folder.mkdir(parents=True, exist_ok=True)
        words = bench.words(base, precision, ours)
        step = step_of(bench, base, words, folder)
        return lambda: [step(i) for i in range(count)]

    return Job(
        {row: steps(row, split_row(row)[1], True) for row in rows},
        steps("reference", "fp32", False),
        count,
        bench.batch(base),
    )


def step_of(bench: Bench, base: str, words: list[str], folder: Path) -> trainings.Step:
    """The step of a training row."""
    faces, ctx, networks = bench.faces, bench.ctx, bench.networks
    gan = str(networks["stargan"])
    if base in ("train-stargan", "train-adv"):
        built = load_translator(gan).options
        words += ["--g_conv_dim", str(built["conv_dim"]), "--g_repeat_num", str(built["repeat_num"])]
        words += ["--d_conv_dim", str(built["conv_dim"])]
        if base == "train-adv":
            words += ["--adversarial", "both", "--init_from", gan]
        return trainings.stargan_training_step(words, faces, ctx, folder)
    if base == "train-detector":
        return trainings.detector_step(words, faces, ctx, folder)
    kind = {"train-diffusion": "ddpm"}.get(base, base.removeprefix("train-"))
    words += ["--defense_model_type", kind]
    translator = None
    if kind == "one-step":
        words += ["--gan_weights", gan, "--defense_weights", str(networks["diffusion"])]
        translator = load_translator(gan, ctx.device)
    return trainings.defense_step(words, faces, translator, ctx, folder)


def job_of(bench: Bench, rows: Sequence[str]) -> Job:
    """The calls of rows of one group."""
    group = group_of(rows[0])
    makers = {"attack": attack_job, "purifiers": purifier_job, "fakes": fakes_job}
    makers |= dict.fromkeys(PLAIN, cheap_job) | dict.fromkeys(TRAININGS, training_job)
    return makers[group](bench, rows)
