"""The command line that every script shares: flag types, one-line errors, YAML defaults, exit codes.

Exit codes: 0 done; 1 failed while running; 2 bad input or usage; 130 interrupted after the last state was
saved; of a scan 3 backdoored, 4 not applicable.
"""

import argparse
import atexit
import dataclasses
import gc
import math
import os
import sys
import traceback
from collections.abc import Callable, Sequence
from typing import Any, NoReturn, TypeVar

import yaml

import common
from common import registry
from common.errors import PeerLost, RunError, UserError, in_words, nearest, shown

T = TypeVar("T")
AUTO = "auto"  # in place of a number of photos at a time, see common.batch
AUTO_SUITS = "as many as fit in the GPU, on a CPU 8 of 64 x 64 pixels"
LAUNCHED = "LAUNCHER_TELLS"  # variable: tools.launch started this process and says that another one ended
at_default: set[str] = set()  # flags that the command line parsed last left at their defaults
EIGHT_BIT_STEP = 1 / 127.5  # one grey level of an 8-bit image, in [-1, 1] units


@dataclasses.dataclass(frozen=True, kw_only=True)
class RunOptions:
    """What every command knows of how it runs: the values of add_run_flags that all commands have."""

    device: str
    seed: int
    num_workers: int
    dry_run: bool
    config: str | None
    debug: bool
    compile: str = "off"  # of commands without the flag


def resolve(kind: type[T], parsed: argparse.Namespace, **changed: object) -> T:
    """The values that a command works with: a frozen dataclass of the parsed flags, `changed` resolved.

    A group of options whose flags are declared by things (common.declared) has a static method
    declared_flags; what it names is a field too, so that a thing registered later needs no line here.

    Raises: TypeError if the fields of `kind` are not exactly the flags and the names of `changed`
    """
    values, known = {**vars(parsed), **changed}, {f.name for f in dataclasses.fields(kind)}
    declared = {n for base in kind.__mro__ if "declared_flags" in vars(base) for n in base.declared_flags()}
    more = [name for name in values if name in declared - known]
    if more:
        kind = dataclasses.make_dataclass(
            kind.__name__, [(name, object) for name in more], bases=(kind,), frozen=True, kw_only=True
        )
    return kind(**values)


def pick(kind: type[T], parsed: argparse.Namespace, **changed: object) -> T:
    """As resolve, of a group: flags that are none of its fields are left to others."""
    values = {**vars(parsed), **changed}
    needed = (f for f in dataclasses.fields(kind) if f.name in values or f.default is dataclasses.MISSING)
    return kind(**{f.name: values[f.name] for f in needed})


class HelpFormatter(argparse.ArgumentDefaultsHelpFormatter, argparse.RawDescriptionHelpFormatter):
    """Keeps the docstring's layout and shows every default."""

    def _get_help_string(self, action):
        if action.default is None or action.default is argparse.SUPPRESS or "default" in (action.help or ""):
            return action.help
        return super()._get_help_string(action)


