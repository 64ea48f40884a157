"""Paint the features of a sampled face: eyes and brows, nose, mouth, beard. Units as in faces/drawing.py."""

import numpy as np

from faces.colours import darker, lighter, mix, shade
from faces.drawing import SIDES, Canvas, smooth
from faces.person import Face


def eyes(canvas: Canvas, face: Face) -> None:
    dark = shade(face.skin, 0.6)
    for side in SIDES:
        x, w, h = side * 19, face.eye_width, face.eye_height
        upper = smooth(
            [
                (x - w, 113),
                (x - w * 0.5, 112 - h * 0.8),
                (x + w * 0.15 * side, 112 - h),
                (x + w * 0.6, 112 - h * 0.65),
                (x + w, 113),
            ]
        )
        lower = smooth(
            [(x + w, 113), (x + w * 0.3, 112 + h * 0.75), (x - w * 0.4, 112 + h * 0.75), (x - w, 113)]
        )
        if face.makeup:
            canvas.spot((x, 107), (14, 9), face.shadow, 0.95)
        if face.bags:
            canvas.spot((x, 121), (12, 6), dark, 0.75)
            canvas.line(smooth([(x - 9, 119), (x, 123), (x + 9, 119)]), dark, 1.3, 200)
        outline = np.vstack([upper, lower])
        canvas.fill(outline, (246, 242, 240))
        with canvas.inside(outline) as c:
            iris = (x + face.gaze, 112 - h * 0.1)
            c.dot(iris, 5.0, darker(face.iris, 0.5))
            c.dot(iris, 4.2, face.iris)
            c.dot(iris, 2.0, (14, 10, 12))
            c.dot((iris[0] - 1.6, iris[1] - 1.7), 1.1, (255, 255, 255))
            c.line(upper + (0, 1.2), dark, 1.4, 90)
        canvas.line(upper, (28, 18, 18), 2.2 if face.lashes else 1.1)
        canvas.line(lower, dark, 0.8, 130)
        canvas.line(upper[3:-3] - (0, 2.8 + 0.8 * face.lashes), dark, 0.8, 170)
        if face.lashes:
            for k in range(3):
                canvas.line(
                    [(x + side * (w - 3 * k), 112 - 1.6 * k), (x + side * (w + 4 - 3.2 * k), 108.5 - 2 * k)],
                    (28, 18, 18),
                    0.9,
                )
        thick, y, lift = face.brow_thickness, 99 - face.brow_height, 4.0 * face.arched
        brow = smooth([(x - side * 11, y + 2), (x + side * 1, y - 1.5 - lift), (x + side * 14, y + 2.5)])
        taper = np.linspace(1.0, 0.45, len(brow))[:, None] * (0, thick)
        canvas.fill(np.vstack([brow, (brow + taper)[::-1]]), face.brow_colour, 235)


def nose(canvas: Canvas, face: Face) -> None:
    dark, w = shade(face.skin, 0.55), face.nose_width
    light = 1 if np.cos(face.light_angle) > 0 else -1
    canvas.spot((-light * 6, 122), (7, 22), dark, 0.38)
    canvas.spot((light * 1.5, 120), (4, 20), lighter(face.skin, 0.7), 0.45)
    canvas.spot((0, 135), (w + 4, 9), mix(face.skin, (205, 90, 80), 0.3), 0.6)
    canvas.spot((light * 1.5, 133), (w * 0.45, 5), lighter(face.skin, 0.8), 0.5)
    for side in SIDES:
        canvas.dot((side * w * 0.45, 138.5), w * 0.2, shade(face.skin, 0.8), 220, squeeze=0.6)
        canvas.line(
            smooth([(side * (w - 2), 131), (side * w, 136), (side * (w - 2.5), 139.5)]), dark, 1.3, 200
        )
    tip = [(-w * 0.5, 139), (0, 143 if face.pointy_nose else 140.5), (w * 0.5, 139)]
    canvas.line(tip if face.pointy_nose else smooth(tip), dark, 1.5 if face.pointy_nose else 1.0, 190)


