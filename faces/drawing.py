"""Paint what a sampled face lies on: backdrop, body and head, with polygons, lines and soft spots.

Coordinates are face units: x right of the middle of the face, y down, with the eyes at (-19, 112) and (19,
112), as in CelebA's aligned photos (178 x 218, middle of the face at x = 89). The picture is painted at twice
its size and halved once.
"""

import contextlib
import functools
from collections.abc import Iterator, Sequence

import numpy as np
from PIL import Image, ImageDraw

from faces.colours import Colour, darker, lighter, mix, shade
from faces.person import Face

WIDTH, HEIGHT, ZOOM = 178, 218, 2  # final pixels; painted at ZOOM times that
GREYS = np.arange(256)
SIDES = (-1, 1)  # left and right half of the picture
Point = Sequence[float]
Points = Sequence[Point] | np.ndarray  # (K, 2), face units


def smooth(points: Points, closed: bool = False, steps: int = 7) -> np.ndarray:
    """Catmull-Rom curve through points (K, 2) -> (about K * steps, 2)."""
    p = np.asarray(points, float)
    p = np.vstack([p[-1:], p, p[:2]]) if closed else np.vstack([p[:1], p, p[-1:]])
    t = np.arange(steps)[None, :, None] / steps
    a, b, c, d = (p[i : len(p) - 3 + i, None, :] for i in range(4))
    curve = 0.5 * (2 * b + (c - a) * t + (2 * a - 5 * b + 4 * c - d) * t**2 + (3 * b - a - 3 * c + d) * t**3)
    return np.vstack([curve.reshape(-1, 2), p[-2:-1]])


def mirrored(right: Points) -> np.ndarray:
    """Closed outline from the points of its right half, top to bottom."""
    right = np.asarray(right, float)
    return np.vstack([right, (right * (-1, 1))[::-1]])


@functools.cache
def soft_disc() -> Image.Image:
    y, x = np.mgrid[-1:1:48j, -1:1:48j]
    fall = np.clip(1 - x**2 - y**2, 0, 1) ** 1.5
    return Image.fromarray((255 * fall).astype(np.uint8))


class Canvas:
    """An RGB picture with a pose: face units -> pixels (yaw slides the middle of the face, then scale, turn,
    shift)."""

    def __init__(
        self,
        image: Image.Image,
        angle: float = 0.0,
        scale: float = 1.0,
        shift: Point = (0.0, 0.0),
        yaw: float = 0.0,
    ):
        self.image, self.pose = image, (angle, scale, shift, yaw)
        self.turn = np.cos(angle), np.sin(angle)
        self.draw = ImageDraw.Draw(image, "RGBA")

    def at(self, points: Points) -> np.ndarray:
        """Pixels (K, 2) of the painted picture."""
        _, scale, shift, yaw = self.pose
        c, s = self.turn
        p = np.array(points, float).reshape(-1, 2)
        x, y = p.T  # views; called 250 times a face, so by ufuncs alone
        x += yaw * np.maximum(1 - (x / 40) ** 2, 0)
        p -= (0, 130)
        p *= scale
        moved = np.empty_like(p)
        moved[:, 0] = x * c - y * s + WIDTH / 2 + shift[0]
        moved[:, 1] = x * s + y * c + 130 + shift[1]
        moved *= ZOOM
        return moved

    def fill(self, points: Points, colour: Colour, alpha: int = 255) -> None:
        self.draw.polygon(self.at(points).ravel().tolist(), fill=(*colour, alpha))

    def line(self, points: Points, colour: Colour, width: float = 1.0, alpha: int = 255) -> None:
        self.draw.line(
            self.at(points).ravel().tolist(),
            fill=(*colour, alpha),
            width=max(1, round(width * ZOOM)),
            joint="curve",
        )

    def dot(
        self, centre: Point, radius: float, colour: Colour, alpha: int = 255, squeeze: float = 1.0
    ) -> None:
        t = np.linspace(0, 2 * np.pi, 24, endpoint=False)
        # Built round the moved centre, so that the yaw does not deform small discs.
        (x, y), r = self.at([centre])[0], radius * ZOOM * self.pose[1]
        self.draw.polygon(
            np.stack([x + r * np.cos(t), y + r * squeeze * np.sin(t)], 1).ravel().tolist(),
            fill=(*colour, alpha),
        )

    def spot(self, centre: Point, radii: Point, colour: Colour, strength: float) -> None:
        """Soft-edged ellipse; strength 0 to 1 at its middle."""
        (x, y), size = self.at([centre])[0], [max(2, round(2 * r * ZOOM)) for r in radii]
        mask = soft_disc().resize(size).point(np.rint(GREYS * strength).astype(int).tolist())
        self.image.paste(colour, (round(x - size[0] / 2), round(y - size[1] / 2)), mask)

    @contextlib.contextmanager
    def inside(self, *outlines: Points) -> Iterator["Canvas"]:
        """A canvas on which only what falls inside one of the outlines is kept."""
        layer = Canvas(self.image.copy(), *self.pose)
        mask = Image.new("L", self.image.size)
        for outline in outlines:
            ImageDraw.Draw(mask).polygon(self.at(outline).ravel().tolist(), fill=255)
        yield layer
        self.image.paste(layer.image, mask=mask)


