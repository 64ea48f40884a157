import argparse
import sys

import pytest

from common import cli
from common.cli import EIGHT_BIT_STEP, ArgumentParser, RunError, UserError


def parser():
    p = ArgumentParser(prog="tool", description="A tool.")
    p.add_argument("--image_size", type=cli.positive_int, default=128, help="side, pixels")
    p.add_argument("--names", nargs="+", default=["a"], help="columns")
    p.add_argument("--attack_type", choices=["none", "pgd", "mim"], default="none", help="attack")
    p.add_argument("--eps", type=cli.radius, default=0.05, help="radius, 100%% of it")
    p.add_argument("--skip_damaged", action="store_true", help="go on")
    cli.add_run_flags(p, batch_size=16, limit=True, resume=True)
    return p


def parse(*argv):
    return parser().parse_args(list(argv))


def refused(*argv):
    with pytest.raises(UserError) as e:
        parse(*argv)
    assert "\n" not in str(e.value)
    return str(e.value)


def test_defaults_and_flags():
    args = parse("--image_size", "64", "--names", "b", "c", "--resume")
    assert (args.image_size, args.names, args.resume, args.batch_size, args.limit) == (
        64,
        ["b", "c"],
        "auto",
        16,
        None,
    )
    assert parse().resume is None and parse("--resume", "results/000").resume == "results/000"


@pytest.mark.parametrize(
    "argv, parts",
    [
        (["--imagesize", "64"], ["--imagesize", "did you mean --image_size?"]),
        (["--batchsize=4"], ["--batchsize", "did you mean --batch_size?"]),
        (["--image", "64"], ["--image", "unknown"]),  # no abbreviations
        (["--attack_type", "pdg"], ["'pdg'", "did you mean pgd?", "none, pgd, mim"]),
        (["stray"], ["stray", "unknown"]),
        (["--image_size"], ["--image_size", "expected one argument"]),
        (["--image_size", "big"], ["--image_size", "a whole number above 0", "'big'"]),
        (["--batch_size", "0"], ["--batch_size", "above 0", "'0'"]),
        (["--limit", "0"], ["--limit", "above 0"]),
        (["--limit", "-3"], ["--limit", "above 0"]),
        (["--seed", "-1"], ["--seed", "0 or above"]),
        (["--device", "gpu"], ["--device", "cuda:N", "'gpu'"]),
        (["--config"], ["--config", "expected one argument"]),
    ],
)
def test_a_wrong_flag_is_one_line_with_the_way_out(argv, parts):
    message = refused(*argv)
    assert all(part in message for part in parts), message


def test_a_misspelt_flag_is_named_rather_than_the_required_one_it_stood_for():
    p = ArgumentParser(prog="tool")
    p.add_argument("--defense_model_type", required=True)
    with pytest.raises(UserError, match="--defence_model_type .did you mean --defense_model_type?"):
        p.parse_args(["--defence_model_type", "ddpm"])


@pytest.mark.parametrize("text", ["0", "-0.05", "nan", "inf", "-inf", "0.0039", "0.0078", "2.1", "x", ""])
def test_radii_that_no_image_can_hold(text):
    assert text in refused(f"--eps={text}")


@pytest.mark.parametrize("value", [EIGHT_BIT_STEP, 0.00784314, 0.05, 2.0])
def test_radii_that_one_can(value):
    assert parse("--eps", repr(value)).eps == value


@pytest.mark.parametrize(
    "kind, good, bad",
    [
        (cli.natural_float, "0", "-1"),
        (cli.positive_float, "1e-9", "0"),
        (cli.fraction, "1", "1.01"),
        (cli.jpeg_quality, "100", "0"),
        (cli.natural_int, "0", "1.5"),
        (cli.positive_float, "3", "nan"),
        (cli.fraction, "0", "nan"),
        (cli.positive_int, "7", "1e3"),
    ],
)
def test_number_types(kind, good, bad):
    assert kind(good) == float(good)
    with pytest.raises(argparse.ArgumentTypeError):
        kind(bad)


def write(tmp_path, text):
    path = tmp_path / "options.yaml"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return str(path)


def test_flag_beats_yaml_beats_default(tmp_path):
    path = write(
        tmp_path, "image_size: 64\nbatch_size: 4\nnames: [x, y]\nskip_damaged: true\nlimit: null\neps: 0.1\n"
    )
    for argv in (["--config", path, "--batch_size", "8"], ["--batch_size", "8", f"--config={path}"]):
        args = parse(*argv)
        assert (args.image_size, args.batch_size, args.seed, args.limit, args.eps) == (64, 8, 0, None, 0.1)
        assert args.names == ["x", "y"] and args.skip_damaged is True and args.config == path
    assert parse("--config", path, "--names", "z").names == ["z"]


def test_yaml_false_and_single_value_of_a_list(tmp_path):
    args = parse("--config", write(tmp_path, "skip_damaged: false\nnames: only\nresume: auto\n"))
    assert args.skip_damaged is False and args.names == ["only"] and args.resume == "auto"
    assert parse("--config", write(tmp_path, "")).image_size == 128


