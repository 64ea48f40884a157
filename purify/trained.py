"""Which weights a defence uses when none are named: the newest finished training of it, else one line with
the command that makes them.

Trainings lie in <result_dir>/*/*/train/*/NNN. What one is (which purifier or translator, of which dataset,
learned from which disruption) and when it was started is what its options.yaml says, and the metadata of its
weights: a folder may be renamed, moved or copied. A folder without a readable options.yaml is no training.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Protocol

import yaml

from common import checkpoint
from common.cli import UserError
from common.distributed import Context
from models.diffusion import train_flags as diffusion_flags
from models.flags import translator_from_flags
from models.translators import TRAINED_BY, Translator, check_size, load_translator
from purify.base import Purifier
from purify.defences import DEFENCES, OWN, purifier_class, trained_by
from purify.flags import purifier_from_flags

# of a training, as usual; others are told in its name
INGREDIENTS = {
    "one-step": {"photo_weight": 10.0, "fake_weight": 1.0, "clean_share": 0.1, "noise_share": 0.0},
    "one-step-robust": {"photo_weight": 1.0, "fake_weight": 1.0, "clean_share": 0.15, "noise_share": 0.05},
}
# what trainings of models.diffusion.train did before these were options
DIFFUSION = {
    "num_channels": 32,
    "channel_mult": "1,1",
    "noise_schedule": "linear",
    "max_timestep": 1000,
    "init_from": None,
    "trigger_scale": 1,
    "trigger_on": "background",
}


class DefenceOptions(Protocol):
    """What the options of a command have that loads a defence: the values of add_data_flags,
    add_translator_flags and add_purifier_flags, and two of its own."""

    result_dir: str
    dataset: str
    data_dir: str
    image_size: int
    selected_attrs: list[str]
    gan_type: str
    gan_weights: str | None
    defense_model_type: str
    defense_weights: str | None
    adv_gan_weights: str | None
    defense_noise: str | None


@dataclass(frozen=True)
class Training:
    """A finished training.  options  of its options.yaml;  started  local time, as ISO 8601 has it"""

    weights: Path
    options: Mapping[str, Any]
    started: str

    @cached_property
    def meta(self) -> dict:
        """The metadata of its weights."""
        return checkpoint.read_meta(self.weights)

    @property
    def age(self) -> tuple:
        """Sorts trainings, the oldest first; of those of one second the number of the folder decides."""
        number = self.weights.parent.name
        return self.started, int(number) if number.isdigit() else -1, str(self.weights)


def read_header(folder: Path) -> dict[str, Any] | None:
    """What options.yaml of a run folder holds, None where it is missing or damaged."""
    try:
        header = yaml.safe_load((folder / "options.yaml").read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError):
        return None
    return header if isinstance(header, dict) and isinstance(header.get("options"), dict) else None


def finished_trainings(result_dir: Path | str) -> list[Training]:
    """The finished trainings below a result folder, the oldest first."""
    trainings = []
    for weights in Path(result_dir).glob("*/*/train/*/*/weights.safetensors"):
        header = read_header(weights.parent)
        if header is not None:
            trainings.append(Training(weights, header["options"], str(header.get("started", ""))))
    return sorted(trainings, key=lambda training: training.age)


def newest(result_dir: Path | str, wanted: Callable[[Training], bool]) -> Path | None:
    """weights.safetensors of the newest finished training that is wanted, or None.

    Raises: UserError for a weight file that `wanted` looks into and that is damaged
    """
    trainings = reversed(finished_trainings(result_dir))
    return next((training.weights for training in trainings if wanted(training)), None)


def is_purifier(options: Mapping[str, Any]) -> bool:
    """Whether these are the options of a training of train_defense.py."""
    return {"defense_model_type", "attack_type", "train_noise_var"} <= set(options)


def disruption_of(options: Mapping[str, Any]) -> str:
    """<attack>-eps<eps> that a purifier of train_defense.py learns from; none-eps0 without one."""
    attack = options["attack_type"]
    return f"{attack}-eps{options['train_noise_var'] if attack != 'none' else 0:g}"


def training_name(options: Mapping[str, Any]) -> str:
    """What a training of train_defense.py is called: its disruption, and of one-step and one-step-robust
    which ingredient, or translator, is another than usual: pgd-eps0.11-fake0.

    Args: options  by their names; an ingredient or a gan_type that is not among them is the usual one
    """
    name = disruption_of(options)
    if usual := INGREDIENTS.get(options["defense_model_type"]):
        given = {flag: options.get(flag, value) for flag, value in usual.items()}
        name += "".join(
            f"-{flag.split('_')[0]}{value:g}" for flag, value in given.items() if value != usual[flag]
        )
        gan_type = options.get("gan_type", "stargan")
        name += f"-{gan_type}" if gan_type != "stargan" else ""
    return name


def newest_training(
    result_dir: Path | str, defense: str, dataset: str, noise: str | None = None
) -> Path | None:
    """weights.safetensors of the newest finished training of a defence, of the disruption `noise` ("pgd" or
    "pgd-eps0.05") if given; or None.

    A variant (pgd-eps0.11-fake0) is found by its full name alone.
    """

    def wanted(training: Training) -> bool:
        options = training.options
        if not is_purifier(options):
            return False
        if (options["defense_model_type"], options.get("dataset")) != (defense, dataset):
            return False
        name = training_name(options)
        return noise == name or noise in (None, options["attack_type"]) and name == disruption_of(options)

    return newest(result_dir, wanted)


def kind_of(adversarial: str) -> str:
    """Defence.translator of a translator by what its options, or its weights, say of `adversarial`."""
    return {"none": "standard", "lora": "patched"}.get(adversarial, "adversarial")


def newest_translator(
    result_dir: Path | str, dataset: str, kind: str = "standard", gan_type: str = "stargan"
) -> Path | None:
    """weights.safetensors of the newest finished training of a translator of this kind (Defence.translator),
    or None."""

    def wanted(training: Training) -> bool:
        options = training.options
        if options.get("dataset") != dataset or is_purifier(options):
            return False
        if kind_of(options.get("adversarial", "none")) != kind:
            return False
        return training.meta.get("kind") == f"{gan_type}-generator"

    return newest(result_dir, wanted)


def weights_of(defense: str, options: DefenceOptions) -> str | None:
    """The newest training's weight file of a purifier that needs one, None for jpeg and the like.

    Raises UserError naming the command that trains it.
    """
    trained_as = purifier_class(defense).trained_as
    if trained_as is None:
        return None
    weights = newest_training(options.result_dir, trained_as, options.dataset, options.defense_noise)
    if weights is None:
        noise = f" on {options.defense_noise}" if options.defense_noise else ""
        command = training_command(
            defense, options.gan_weights, options.gan_type, options.data_dir, options.image_size
        )
        raise UserError(
            f"{defense} has no finished training{noise} below"
            f" {Path(options.result_dir) / trained_as / options.dataset}: run"
            f" `{command}`, or give --defense_weights FILE"
        )
    return str(weights)


def training_command(
    defense: str, gan_weights: str | None, gan_type: str, data_dir: str, image_size: int
) -> str:
    """The command line that trains the weights of a defence."""
    named = "" if gan_type == "stargan" else f" --gan_type {gan_type}"
    return (
        trained_by(defense).replace("FILE", f"{gan_weights}{named}")
        + f" --data_dir {data_dir} --image_size {image_size}"
    )


def own_translator_of(options: DefenceOptions) -> str:
    """--adv_gan_weights, else the newest translator of the kind that the defence has.

    Raises: UserError naming the command that trains one, and for a named file that is patched where the
            defence's is not, or the other way round
    """
    name, file = options.defense_model_type, options.adv_gan_weights
    kind = DEFENCES[name].translator
    if file is None:
        file = newest_translator(options.result_dir, options.dataset, kind)
    elif (checkpoint.read_meta(file).get("adversarial") == "lora") != (kind == "patched"):
        raise UserError(f"--adv_gan_weights {file}: not the translator of {name}, made by `{OWN[kind]}`")
    if file is None:
        command = OWN[kind].replace("FILE", str(options.gan_weights))
        raise UserError(
            f"{name} needs a translator of its own: run `{command} --data_dir {options.data_dir} --image_size"
            f" {options.image_size}`, or give --adv_gan_weights FILE"
        )
    return str(file)


def default_translator(
    result_dir: Path | str, dataset: str, gan_type: str, data_dir: str | None, image_size: int
) -> str:
    """The newest finished training of an ordinary translator.  Raises UserError naming the command that
    trains one, on data_dir and image_size."""
    weights = newest_translator(result_dir, dataset, gan_type=gan_type)
    if weights is None:
        official = "the official 200000-G.ckpt, or " if gan_type == "stargan" else ""
        raise UserError(
            f"--gan_weights FILE is needed: {official}train one ({TRAINED_BY[gan_type]} --data_dir"
            f" {data_dir} --image_size {image_size})"
        )
    return str(weights)


def load_defence(
    options: DefenceOptions, ctx: Context, translators: dict[str, Translator] | None = None
) -> tuple[Purifier, str | None, Translator, Translator]:
    """(purifier, weights file or None, standard translator, translator of the defence).

    translators: file -> Translator, those that were loaded before; what is loaded here joins them.
    """
    translators = {} if translators is None else translators
    defence, c_dim = DEFENCES[options.defense_model_type], len(options.selected_attrs)
    weights = options.defense_weights or weights_of(defence.purifier, options)
    purifier = purifier_from_flags(options, weights, name=defence.purifier, device=ctx.device)
    if defence.translator in OWN and options.gan_type != "stargan":
        raise UserError(
            f"--defense_model_type {options.defense_model_type} is made for --gan_type stargan, the one that"
            f" is trained adversarially; found {options.gan_type}"
        )
    if options.gan_weights not in translators:
        translators[options.gan_weights] = translator_from_flags(options, ctx.device, options.selected_attrs)
    standard = translators[options.gan_weights]
    check_size(options.image_size, standard, purifier)
    if defence.translator == "standard":
        return purifier, weights, standard, standard
    file = own_translator_of(options)
    key = f"adversarial {file}"  # the same file may be the ordinary translator too
    if key not in translators:
        translators[key] = load_translator(file, ctx.device, c_dim)
    return purifier, weights, standard, translators[key]


def name_in_run(weights: Path | str) -> str | None:
    """What the training of these weights is called, by the options that lie beside them; None where there are
    none, or of a training that makes no diffusion network and no purifier."""
    options = (read_header(Path(weights).parent) or {}).get("options", {})
    if is_purifier(options):
        return training_name(options)
    if "backdoor" in options:  # of models.diffusion.train
        return diffusion_flags.folder_name(SimpleNamespace(**{**DIFFUSION, **options}))
    return None


def trained_noise(weights: Path | str | None) -> str:
    """What tables call the training of a purifier's weights: the options beside them say it, else the file
    itself; a file that says nothing is known by its name.  `none` without weights."""
    if weights is None:
        return "none"
    path, name = Path(weights), name_in_run(weights)
    if name is not None:
        return name
    meta = checkpoint.read_weights(path)[1] if path.name != "last.pt" else {}
    told = meta.get("attack") and meta.get("eps") is not None
    return f"{meta['attack']}-eps{meta['eps']:g}" if told else path.stem