class ArgumentParser(argparse.ArgumentParser):
    """argparse with one-line errors, nearest-name suggestions, no abbreviations and `--config FILE.yaml`."""

    def __init__(self, *args: Any, **kwargs: Any):
        kwargs.setdefault("formatter_class", HelpFormatter)
        kwargs.setdefault("allow_abbrev", False)
        super().__init__(*args, **kwargs)
        self.add_argument("--debug", action="store_true", help="show the traceback of an error")

    def error(self, message: str) -> NoReturn:
        raise UserError(f"{self.prog}: {message}")

    def flags(self) -> dict[str, argparse.Action]:
        """--spelling -> what argparse makes of it."""
        return {o: a for a in self._actions for o in a.option_strings if o.startswith("--")}

    def parse_args(
        self, args: Sequence[str] | None = None, namespace: argparse.Namespace | None = None
    ) -> argparse.Namespace:
        argv = list(sys.argv[1:] if args is None else args)
        self._check_flags(argv)
        parsed, unknown = super().parse_known_args(self._yaml_flags(argv) + argv, namespace)
        if unknown:
            self.error(f"unknown argument {unknown[0]}; --help lists all")
        at_default.clear()
        at_default.update(a.dest for a in self._actions if getattr(parsed, a.dest, None) == a.default)
        return parsed

    def _check_flags(self, argv):
        """A misspelt flag is told as such, before argparse misses a required one or takes its value for
        something else."""
        for word in argv:
            name = word.split("=")[0]
            if word == "--":
                return
            if word.startswith("--") and name not in self.flags():
                self.error(f"unknown argument {name}{nearest(name, self.flags())}; --help lists all")

    def _check_value(self, action, value):
        if action.choices is not None and value not in action.choices:
            names = ", ".join(map(str, action.choices))
            raise argparse.ArgumentError(
                action,
                f"unknown value {value!r}{nearest(str(value), map(str, action.choices))}; one of: {names}",
            )

    def _yaml_flags(self, argv):
        """The flags that `--config FILE.yaml` stands for; they go before the real ones, which therefore
        win."""
        path = None
        for i, word in enumerate(argv):
            if word == "--config" and i + 1 < len(argv):
                path = argv[i + 1]
            elif word.startswith("--config="):
                path = word.split("=", 1)[1]
        if path is None or "--config" not in self.flags():
            return []
        try:
            with open(path, encoding="utf-8") as f:
                values = yaml.safe_load(f)
        except OSError as e:
            raise UserError(f"--config {path}: {e.strerror}") from e
        except (yaml.YAMLError, UnicodeDecodeError) as e:
            raise UserError(f"--config {path}: not valid YAML ({' '.join(str(e).split())})") from e
        if values is None:  # an empty file
            return []
        if not isinstance(values, dict):
            raise UserError(f"--config {path}: expected `flag: value` lines, found a {type(values).__name__}")
        known = {a.dest: (o, a) for o, a in self.flags().items()}
        words = []
        for key, value in values.items():
            if key not in known or key in ("config", "help"):
                raise UserError(f"--config {path}: unknown key {key!r}{nearest(str(key), known)}")
            option, action = known[key]
            if action.nargs == 0:
                if not isinstance(value, bool):
                    raise UserError(f"--config {path}: {key} takes true or false, found {value!r}")
                words += [option] if value else []
            elif isinstance(value, dict):
                raise UserError(f"--config {path}: {key} takes one value or a list, found nested lines")
            elif value is not None:
                words += [option, *map(str, value)] if isinstance(value, list) else [f"{option}={value}"]
        return [*words, f"--config={path}"]  # so that a list never goes on into the positional arguments


def _number(convert: Callable[[str], T], test: Callable[[T], bool], what: str) -> Callable[[str], T]:
    def parse(text):
        try:
            value = convert(text)
        except (ValueError, OverflowError):
            raise argparse.ArgumentTypeError(f"expected {what}, found {text!r}") from None
        if not math.isfinite(value) or not test(value):
            raise argparse.ArgumentTypeError(f"expected {what}, found {text!r}")
        return value

    parse.__name__ = what
    return parse


positive_int = _number(int, lambda v: v > 0, "a whole number above 0")
natural_int = _number(int, lambda v: v >= 0, "a whole number, 0 or above")
positive_float = _number(float, lambda v: v > 0, "a number above 0")
natural_float = _number(float, lambda v: v >= 0, "a number, 0 or above")
fraction = _number(float, lambda v: 0 <= v <= 1, "a number from 0 to 1")
jpeg_quality = _number(int, lambda v: 1 <= v <= 100, "a whole number from 1 to 100")


def quality_range(text: str) -> str:
    """Qualities of JPEG, LOW-HIGH; one number stands for itself: 75 -> 75-75."""
    try:
        low, high = (jpeg_quality(word) for word in (text.split("-") if "-" in text else (text, text)))
    except (argparse.ArgumentTypeError, ValueError):
        low, high = 1, 0
    if low > high:
        raise argparse.ArgumentTypeError(
            f"expected LOW-HIGH, whole numbers from 1 to 100 such as 50-95, found {text!r}"
        )
    return f"{low}-{high}"


def batch_number(text: str) -> int:
    """A number of photos at a time on which a result may depend."""
    if text == AUTO:
        raise argparse.ArgumentTypeError(
            "expected a whole number above 0, found 'auto': a training depends on it; auto is for commands"
            " whose results do not"
        )
    return positive_int(text)


def batch_or_auto(text: str) -> int | str:
    """A number of photos at a time on which no result depends, or `auto`; see common.batch."""
    return AUTO if text == AUTO else positive_int(text)


def radius(text: str) -> float:
    """An L-inf radius in [-1, 1] units, at least one 8-bit step: a smaller one cannot be released as an
    image."""
    value = positive_float(text)
    if value + 1e-8 < EIGHT_BIT_STEP or value > 2:
        hint = f"; {text} of 255 grey levels is {value / 127.5:.4f}" if 2 < value <= 255 else ""
        raise argparse.ArgumentTypeError(
            f"expected a radius from {EIGHT_BIT_STEP:.5f} (one 8-bit step) to 2, in [-1,1] image units, found"
            f" {text!r}{hint}"
        )
    return value


