"""The frozen StarGAN v2: the official 100000_nets_ema.ckpt and ours through one function."""

from pathlib import Path

import numpy as np
import torch
from torch import nn

from common import checkpoint, files, images, seeds, state_dicts
from common.cli import UserError
from models.starganv2.network import Generator, MappingNetwork, StyleEncoder
from models.translators import Translator, check_attributes, check_type, filled, meta_of

PARTS = {"generator": Generator, "mapping_network": MappingNetwork, "style_encoder": StyleEncoder}
# a constant of the published face masks, which need the weights of a landmark network; see network.Generator
IGNORED = ("hpf.filter",)


class Styled(nn.Module):
    """G with one fixed style for each domain.

    Args:   generator  G(x, s);  styles (D, style_dim);  domains (D, C) in {0, 1}
    Shape:  x (N, 3, H, W) in [-1, 1], c (N, C) in {0, 1} -> (N, 3, H, W) in [-1, 1]. Labels that are no
            domain get the nearest one:
            the fewest labels differ, the first of equals
    """

    def __init__(self, generator: Generator, styles: torch.Tensor, domains: torch.Tensor):
        super().__init__()
        self.generator, self.c_dim = generator, domains.shape[1]
        self.register_buffer("styles", styles)
        self.register_buffer("domains", domains)

    def domain(self, c: torch.Tensor) -> torch.Tensor:
        """(N,) int64 row of the table of domains for each c (N, C)."""
        return (c[:, None] - self.domains).abs().sum(2).argmin(1)

    def forward(self, x: torch.Tensor, c: torch.Tensor) -> torch.Tensor:
        return self.generator(x, self.styles[self.domain(c)]).clamp(-1, 1)


class StarGANv2(Translator):
    """G(x, s) of Choi et al. 2020 with a fixed style per domain; the condition is the target label set
    itself."""

    gan_type = "starganv2"

    def __init__(self, network: nn.Module, sha256: str | None = None, meta: dict | None = None):
        super().__init__(network, sha256, meta)
        self.size_multiple = 1 << network.generator.options["num_downs"]

    @property
    def options(self) -> dict:
        return self.network.generator.options | {"num_domains": len(self.network.domains)}

    @classmethod
    def read(cls, path: Path | str, c_dim: int | None = None, style: int | str | None = None) -> "StarGANv2":
        """style: a whole number (default 0) seeds one latent code for all domains; a path names a reference
        photo, encoded for every domain."""
        parts, meta = parts_of(path)
        nets = {name: network_from(name, parts.get(name, {}), path) for name in PARTS}
        # the official sizes tell the blocks apart: with w_hpf the generator halves the photo once more
        if not meta:
            deeper = nets["generator"].options["num_downs"] - nets["style_encoder"].options["num_downs"] + 2
            nets["generator"].set_w_hpf(1 if deeper > 0 else 0)
        domains = table_of(nets, path, meta, c_dim)
        check_attributes(path, len(domains[0]), c_dim)
        size = 4 << nets["style_encoder"].options["num_downs"]
        told, styles = fixed_styles(nets, 0 if style is None else style, size)
        sha = files.sha256(path)
        network = Styled(nets["generator"], styles, torch.tensor(domains, dtype=torch.float32))
        return cls(
            network,
            sha if told == 0 else files.key_of([sha, told]),
            {"image_size": size, "domains": domains, **meta},
        )


def parts_of(path: Path | str) -> tuple[dict[str, dict], dict]:
    """({name: state_dict}, meta) of ours (safetensors with prefixed keys, or last.pt) or of the official dict
    of state_dicts.  Raises UserError."""
    if path.name == "last.pt":
        saved = checkpoint.load_state(path)
        parts = {n: checkpoint.part_of(saved, path, f"{n}_average", n) for n in PARTS}
        return parts, meta_of(saved["options"])
    if checkpoint.is_safetensors(path):
        flat, meta = checkpoint.read_weights(path)
        check_type(path, meta, StarGANv2.gan_type)
        return {
            n: {k.removeprefix(n + "."): v for k, v in flat.items() if k.startswith(n + ".")} for n in PARTS
        }, meta
    nested, average = state_dicts.unwrapped(checkpoint.read_torch(path))
    nested = nested if isinstance(nested, dict) else {}
    parts = {n: nested[n] for n in PARTS if state_dicts.is_state(nested.get(n))}
    state_dicts.tell_average(path, average)
    return {n: state_dicts.checked(state_dicts.stripped(part), path) for n, part in parts.items()}, {}


