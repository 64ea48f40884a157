"""Purifiers: photo in, photo out. PURIFIERS names them, build makes one; a class is imported when it is
used."""

from importlib import import_module

from common.cli import UserError

PURIFIERS = {
    "none": "purify.plain:Nothing",
    "jpeg": "purify.plain:Jpeg",
    "blur": "purify.plain:Blur",
    "defensive-model-1": "purify.dae:DefensiveModel",
    "defensive-model-2": "purify.dae:DefensiveModel",
    "defensive-model-1-fixed": "purify.dae:DefensiveModel",
    "defensive-model-2-fixed": "purify.dae:DefensiveModel",
    "ddpm": "purify.reverse_only:ReverseOnly",
    "diffpure": "purify.reverse_only:DiffPure",
    "one-step": "purify.one_step:OneStep",
    "one-step-plain": "purify.one_step:OneStepPlain",
}
STARTS = {"ddpm": 10, "diffpure": 300, "one-step-plain": "auto"}  # default t* of those that have one
WEIGHTLESS = ("none", "jpeg", "blur")
RESPACED = ("ddpm", "diffpure")


def needs_weights(name):
    return name not in WEIGHTLESS


def trained_by(name):
    """The command that trains a purifier (or the translator of a defence), None where nothing is trained."""
    if name in ("ddpm", "diffpure", "one-step-plain", "both"):
        return "python train_defense.py --defense_model_type ddpm"
    if name == "one-step":
        return "python train_defense.py --defense_model_type one-step --gan_weights FILE"
    if name.startswith("defensive-model-"):
        return f"python train_defense.py --defense_model_type {name}"
    if name in ("adv-train", "adv-train-blur"):
        return "python -m models.stargan.train --adversarial both --init_from FILE"
    return None


def build(
    name, weights=None, device="cpu", precision="fp32", quality=75, sigma=1.5, start=None, respacing=""
):
    """Make a purifier.

    Args:   weights    its weight file;  precision  fp32 or bf16 (autocast of the network)
            quality    of jpeg, 1 to 100;  sigma  of blur, pixels
            start      t* of ddpm, diffpure and one-step-plain (an int; "auto" for ddpm and one-step-plain),
                       None = its default
            respacing  of ddpm and diffpure: fewer steps, guided-diffusion's notation
    Raises: KeyError for an unknown name; UserError for weights that are missing, damaged or of another kind,
            and for options that the purifier does not have
    """
    module, cls = PURIFIERS[name].split(":")
    if start is not None and name not in STARTS:
        raise UserError(f"--ddpm_start_num {start}: {name} has no start; it is for {', '.join(STARTS)}")
    if start == "auto" and name == "diffpure":
        raise UserError(
            "--ddpm_start_num auto: finds how much to take back, and diffpure adds noise first; give a"
            " number, or use ddpm"
        )
    if respacing and name not in RESPACED:
        raise UserError(f"--respacing {respacing}: {name} does not step; it is for {', '.join(RESPACED)}")
    if name in WEIGHTLESS:
        if weights is not None:
            raise UserError(f"--defense_weights {weights}: {name} has no weights; drop the flag")
        cls = getattr(import_module(module), cls)
        return {"none": cls, "jpeg": lambda: cls(quality), "blur": lambda: cls(sigma)}[name]().to(device)
    if weights is None:
        raise UserError(
            f"{name} needs weights: give --defense_weights FILE, or train them: {trained_by(name)}"
        )
    if module == "purify.dae":
        return import_module(module).load(weights, name, device, precision)
    denoiser = import_module("models.diffusion.build").load(weights, device, precision)
    if (denoiser.kind == "one-step") != (name == "one-step"):
        raise UserError(
            f"{weights}: "
            + (
                "an ordinary diffusion network; one-step needs one fine-tuned for it "
                f"({trained_by(name)}), one-step-plain, ddpm and diffpure take this one"
                if name == "one-step"
                else (
                    f"fine-tuned for one evaluation, usable as --defense_model_type one-step only; {name}"
                    " needs ordinary diffusion weights"
                )
            )
        )
    cls = getattr(import_module(module), cls)
    if name == "one-step":
        return cls(denoiser)
    options = {"start": STARTS[name] if start is None else start}
    return cls(denoiser, **options, **({"respacing": respacing} if respacing else {}))
