"""What every room stands on. Imported first by every command, it sees to it that Ctrl-C and SIGTERM end one
that is still importing in one line, as common.cli.run does afterwards."""

import os
import signal
import sys


def _is_command():
    """Whether this process runs a command of this project, and does not just import from it."""
    root = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    if sys.argv[:1] == ["-m"]:  # while the package above the command is imported
        words = sys.orig_argv
        names = [b for a, b in zip(words, words[1:], strict=False) if a[:1] == "-" and a[-1:] == "m"]
        return any(os.path.isdir(os.path.join(root, name.partition(".")[0])) for name in names[:1])
    main = getattr(sys.modules["__main__"], "__file__", None)
    return main is not None and os.path.dirname(os.path.abspath(main)) == root


def _end(number, frame):
    # imports may swallow an exception, or leave a traceback
    os.write(2, b"interrupted before anything was begun\n")
    os._exit(130)


def _interrupt(number, frame):
    raise KeyboardInterrupt


def _alone():
    """Of several processes one that is ended by a signal is told from those that failed."""
    return os.environ.get("WORLD_SIZE", "1") == "1"


def _answer(interrupt, terminate, before):
    """Set both answers where `before` answer so far: what others have set, or had ignored, stays."""
    for number, answer in ((signal.SIGINT, interrupt), (signal.SIGTERM, terminate)):
        if signal.getsignal(number) in before and (number == signal.SIGINT or _alone()):
            try:
                signal.signal(number, answer)
            except ValueError:  # not the main thread: signals go elsewhere
                return


def begun() -> None:
    """From now on both raise KeyboardInterrupt, which common.cli.run answers."""
    _answer(signal.default_int_handler, _interrupt, (_end,))


if _is_command():
    _answer(_end, _end, (signal.default_int_handler, signal.SIG_DFL))
