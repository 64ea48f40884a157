import pytest
import torch

from attacks.flags import add_attack_flags, attack_config, attack_from_flags, short_name, usual_draws
from attacks.through import DRAWS, ThroughDefence
from common import cli, seeds
from common.cli import UserError


def parse(*words, **options):
    parser = cli.ArgumentParser()
    add_attack_flags(parser, **options)
    return parser.parse_args(list(words))


def test_defaults_are_the_published_protocol():
    args = parse()
    found = attack_from_flags(args, None).definition()
    expected = {
        "attack": "pgd",
        "eps": 0.05,
        "steps": 10,
        "step_size": 0.01,
        "target": "gray",
        "label": "original",
        "blur": "none",
        "through": None,
    }
    assert {k: found[k] for k in expected} == expected
    assert (args.gradient, args.eot, args.known_noise, args.through_weights, args.perturbation_fit) == (
        "full",
        None,
        False,
        None,
        "resize",
    )


def test_worst_draws_a_random_defence_often():
    assert [usual_draws(name, random) for name in ("pgd", "worst") for random in (False, True)] == [
        1,
        1,
        1,
        DRAWS,
    ]


MIM = (
    "--attack_type mim --test_noise_var 0.1 --attack_steps 7 --attack_step_size 0.02 --attack_target input"
    " --attack_label joint --attack_blur eot"
).split()


def test_every_flag_reaches_the_attack():
    args = parse(*MIM)
    args.precision = "bf16"
    found = attack_from_flags(args, None).definition()
    assert found == {
        "attack": "mim",
        "eps": 0.1,
        "steps": 7,
        "step_size": 0.02,
        "target": "input",
        "label": "joint",
        "blur": "eot",
        "precision": "bf16",
        "translator": None,
        "through": None,
        "streams": seeds.VERSION,
    }


def test_small_radii_are_for_gaussian_alone():
    assert (
        attack_from_flags(parse("--attack_type", "gaussian", "--test_noise_var", "0.001"), None).eps == 0.001
    )
    for name in ("fgsm", "bim", "pgd", "mim", "universal"):
        with pytest.raises(UserError, match=f"{name}: expected a radius"):
            attack_from_flags(parse("--attack_type", name, "--test_noise_var", "0.001"), None)


@pytest.mark.parametrize("value", ["nan", "inf", "-0.1", "0", "five"])
def test_no_number_above_zero_no_radius(value):
    with pytest.raises(UserError, match="--test_noise_var: expected a number above 0"):
        parse(f"--test_noise_var={value}")


def test_a_trainers_spelling_and_narrower_rules():
    args = parse("--train_noise_var", "0.03", eps_flag="--train_noise_var", default="none", through=False)
    assert args.attack_type == "none" and args.train_noise_var == 0.03 and not hasattr(args, "eot")
    assert attack_from_flags(args, None, eps=args.train_noise_var).definition()["attack"] == "none"
    with pytest.raises(UserError, match="one of: original, joint"):
        parse("--attack_label", "target", rules=("original", "joint"))


@pytest.mark.parametrize("name", ["none", "gaussian", "universal"])
def test_attacks_without_a_gradient_cannot_go_through_a_defence(name):
    class Purifier:
        name, params, sha256, stochastic, size_multiple = "p", {}, None, False, 1

    with pytest.raises(UserError, match="cannot go through a defence; one of: fgsm, bim"):
        attack_from_flags(parse("--attack_type", name), ThroughDefence(None, Purifier()))


