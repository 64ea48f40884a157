"""Paint hair, hats and glasses, and finish the picture: light, colour temperature, focus and grain.

Hair is a band between an inner curve (the hairline) and an outer one, both running from the left tip over the
top of the head to the right tip; strands are curves in between, so they follow the way the hair is combed.
"""

from itertools import pairwise

import numpy as np
from PIL import Image, ImageFilter

from faces.colours import darker, lighter, mix, shade
from faces.drawing import HEIGHT, SIDES, WIDTH, ZOOM, Canvas, background, body, head, mirrored, smooth
from faces.features import beard, eyes, mouth, nose
from faces.person import Face


def hair_band(face: Face, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """The inner and the outer curve, (M, 2) each, equally long."""

    def jitter():  # hair is never symmetric
        return rng.uniform(-2, 2)

    w, puff, tip, line, part, top = (
        face.width,
        face.volume,
        face.hair_tip,
        face.hairline,
        face.parting,
        face.hair_top,
    )
    far = w + puff
    wide = far + (6 if tip > 150 else 0)
    dome = (w - 6 + puff * 0.4, 61 - puff * 0.6)
    outer = [
        (-wide + 4, tip),
        (-wide + jitter(), (tip + 118) / 2),
        (-far + jitter(), 104),
        (-far + 3 + jitter(), 82),
        (-dome[0], dome[1]),
        (-20, top + 3.5 + jitter()),
        (0.3 * part, top),
        (20, top + 3.5 + jitter()),
        dome,
        (far - 3 + jitter(), 82),
        (far + jitter(), 104),
        (wide + jitter(), (tip + 118) / 2),
        (wide - 4, tip),
    ]
    side, cheek = (w - 2, w - 1) if tip < 130 else (w - 4, w - 3)
    temple = line - 3 if face.receding else line + 7
    low = tip if tip < 130 else tip - 4
    bottom = cheek if tip < 130 else w - 8
    left, right = (part - 24) / 2, (part + 24) / 2
    inner = [
        (-bottom, low),
        (-cheek, (tip + 118) / 2),
        (-side, 104),
        (-side + 3, 92),
        (-25, temple),
        (left, line + 1.5),
        (part, line - 1),
        (right, line + 1.5),
        (25, temple),
        (side - 3, 92),
        (side, 104),
        (cheek, (tip + 118) / 2),
        (bottom, low),
    ]
    inner, outer = smooth(inner), smooth(outer)
    if face.wavy:
        phase = np.cumsum(np.r_[0, np.hypot(*np.diff(outer, axis=0).T)]) / 11 * np.pi
        outer = outer + np.sin(phase + rng.uniform(0, 6))[:, None] * np.sign(outer[:, :1]) * (2.8, 0) * (
            outer[:, 1:] > 80
        )
    return inner, outer


def strands(
    canvas: Canvas, face: Face, inner: np.ndarray, outer: np.ndarray, rng: np.random.Generator, count: int
) -> None:
    """Lighter and darker curves along the band."""
    u = np.linspace(0, face.curl_count * 2 * np.pi, len(inner))
    for f, tone, phase in zip(
        rng.uniform(0.02, 0.98, count), rng.normal(0, 1, count), rng.uniform(0, 1.5, count), strict=True
    ):
        curve = inner + (outer - inner) * f
        if face.wavy:
            curve = curve + np.sin(u + phase)[:, None] * (2.2, 1.2)
        first = rng.integers(0, len(inner) - 14)
        last = first + rng.integers(14, 40)
        colour = (
            lighter(face.hair, min(0.5, 0.2 * tone)) if tone > 0 else darker(face.hair, min(0.6, -0.3 * tone))
        )
        canvas.line(curve[first:last], colour, rng.uniform(0.5, 1.5), 115)


def back_hair(canvas: Canvas, face: Face, rng: np.random.Generator) -> None:
    """What of long hair falls behind the neck."""
    far, tip = face.width + face.volume + 2, face.hair_tip
    outline = smooth(
        mirrored([(0, 60), (far - 14, 66), (far - 1, 90), (far + 2, 130), (far + 2, tip), (0, tip - 4)]),
        closed=True,
    )
    canvas.fill(outline, darker(face.hair, 0.35))
    with canvas.inside(outline) as c:
        for x in rng.uniform(-far, far, 24):
            c.line([(x * 0.8, 120), (x, tip + 4)], darker(face.hair, 0.6), 0.9, 120)


def front_hair(canvas: Canvas, face: Face, rng: np.random.Generator) -> None:
    inner, outer = hair_band(face, rng)
    band = np.vstack([outer, inner[::-1]])
    # shadow on the forehead
    canvas.spot((face.parting, face.hairline + 4), (32, 8), shade(face.skin, 0.6), 0.4)
    canvas.fill(band, face.hair)
    with canvas.inside(band) as c:
        light = 1 if np.cos(face.light_angle) > 0 else -1
        c.spot((-light * 44, 120), (26, 90), darker(face.hair, 0.6), 0.5)
        c.spot((light * 20, 62), (26, 13), lighter(face.hair, 0.45), 0.45)
        strands(c, face, inner, outer, rng, 110)
        if not face.bangs and not face.receding:
            c.line(
                [(face.parting, face.hairline + 2), (face.parting * 0.7, face.hair_top + 14)],
                darker(face.hair, 0.5),
                1.1,
                190,
            )
    if face.bangs:
        fringe(canvas, face, rng)


def fringe(canvas: Canvas, face: Face, rng: np.random.Generator) -> None:
    """Locks from the crown down to the brows."""
    w = face.width - 5
    edges = np.linspace(-w, w, rng.integers(7, 12))
    for left, right in pairwise(edges):
        low = face.fringe_y + rng.uniform(-3, 3)
        middle = (left + right) / 2 + face.parting * 0.2
        lock = np.array(
            [
                (left * 0.7, 62),
                (left - 1.5, 84),
                (middle - 2.5, low),
                (middle + 2.5, low),
                (right + 1.5, 84),
                (right * 0.7, 62),
            ]
        )
        canvas.fill(lock, mix(face.hair, darker(face.hair, 0.4), rng.uniform(0, 0.4)))
        for _ in range(3):
            x = rng.uniform(left, right)
            tint = darker(face.hair, 0.35) if rng.random() < 0.6 else lighter(face.hair, 0.25)
            canvas.line([(x * 0.75, 66), (x, 84), (middle, low - 2)], tint, 0.7, 150)


def hat(canvas: Canvas, face: Face) -> None:
    """A beanie or a brimmed hat that sits high enough to let hair show beneath it."""
    w, top = face.width + face.volume + 1, face.hair_top - 12
    if face.hat == "beanie":
        canvas.fill(
            smooth([(-w + 2, 72), (-w + 5, 52), (-22, top), (22, top), (w - 5, 52), (w - 2, 72)]), face.accent
        )
        canvas.fill(
            smooth([(-w, 76), (-w, 61), (0, 56), (w, 61), (w, 76), (0, 69)], closed=True),
            darker(face.accent, 0.25),
        )
        for x in np.linspace(-w + 2, w - 2, 15):
            canvas.line([(x, 61), (x, 71)], darker(face.accent, 0.45), 0.8, 150)
    else:
        canvas.fill(
            smooth([(-w + 7, 68), (-w + 10, 40), (-14, top), (14, top), (w - 10, 40), (w - 7, 68)]),
            face.accent,
        )
        canvas.line(smooth([(-w + 8, 62), (0, 57), (w - 8, 62)]), darker(face.accent, 0.6), 4)
        canvas.fill(
            smooth([(-w - 16, 71), (0, 60), (w + 16, 71), (0, 75)], closed=True), darker(face.accent, 0.2)
        )


def earrings(canvas: Canvas, face: Face) -> None:
    for side in SIDES:
        x = side * (face.width + 2)
        canvas.dot((x, 134), face.earrings, face.metal, squeeze=1.3)
        canvas.dot((x - 0.5, 133), face.earrings * 0.45, lighter(face.metal, 0.8))


def glasses(canvas: Canvas, face: Face) -> None:
    t = np.linspace(0, 2 * np.pi, 29)
    form = {"round": 1.0, "oval": 1.0, "square": 0.45}[face.glasses]
    rx, ry = {"round": (14, 13), "oval": (15.5, 10), "square": (15.5, 10.5)}[face.glasses]
    for side in SIDES:
        ring = np.stack(
            [
                side * 19.5 + rx * np.sign(np.cos(t)) * np.abs(np.cos(t)) ** form,
                113.5 + ry * np.sign(np.sin(t)) * np.abs(np.sin(t)) ** form,
            ],
            1,
        )
        canvas.fill(ring, face.lens, face.lens_alpha)
        canvas.line(ring, face.frame, face.frame_width)
        canvas.line([(side * 34, 111), (side * (face.width + 1), 110)], face.frame, face.frame_width)
        canvas.line([(side * 19.5 - 6, 108), (side * 19.5 - 1, 105)], (255, 255, 255), 0.9, 130)
    canvas.line(smooth([(-5.5, 112), (0, 109.5), (5.5, 112)]), face.frame, face.frame_width)


def finish(image: Image.Image, face: Face, rng: np.random.Generator) -> Image.Image:
    """Directed light, exposure, colour temperature, focus and film grain on the picture at its final size."""
    if face.blurry:
        image = image.filter(ImageFilter.GaussianBlur(2.6))
    pixels = np.asarray(image, np.float32)  # (H, W, 3) in [0, 255]
    y, x = np.mgrid[-1 : 1 : HEIGHT * 1j, -1 : 1 : WIDTH * 1j].astype(np.float32)
    field = face.exposure * (
        1 + face.light * (np.cos(face.light_angle) * x - np.abs(np.sin(face.light_angle)) * y)
    )
    warm = np.array([1 + face.warmth, 1.0, 1 - face.warmth], np.float32)
    grain = rng.standard_normal((HEIGHT, WIDTH, 1), np.float32) * face.grain
    return Image.fromarray(np.clip(pixels * field[..., None] * warm + grain + 0.5, 0, 255).astype(np.uint8))


def paint(face: Face, rng: np.random.Generator) -> Image.Image:
    """Face -> RGB picture, 178 x 218. What the face does not fix (strands, background details, grain) comes
    from rng."""
    image = background(face, rng)
    torso = Canvas(image, 0.3 * face.angle, face.scale, face.shift)
    portrait = Canvas(image, face.angle, face.scale, face.shift, face.yaw)
    if not face.bald and face.hair_tip > 130:
        back_hair(portrait, face, rng)
    body(torso, face)
    head(portrait, face, rng)
    nose(portrait, face)
    beard(portrait, face, rng)
    mouth(portrait, face)
    eyes(portrait, face)
    if not face.bald:
        front_hair(portrait, face, rng)
    if face.earrings:  # after the hair, which would hide them
        earrings(portrait, face)
    if face.glasses:
        glasses(portrait, face)
    if face.hat:
        hat(portrait, face)
    return finish(image.reduce(ZOOM), face, rng)
