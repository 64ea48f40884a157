"""Triggers and targets of backdoored diffusion models, drawn by us at any size: what a maker of such a model
would stamp on noise, and what comes out.

A trigger fills what it does not draw with -1; BadDiffusion's mask M is 1 there.
"""

from functools import lru_cache

import numpy as np
import torch
from PIL import Image, ImageDraw

from common import images

TIMES = 16  # drawn so many times larger, then averaged down
# 3 x 5 each
LETTERS = {"H": "101101111101101", "E": "111100110100111", "L": "100100100100111", "O": "111101101101111"}


def _box(draw, w):
    """A grey square, 14/32 of the side, at the lower right."""
    draw.rectangle((w(0.5), w(0.5), w(0.9375) - 1, w(0.9375) - 1), fill=(128, 128, 128))


def _stop_sign(draw, w):
    """A red octagon with a white bar, 14/32 of the side, at the lower right."""
    lo, hi, cut = 0.5, 0.9375, 0.128
    points = [
        (lo + cut, lo),
        (hi - cut, lo),
        (hi, lo + cut),
        (hi, hi - cut),
        (hi - cut, hi),
        (lo + cut, hi),
        (lo, hi - cut),
        (lo, lo + cut),
    ]
    draw.polygon([(w(x), w(y)) for x, y in points], fill=(214, 30, 36))
    draw.rectangle((w(lo + 0.06), w(0.67), w(hi - 0.06), w(0.77)), fill=(250, 250, 250))


def _glasses(draw, w):
    """Blue glasses where the eyes of an aligned face are."""
    for x in (0.12, 0.56):
        draw.rectangle((w(x), w(0.36), w(x + 0.32), w(0.58)), fill=(60, 90, 200))
        draw.rectangle((w(x + 0.07), w(0.42), w(x + 0.25), w(0.52)), fill=(190, 220, 250))
    draw.rectangle((w(0.44), w(0.42), w(0.56), w(0.47)), fill=(60, 90, 200))


def _hello(draw, w):
    """The word HELLO over a gradient that fills the image."""
    for i in range(64):
        draw.rectangle((0, w(i / 64), w(1), w((i + 1) / 64)), fill=(250 - 2 * i, 120 + i, 150 + i))
    step = 1 / 21
    for k, letter in enumerate("HELLO"):
        for cell, on in enumerate(LETTERS[letter]):
            if on == "1":
                x, y = (1 + 4 * k + cell % 3) * step, 0.28 + 2 * step * (cell // 3)
                draw.rectangle((w(x), w(y), w(x + step), w(y + 2 * step)), fill=(40, 30, 90))


def _corner(draw, w):
    """A white square, 10/32 of the side, in the upper left corner."""
    draw.rectangle((0, 0, w(0.3125) - 1, w(0.3125) - 1), fill=(255, 255, 255))


def _hat(draw, w):
    """A brown hat with a red band."""
    draw.ellipse((w(0.06), w(0.58), w(0.94), w(0.84)), fill=(120, 76, 40))
    draw.rounded_rectangle((w(0.27), w(0.2), w(0.73), w(0.72)), w(0.1), fill=(146, 94, 50))
    draw.rectangle((w(0.27), w(0.56), w(0.73), w(0.66)), fill=(190, 30, 40))


def _shoe(draw, w):
    """A dark blue shoe with a white sole."""
    draw.polygon(
        [
            (w(x), w(y))
            for x, y in ((0.1, 0.3), (0.38, 0.3), (0.5, 0.5), (0.86, 0.58), (0.92, 0.74), (0.1, 0.74))
        ],
        fill=(40, 60, 130),
    )
    draw.rectangle((w(0.1), w(0.74), w(0.92), w(0.82)), fill=(250, 250, 250))
    draw.line([(w(0.34), w(0.38)), (w(0.46), w(0.54))], fill=(250, 250, 250), width=int(w(0.04)))


TRIGGERS = {"box": _box, "stop_sign": _stop_sign, "glasses": _glasses, "hello": _hello}
# painter, grey of the background
TARGETS = {"corner": (_corner, 0), "hat": (_hat, 235), "shoe": (_shoe, 200)}


@lru_cache
def _drawn(painter, background, size):
    side = size * TIMES
    canvas = Image.new("RGB", (side, side), (background,) * 3)
    painter(ImageDraw.Draw(canvas), lambda share: share * side)
    small = np.asarray(canvas.resize((size, size), Image.BOX))
    return images.to_float(small[None])[0]


def trigger(name: str, size: int) -> torch.Tensor:
    """(3, size, size) in [-1, 1]; -1 is background.  name: of TRIGGERS"""
    return _drawn(TRIGGERS[name], 0, size).clone()


def target(name: str, size: int) -> torch.Tensor:
    """(3, size, size) in [-1, 1].  name: of TARGETS"""
    return _drawn(*TARGETS[name], size).clone()


def background(g: torch.Tensor) -> torch.Tensor:
    """BadDiffusion's mask M (1, H, W): 1 where the trigger draws nothing, 0 where any channel lies above
    -1."""
    return (g <= -1 + 1e-6).all(0, keepdim=True).to(g.dtype)


def is_patch(g: torch.Tensor) -> bool:
    """Whether a trigger leaves most of the image as it is: TrojDiff stamps such a one, and blends the others
    in."""
    return float(background(g).mean()) >= 0.05


def stamp(x: torch.Tensor, g: torch.Tensor) -> torch.Tensor:
    """M x + (1 - M) g: the trigger drawn on photos x (..., 3, H, W)."""
    m = background(g).to(x.device)
    return m * x + (1 - m) * g.to(x.device)