def background(face: Face, rng: np.random.Generator) -> Image.Image:
    """Gradient, out-of-focus lights, stripes or a mottled wall."""
    a, b = (np.array(c, float) for c in face.backdrop)
    y, x = np.mgrid[0:1:55j, 0:1:45j]
    turn = rng.uniform(0, 2 * np.pi)
    ramp = np.clip(0.5 + (x - 0.5) * np.cos(turn) + (y - 0.5) * np.sin(turn), 0, 1)
    if face.backdrop_kind == "stripes":
        ramp = 0.5 + 0.5 * np.tanh(3 * np.sin(2 * np.pi * rng.uniform(3, 7) * ramp + turn))
    if face.backdrop_kind == "mottled":
        coarse = Image.fromarray(rng.uniform(0, 1, (9, 8)).astype(np.float32))
        ramp = 0.5 * ramp + 0.5 * np.asarray(coarse.resize((45, 55), Image.Resampling.BICUBIC))
    colours = a + (b - a) * ramp[..., None]
    small = Image.fromarray(np.clip(colours, 0, 255).astype(np.uint8))
    canvas = Canvas(small.resize((WIDTH * ZOOM, HEIGHT * ZOOM), Image.Resampling.BILINEAR))
    if face.backdrop_kind == "lights":
        for _ in range(rng.integers(5, 14)):
            radius = rng.uniform(8, 34)
            tint = mix(face.backdrop[1], tuple(rng.integers(0, 256, 3)), 0.5)
            canvas.spot(
                (rng.uniform(-89, 89), rng.uniform(0, 200)), (radius, radius), tint, rng.uniform(0.3, 0.8)
            )
    return canvas.image


def body(canvas: Canvas, face: Face) -> None:
    """Neck, clothes, and what is worn on them."""
    skin, cloth, neck = face.skin, face.cloth, face.neck
    canvas.fill(smooth(mirrored([(neck, 150), (neck + 1, 178), (neck + 8, 191), (54, 206), (56, 240)])), skin)
    canvas.spot((0, 178), (neck + 8, 20), shade(skin, 0.6), 0.75)
    shoulder = 66 + 12 * face.male
    right = [(neck + 3, 183), (shoulder - 18, 193), (shoulder, 203), (shoulder + 9, 240)]
    depth = {"crew": 192, "v": 214, "suit": 216}[face.neckline]
    outline = np.vstack(
        [right, [(-x, y) for x, y in right[::-1]], [(-neck * 0.6, 190), (0, depth), (neck * 0.6, 190)]]
    )
    canvas.fill(outline, cloth)
    for side in SIDES:
        canvas.line(
            [(side * (neck + 3), 184), (side * neck * 0.6, 191), (0, depth)], darker(cloth, 0.35), 1.5
        )
        canvas.line([(side * (shoulder - 20), 198), (side * (shoulder - 26), 220)], darker(cloth, 0.25), 1.5)
    if face.neckline == "suit":
        canvas.fill(
            [(-neck, 184), (0, 196), (neck, 184), (neck + 4, 192), (0, 240), (-neck - 4, 192)], face.shirt
        )
        for side in SIDES:
            canvas.line([(side * neck, 185), (side * 5, 198)], darker(face.shirt, 0.3), 1)
    if face.necktie:
        canvas.fill([(-6, 189), (6, 189), (4, 197), (9, 240), (-9, 240), (-4, 197)], face.accent)
        canvas.line([(-5, 196), (5, 197)], darker(face.accent, 0.5), 1.2)
    if face.necklace:
        for x, y in smooth(
            [(-neck, 180), (-neck * 0.6, 189), (0, 194), (neck * 0.6, 189), (neck, 180)], steps=4
        ):
            canvas.dot((x, y), 1.7, lighter(face.metal, 0.2))