def device_name(text: str) -> str:
    """`auto`, `cpu` or `cuda:N`, checked against this machine when it is resolved (common.distributed)."""
    if text not in ("auto", "cpu", "cuda") and not (text.startswith("cuda:") and text[5:].isdigit()):
        raise argparse.ArgumentTypeError(f"expected auto, cpu or cuda:N, found {text!r}")
    return text


def add_run_flags(
    parser: argparse.ArgumentParser,
    batch_size: int | None = None,
    auto: bool = False,
    limit: bool = False,
    resume: bool = False,
    precision: bool = True,
    compiled: bool = True,
) -> argparse._ArgumentGroup:
    """The flags that most commands share, in their own help group.  auto: results do not depend on
    --batch_size."""
    g = parser.add_argument_group("how to run")
    g.add_argument(
        "--device",
        type=device_name,
        default="auto",
        help="auto, cpu or cuda:N; auto = the first GPU, else the CPU",
    )
    g.add_argument("--seed", type=natural_int, default=0, help="all randomness derives from it")
    if auto:
        g.add_argument(
            "--batch_size",
            type=batch_or_auto,
            default=batch_size,
            metavar="N|auto",
            help=f"photos at a time in each process; auto: {AUTO_SUITS}",
        )
    elif batch_size:
        g.add_argument(
            "--batch_size", type=batch_number, default=batch_size, help="images per step, over all processes"
        )
    g.add_argument(
        "--num_workers",
        type=natural_int,
        default=os.cpu_count() or 1,
        help="processes that decode photos (default: one a core)",
    )
    if precision:
        g.add_argument(
            "--precision", choices=["fp32", "bf16"], default="fp32", help="bf16 = autocast of the networks"
        )
    if compiled:
        g.add_argument(
            "--compile",
            choices=["auto", "on", "off"],
            default="auto",
            help="torch.compile of the networks, for batches of full size; auto = on a GPU, where the work is"
            " long enough to pay for it",
        )
    if limit:
        g.add_argument(
            "--limit", type=positive_int, default=None, metavar="N", help="use the first N images only"
        )
    if resume:
        g.add_argument(
            "--resume",
            nargs="?",
            const="auto",
            default=None,
            metavar="RUN",
            help=(
                "continue this run folder; without RUN the newest unfinished run with equal options, or"
                " start one"
            ),
        )
    g.add_argument(
        "--dry_run", action="store_true", help="check the input, print the options and stop; writes nothing"
    )
    g.add_argument(
        "--config", metavar="FILE.yaml", default=None, help="defaults of the flags; a flag given here wins"
    )
    return g


def run(main: Callable[..., int | None], argv: list[str] | None = None, **handed: str) -> NoReturn:
    """Run a command's main; what it raises becomes one line and an exit code, `--debug` shows the traceback.

    Args: handed  "module:Name" of what a command of a lower room is handed from above, as keyword arguments
                  of its main: a trainer its attack. Importing the room imports none of it
    """
    argv = sys.argv[1:] if argv is None else argv
    common.begun()
    for stream in (sys.stdout, sys.stderr):  # names that are no text
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    # At the end the collector would search all that torch has made for circles, a third of a second,
    # though the memory goes anyway.
    atexit.register(gc.freeze)
    try:
        code = main(argv, **{name: registry.load(place) for name, place in handed.items()}) or 0
    except UserError as e:
        code = _fail(e, e.exit_code, argv)
    except PeerLost as e:
        code = 1 if LAUNCHED in os.environ and "--debug" not in argv else _fail(e, 1, argv)
    except RunError as e:
        code = _fail(e, 1, argv)
    except KeyboardInterrupt:
        print(
            "interrupted; what was saved last is whole, --resume continues where the command has it",
            file=sys.stderr,
        )
        code = 130
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 1
    except Exception as e:  # an error nobody foresaw: still one line, with the way to the details
        code = _fail(in_words(e), 1, argv)
    sys.exit(code)


def _fail(error: Exception, code: int, argv: list[str]) -> int:
    if "--debug" in argv:
        traceback.print_exc()
    print(f"error: {shown(' '.join(str(error).split()))}", file=sys.stderr)
    return code