def test_a_yaml_list_does_not_swallow_positional_arguments(tmp_path):
    p = parser()
    p.add_argument("folder")
    args = p.parse_args(["photos", "--config", write(tmp_path, "names: [x, y]\n")])
    assert args.folder == "photos" and args.names == ["x", "y"]


@pytest.mark.parametrize(
    "text, parts",
    [
        ("imagesize: 64", ["'imagesize'", "did you mean image_size?"]),
        ("config: other.yaml", ["unknown key 'config'"]),
        ("help: true", ["unknown key 'help'"]),
        ("image_size: 0", ["--image_size", "above 0"]),
        ("skip_damaged: 3", ["skip_damaged takes true or false"]),
        ("image_size: {a: 1}", ["image_size", "nested"]),
        ("- a\n- b", ["expected `flag: value` lines, found a list"]),
        ("0", ["found a int"]),
        ("a: [", ["not valid YAML"]),
        (b"\xff\xfe\x00a", ["not valid YAML"]),
    ],
)
def test_bad_yaml_is_one_line(tmp_path, text, parts):
    message = refused("--config", write(tmp_path, text))
    assert all(part in message for part in parts), message


def test_missing_yaml(tmp_path):
    assert "No such file" in refused("--config", str(tmp_path / "none.yaml"))


def test_help_shows_every_default_and_leaves_with_0(capsys):
    with pytest.raises(SystemExit) as e:
        parse("--help")
    out = capsys.readouterr().out
    assert e.value.code == 0 and "(default: 128)" in out and "100% of it" in out and "--resume" in out


def fail_with(error):
    def main(argv=None):
        raise error

    return main


@pytest.mark.parametrize(
    "main, code, line",
    [
        (lambda argv=None: None, 0, ""),
        (lambda argv=None: 3, 3, ""),
        (fail_with(UserError("x.png: damaged,\n remove it")), 2, "error: x.png: damaged, remove it\n"),
        (fail_with(RunError("step 3: NaN")), 1, "error: step 3: NaN\n"),
        (fail_with(RuntimeError("CUDA out of memory. Tried")), 1, "--batch_size"),
        (fail_with(RuntimeError("DefaultCPUAllocator: can't allocate memory")), 1, "half the --batch_size"),
        (fail_with(MemoryError()), 1, "half the --batch_size"),
        (
            fail_with(OSError(28, "No space left on device", "out.png")),
            1,
            "error: out.png: No space left on device; free some, then repeat the command\n",
        ),
        (fail_with(ZeroDivisionError("a\nb")), 1, "error: ZeroDivisionError: a b (--debug shows where)\n"),
        (fail_with(KeyboardInterrupt()), 130, "interrupted"),
    ],
)
def test_exit_codes_and_single_lines(main, code, line, capsys):
    with pytest.raises(SystemExit) as e:
        cli.run(main, [])
    err = capsys.readouterr().err
    assert (
        e.value.code == code
        and line in err
        and "Traceback" not in err
        and err.count("\n") == (1 if line else 0)
    )


def test_argparse_errors_through_run(capsys, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["tool", "--image_size", "x"])
    with pytest.raises(SystemExit) as e:
        cli.run(lambda argv: parser().parse_args(argv))
    err = capsys.readouterr().err
    assert e.value.code == 2 and err.startswith("error: tool: argument --image_size") and err.count("\n") == 1


def test_debug_shows_the_traceback(capsys):
    with pytest.raises(SystemExit) as e:
        cli.run(fail_with(UserError("no such folder")), ["--debug"])
    err = capsys.readouterr().err
    assert e.value.code == 2 and "Traceback" in err and err.endswith("error: no such folder\n")


def test_a_group_is_picked_out_of_the_flags_of_a_command():
    parsed = argparse.Namespace(
        device="cpu", seed=0, num_workers=0, dry_run=False, config=None, debug=False, lr=1e-3
    )
    assert cli.pick(cli.RunOptions, parsed, seed=3).seed == 3
    with pytest.raises(TypeError):
        cli.resolve(cli.RunOptions, parsed)


def test_a_range_of_qualities_is_told_in_one_way():
    assert cli.quality_range("50-95") == "50-95" and cli.quality_range("075-100") == "75-100"
    assert cli.quality_range("75") == cli.quality_range("75-75") == "75-75"
    for bad in ("95-50", "0-50", "50-101", "1-2-3", "50-", "nan"):
        with pytest.raises(argparse.ArgumentTypeError, match="expected LOW-HIGH"):
            cli.quality_range(bad)


@pytest.mark.parametrize(
    "text, hint", [("8", "; 8 of 255 grey levels is 0.0627"), ("300", ""), ("0.001", "")]
)
def test_a_radius_in_grey_levels_is_answered_in_units_of_images(text, hint):
    with pytest.raises(argparse.ArgumentTypeError) as e:
        cli.radius(text)
    assert str(e.value).endswith(f"in [-1,1] image units, found {text!r}{hint}")