def network_options(name: str, state: dict[str, torch.Tensor]) -> dict[str, int]:
    """The arguments of a network from the shapes of its state_dict.  Raises KeyError or IndexError for
    another network."""
    if name == "mapping_network":
        hidden_dim, latent_dim = state["shared.0.weight"].shape
        heads = numbers(state, "unshared.", ".6.weight")
        return {
            "latent_dim": latent_dim,
            "hidden_dim": hidden_dim,
            "num_domains": len(heads),
            "style_dim": state["unshared.0.6.weight"].shape[0],
        }
    if name == "style_encoder":
        downs = len(numbers(state, "shared.", ".conv1.weight"))
        return {
            "dim_in": state["shared.0.weight"].shape[0],
            "num_downs": downs,
            "max_conv_dim": state[f"shared.{downs + 2}.weight"].shape[0],
            "num_domains": len(numbers(state, "unshared.", ".weight")),
            "style_dim": state["unshared.0.weight"].shape[0],
        }
    blocks = len(numbers(state, "encode.", ".conv1.weight"))
    return {
        "dim_in": state["from_rgb.weight"].shape[0],
        "num_downs": blocks - 2,
        "max_conv_dim": state[f"encode.{blocks - 1}.conv1.weight"].shape[0],
        "style_dim": state["decode.0.norm1.fc.weight"].shape[1],
    }


def numbers(state: dict[str, torch.Tensor], start: str, end: str) -> list[str]:
    """The keys `start` n `end`, n a whole number."""
    return [
        k for k in state if k.startswith(start) and k.endswith(end) and k[len(start) : -len(end)].isdigit()
    ]


def network_from(name: str, state: dict[str, torch.Tensor], path: Path | str) -> nn.Module:
    """One network rebuilt from its state_dict.  Raises UserError for another network."""
    state = {k: v for k, v in state.items() if k not in IGNORED}
    if not state:
        raise UserError(
            f"{path}: expected StarGAN v2 weights (100000_nets_ema.ckpt or ours), found no {name} in it"
        )
    try:
        options = network_options(name, state)
    except (KeyError, IndexError, ValueError):
        raise UserError(
            f"{path}: its {name} is another network than StarGAN v2's (keys like"
            f" {', '.join(list(state)[:3])})"
        ) from None
    told = ", ".join(f"{k} {v}" for k, v in options.items())
    return filled(PARTS[name], options, state, path, f"a StarGAN v2 {name} of {told}")


def table_of(nets: dict[str, nn.Module], path: Path | str, meta: dict, c_dim: int | None) -> list[list[int]]:
    """[[0/1] * C] * D: what each domain of the networks means.  Raises UserError where nothing says it."""
    known = nets["mapping_network"].options["num_domains"]
    dims = {n: nets[n].options["style_dim"] for n in PARTS}
    if len(set(dims.values())) > 1 or nets["style_encoder"].options["num_domains"] != known:
        raise UserError(
            f"{path}: its networks are of different trainings (lengths of a style:"
            f" {', '.join(f'{n} {d}' for n, d in dims.items())}; domains: {known} and"
            f" {nets['style_encoder'].options['num_domains']})"
        )
    if "domains" in meta:
        table = meta["domains"]
        rows = isinstance(table, list) and len(table) == known and all(isinstance(row, list) for row in table)
        if not (
            rows
            and {len(row) for row in table} == {len(meta.get("attributes") or table[0])} != {0}
            and all(v in (0, 1) for row in table for v in row)
        ):
            raise UserError(
                f"{path}: its table of domains is damaged, expected {known} equally long rows of 0 and 1;"
                " copy the file again"
            )
        return table
    if known == 2 and c_dim in (None, 1):
        return [[0], [1]]
    if c_dim in (None, known):
        return torch.eye(known, dtype=torch.int64).tolist()
    raise UserError(
        f"{path}: this translator knows {known} domains and not what they mean; name {known} attributes, one"
        f" per domain{' (or one that tells them apart)' if known == 2 else ''}, in"
        f" --selected_attrs{'' if c_dim is None else f', found {c_dim}'}"
    )


@torch.no_grad()
def fixed_styles(nets: dict[str, nn.Module], style: int | str, size: int) -> tuple[int | str, torch.Tensor]:
    """(what identifies the style: its seed, or the reference photo's sha256; the styles (D, style_dim)).
    Raises UserError for a damaged photo."""
    if str(style).isascii() and str(style).isdigit():
        z = torch.randn(
            1,
            nets["mapping_network"].options["latent_dim"],
            generator=seeds.generator(int(style), "starganv2 style"),
        )
        return int(style), nets["mapping_network"].every(z)[0]
    try:
        photo = images.center_crop_resize(images.read_rgb(Path(style)), 0, size)
    except UserError as e:
        raise UserError(f"--gan_style {style}: neither a seed (a whole number) nor a photo ({e})") from e
    return files.sha256(style), nets["style_encoder"].every(images.to_float(np.asarray(photo))[None])[0]
