"""A command of which process 1 is killed: python killed.py image|step N SCRIPT FLAGS...

image  when its image number N, counted from 1, lies there under its temporary name;  step  in step N of a
training, counted from 0
"""

import os
import runpy
import signal
import sys

from common import files, training


def die():
    if os.environ["RANK"] == "1":
        os.kill(os.getpid(), signal.SIGKILL)


def in_image(n, replace=os.replace):
    count = 0

    def counted(source, target):
        nonlocal count
        count += str(target).endswith(".png")
        if count == n:
            die()
        replace(source, target)

    files.os.replace = counted


def in_step(n, loop=training.loop):
    def killed_loop(run, options, ctx, parts, step, *more, **named):
        def killed_step(i):
            if i == n:
                die()
            return step(i)

        return loop(run, options, ctx, parts, killed_step, *more, **named)

    training.loop = killed_loop


if __name__ == "__main__":
    {"image": in_image, "step": in_step}[sys.argv[1]](int(sys.argv[2]))
    sys.argv = sys.argv[3:]
    runpy.run_path(sys.argv[0], run_name="__main__")