@pytest.mark.parametrize(
    "words, name",
    [
        ("", "pgd-eps0.05"),
        ("--attack_type fgsm --test_noise_var 0.1", "fgsm-eps0.1"),
        ("--attack_target clean", "pgd-eps0.05-clean"),
        ("--attack_label joint", "pgd-eps0.05-gray-joint"),
        ("--attack_target input --attack_label target", "pgd-eps0.05-input-target"),
        ("--attack_blur spread", "pgd-eps0.05-spread"),
        ("--attack_target clean --attack_blur eot", "pgd-eps0.05-clean-eot"),
        ("--attack_jpeg 50-95", "pgd-eps0.05-jpeg50-95"),
        ("--attack_type apgd --attack_jpeg 75", "apgd-eps0.05-clean-jpeg75-75"),
        ("--attack_type apgd --attack_label joint", "apgd-eps0.05-clean-joint"),
        ("--attack_type square --attack_label target", "square-eps0.05-clean-target"),
        ("--attack_type low-frequency", "low-frequency-eps0.05-clean"),
        ("--attack_type gaussian --test_noise_var 0.001", "gaussian-eps0.001"),
        ("--attack_type none --test_noise_var 0.1", "none-eps0"),
    ],
)
def test_folders_name_what_differs_from_the_published_protocol(words, name):
    args = parse(*words.split())
    assert short_name(attack_from_flags(args, None), args) == name


@pytest.mark.parametrize("value", ["0-50", "50-101", "95-50", "50-", "-", "50-60-70", "high", "", "-5"])
def test_qualities_are_whole_numbers_from_low_to_high(value):
    with pytest.raises(UserError, match="--attack_jpeg: expected LOW-HIGH, whole numbers from 1 to 100") as e:
        parse(f"--attack_jpeg={value}")
    assert "\n" not in str(e.value)
    assert parse("--attack_jpeg", "75").attack_jpeg == "75-75"


def test_jpeg_is_for_attacks_that_differentiate():
    for name in ("none", "gaussian", "universal"):
        with pytest.raises(
            UserError, match="--attack_jpeg is for --attack_type fgsm bim pgd mim apgd low-frequency"
        ):
            attack_from_flags(parse("--attack_type", name, "--attack_jpeg", "50-95"), None)


def test_two_attacks_have_two_names():
    found = set()
    for words in (
        "",
        "--attack_target clean",
        "--attack_target input",
        "--attack_label joint",
        "--attack_label iterative",
        "--attack_blur eot",
        "--attack_blur spread",
        "--attack_type bim",
        "--test_noise_var 0.06",
        "--attack_type gaussian",
    ):
        args = parse(*words.split())
        found.add(short_name(attack_from_flags(args, None), args))
    assert len(found) == 10


def test_records_say_what_the_attack_was():
    args = parse(*MIM)
    assert attack_config(args, attack_from_flags(args, None)) == {
        "attack": "mim",
        "eps": 0.1,
        "attack_steps": 7,
        "attack_step_size": 0.02,
        "attack_target": "input",
        "attack_label": "joint",
        "attack_blur": "eot",
        "attack_jpeg": None,
        "perturbation": None,
        "attack_weights": None,
    }


def test_records_tell_attacks_of_other_budgets_apart():
    for words, own in (
        ("apgd --apgd_steps 7 --apgd_restarts 3", {"attack_steps": 7, "attack_restarts": 3}),
        ("square --square_queries 9", {"attack_steps": None, "attack_queries": 9}),
        ("low-frequency --attack_grid 4", {"attack_steps": 50, "attack_restarts": 2, "attack_grid": 4}),
    ):
        args = parse("--attack_type", *words.split())
        found = attack_config(args, attack_from_flags(args, None))
        assert {k: found[k] for k in own} == own
        assert found["attack_target"] == "clean" and found["attack_step_size"] is None


def test_records_say_only_what_an_attack_has(tmp_path):
    def said(*words):
        args = parse(*words)
        found = attack_config(args, attack_from_flags(args, None))
        return [
            found[k]
            for k in ("attack", "eps", "attack_steps", "attack_step_size", "attack_target", "perturbation")
        ]

    torch.save(torch.full((3, 8, 8), 0.05), tmp_path / "p.pt")
    assert said("--attack_type", "none") == ["none", 0.0, None, None, None, None]
    assert said("--attack_type", "gaussian", "--test_noise_var", "0.1") == [
        "gaussian",
        0.1,
        None,
        None,
        None,
        None,
    ]
    assert said("--attack_type", "fgsm")[:2] == ["fgsm", 0.05] and said("--attack_type", "fgsm")[4] == "gray"
    # a record tells no folders of this machine
    assert said("--attack_type", "universal", "--perturbation", str(tmp_path / "p.pt")) == [
        "universal",
        0.05,
        None,
        None,
        None,
        "p.pt",
    ]