def mouth(canvas: Canvas, face: Face) -> None:
    w, lift, gap = face.mouth_width, face.smile, face.gap
    y, thick, lip = 153, face.lip_thickness, face.lip
    corner = [(-w, y - lift), (w, y - lift)]
    top = smooth(
        [
            corner[0],
            (-w * 0.5, y - thick * 0.75),
            (-w * 0.2, y - thick),
            (0, y - thick * 0.75),
            (w * 0.2, y - thick),
            (w * 0.5, y - thick * 0.75),
            corner[1],
        ]
    )
    high, low, rim = y - gap * 0.3 + lift * 0.1, y + gap * 0.8 + lift * 0.2, y + gap + thick + lift * 0.1
    upper_edge = smooth([corner[1], (w * 0.5, high), (0, high + lift * 0.2), (-w * 0.5, high), corner[0]])
    lower_edge = smooth([corner[0], (-w * 0.5, low), (0, y + gap + lift * 0.5), (w * 0.5, low), corner[1]])
    bottom = smooth(
        [corner[1], (w * 0.5, rim), (0, y + gap + thick * 1.3 + lift * 0.5), (-w * 0.5, rim), corner[0]]
    )
    canvas.spot((0, y + gap + thick * 1.4 + 5), (13, 5), shade(face.skin, 0.5), 0.45)
    canvas.fill(np.vstack([top, bottom]), lip)
    canvas.fill(np.vstack([top, upper_edge]), darker(lip, 0.18))
    canvas.spot((2, y + gap + thick * 0.6 + lift * 0.4), (w * 0.45, 2.4), lighter(lip, 0.7), 0.5)
    inner = np.vstack([upper_edge, lower_edge])
    if gap:
        canvas.fill(inner, (74, 22, 26))
        with canvas.inside(inner) as c:
            c.fill(
                [
                    (-w, y - 9),
                    (w, y - 9),
                    (w, y + gap * 0.45),
                    (0, y + gap * 0.55 + lift * 0.4),
                    (-w, y + gap * 0.45),
                ],
                (244, 240, 232),
            )
    else:
        canvas.line(upper_edge, darker(lip, 0.6), 1.2)
    for side in SIDES:
        # a smile also folds the cheeks
        if lift > 1:
            canvas.line(
                smooth([(side * 13, 139), (side * (w + 4), y - lift - 3), (side * (w + 4), y - lift + 4)]),
                shade(face.skin, 0.45),
                1.2,
                150,
            )
        canvas.dot((side * w, y - lift), 0.9, shade(face.skin, 0.6), 180)


def beard(canvas: Canvas, face: Face, rng: np.random.Generator) -> None:
    """Stubble, goatee, mustache, full beard and sideburns, each in the colour of the brows."""
    ink, w, base = face.brow_colour, face.width, face.chin_y
    full = np.vstack(
        [
            smooth(
                [
                    (w - 1, 118),
                    (w - 2, 140),
                    (face.jaw + 1, 159),
                    (face.chin + 1, base - 3),
                    (0, base + 4),
                    (-face.chin - 1, base - 3),
                    (-face.jaw - 1, 159),
                    (-w + 2, 140),
                    (-w + 1, 118),
                ]
            ),
            smooth(
                [
                    (-w + 5, 120),
                    (-w + 9, 140),
                    (-20, 152),
                    (-11, 145),
                    (0, 143.5),
                    (11, 145),
                    (20, 152),
                    (w - 9, 140),
                    (w - 5, 120),
                ]
            ),
        ]
    )
    drop = 3 + face.smile * 0.5
    end = (face.mouth_width + 1) * np.array(SIDES)
    lip_hair = smooth(
        [
            (0, 144),
            (9, 143.5),
            (end[1], 154 - drop),
            (10, 150),
            (0, 148.5),
            (-10, 150),
            (end[0], 154 - drop),
            (-9, 143.5),
        ],
        closed=True,
    )
    chin_hair = smooth(
        [(-12, base - 15), (0, base - 12.5), (12, base - 15), (13, base - 4), (0, base + 5), (-13, base - 4)],
        closed=True,
    )
    parts = {"mustache": [lip_hair], "goatee": [lip_hair, chin_hair], "full": [full], "stubble": [full]}.get(
        face.beard, []
    )
    parts = (
        parts
        + [
            s * np.array([(w + 1, 96), (w + 1, 138), (w - 4, 140), (w - 6, 132), (w - 5, 96)]) * (1, s)
            for s in SIDES
        ]
        * face.sideburns
    )
    if not parts:
        return
    with canvas.inside(*parts) as c:
        stubble = face.beard == "stubble"
        for part in parts:
            c.fill(part, ink, 95 if stubble else 215)
        roots = np.stack([rng.uniform(-w, w, 260), rng.uniform(100, base + 4, 260)], 1)
        for (x, y), tone in zip(roots, rng.uniform(-0.5, 0.4, 260), strict=True):
            colour = darker(ink, -tone) if tone < 0 else lighter(ink, tone)
            c.line([(x, y), (x * 1.03, y + (1.5 if stubble else 5))], colour, 0.5, 110)