def head_outline(face: Face) -> np.ndarray:
    w, jaw, chin = face.width, face.jaw, face.chin
    return smooth(
        mirrored(
            [
                (0, 54),
                (22, 58),
                (w - 3, 76),
                (w, 98),
                (w, 118),
                (w - 3, 138),
                (jaw, 158),
                (chin, face.chin_y - 5),
                (0, face.chin_y),
            ]
        ),
        closed=True,
    )


def head(canvas: Canvas, face: Face, rng: np.random.Generator) -> None:
    """Ears, then the skin with the shading that gives it form."""
    skin, dark = face.skin, shade(face.skin, 0.55)
    for side in SIDES:
        x = side * (face.width + 1)
        canvas.dot((x, 120), 7, mix(skin, dark, 0.18), squeeze=1.6)
        canvas.line(smooth([(x + side * 2, 113), (x + side * 4, 120), (x, 127)]), dark, 0.8, 150)
    outline = head_outline(face)
    canvas.fill(outline, skin)
    with canvas.inside(outline) as c:
        light = 1 if np.cos(face.light_angle) > 0 else -1
        c.spot((-light * (face.width + 2), 125), (34, 75), dark, 0.62)
        c.spot((light * (face.width + 4), 130), (20, 70), dark, 0.35)
        c.spot((0, face.chin_y + 2), (40, 12), dark, 0.4)
        c.spot((light * 8, 82), (32, 20), lighter(skin, 0.7), 0.45)
        for side in SIDES:
            c.spot((side * 24, 131), (14, 11), lighter(skin, 0.6), 0.4 if side == light else 0.15)
            c.spot((side * 18, 111), (15, 10), dark, 0.3)  # eye sockets
            if face.cheekbones:
                c.spot((side * 27, 146), (9, 16), dark, 0.35)
            if face.rosy:
                c.spot((side * 26, 138), (15, 12), mix(skin, (232, 60, 80), 0.75), 0.8)
        if face.bald:
            c.spot((light * 10, 66), (22, 12), lighter(skin, 0.9), 0.7)
        if face.double_chin:
            c.line(
                smooth([(-17, face.chin_y - 7), (0, face.chin_y - 2), (17, face.chin_y - 7)]), dark, 1.4, 170
            )
        if face.age:
            wrinkles(c, face, rng)


def wrinkles(canvas: Canvas, face: Face, rng: np.random.Generator) -> None:
    """What makes a face old: forehead lines, folds round the mouth, crow's feet, age spots."""
    ink = darker(face.skin, 0.5)
    alpha = int(150 + 90 * face.age)
    for y in (85, 92, 99)[: 2 + (face.age > 0.4)]:
        bend = rng.uniform(-2, 2)
        canvas.line(smooth([(-23, y + 1), (-9, y - 1 + bend), (9, y + bend), (23, y + 1)]), ink, 1.5, alpha)
    for side in SIDES:
        canvas.line(smooth([(side * 12, 135), (side * 20, 144), (side * 23, 156)]), ink, 1.9, alpha)
        canvas.line(smooth([(side * 17, 160), (side * 18, 167)]), ink, 1.5, alpha)
        canvas.line([(side * 3.5, 100), (side * 3, 107)], ink, 1.2, alpha)
        for dy in (-3, 1, 5):
            canvas.line([(side * 31, 112 + dy * 0.6), (side * 37, 112 + dy * 1.6)], ink, 1.0, alpha)
        canvas.spot((side * 27, 164), (9, 9), ink, 0.35)
    for _ in range(rng.integers(2, 9)):
        canvas.spot((rng.uniform(-34, 34), rng.uniform(72, 150)), (2.2, 2.0), ink, 0.5)
