"""Who is drawn: a person in a photo, sampled from a seeded stream, and the attributes true of both."""

from dataclasses import dataclass

import numpy as np

from faces.colours import darker, lighter, mix

ATTRIBUTES = (
    "5_o_Clock_Shadow Arched_Eyebrows Attractive Bags_Under_Eyes Bald Bangs Big_Lips Big_Nose Black_Hair"
    " Blond_Hair Blurry Brown_Hair Bushy_Eyebrows Chubby Double_Chin Eyeglasses Goatee Gray_Hair Heavy_Makeup"
    " High_Cheekbones Male Mouth_Slightly_Open Mustache Narrow_Eyes No_Beard Oval_Face Pale_Skin Pointy_Nose"
    " Receding_Hairline Rosy_Cheeks Sideburns Smiling Straight_Hair Wavy_Hair Wearing_Earrings Wearing_Hat"
    " Wearing_Lipstick Wearing_Necklace Wearing_Necktie Young"
).split()

HAIR_COLOURS = {
    "Black": [(24, 20, 22), (40, 34, 38)],
    "Brown": [(92, 54, 32), (126, 78, 44)],
    "Blond": [(214, 170, 92), (240, 210, 136)],
    # copper has no CelebA name
    "Gray": [(150, 150, 156), (208, 208, 212)],
    "copper": [(170, 56, 20), (196, 84, 30)],
}
# light to dark
SKIN_TONES = [(252, 218, 192), (240, 196, 162), (222, 168, 130), (186, 128, 94), (140, 92, 68), (104, 68, 50)]
IRISES = [(84, 50, 28), (58, 36, 24), (96, 132, 168), (92, 128, 84), (120, 96, 52), (110, 118, 126)]


@dataclass
class Face:
    """One person in one photo, in the face units and colours that the painter reads (faces/drawing.py)."""

    # who
    male: bool
    age: float
    skin: tuple
    hair_name: str | None
    hair: tuple
    bald: bool
    width: float
    jaw: float
    chin: float
    chin_y: float
    neck: float
    chubby: bool
    double_chin: bool
    cheekbones: bool
    pale: bool
    # hair
    volume: float
    hair_top: float
    hair_tip: float
    hairline: float
    parting: float
    wavy: bool
    curl_count: float
    bangs: bool
    fringe_y: float
    receding: bool
    hat: str | None
    # features
    eye_width: float
    eye_height: float
    iris: tuple
    gaze: float
    bags: bool
    lashes: bool
    brow_thickness: float
    brow_height: float
    arched: bool
    brow_colour: tuple
    nose_width: float
    pointy_nose: bool
    mouth_width: float
    lip_thickness: float
    lip: tuple
    smile: float
    gap: float
    lipstick: bool
    beard: str | None
    sideburns: bool
    makeup: bool
    shadow: tuple
    rosy: bool
    # worn
    glasses: str | None
    frame: tuple
    frame_width: float
    lens: tuple
    lens_alpha: int
    earrings: float
    necklace: bool
    metal: tuple
    cloth: tuple
    shirt: tuple
    accent: tuple
    neckline: str
    necktie: bool
    # the photo
    angle: float
    scale: float
    shift: tuple
    yaw: float
    backdrop: tuple
    backdrop_kind: str
    light: float
    light_angle: float
    exposure: float
    warmth: float
    grain: float
    blurry: bool


def sample_face(rng: np.random.Generator) -> Face:
    """Draw a person and a photo. Sex, age and hair colour are independent, but that grey and bald go with
    age."""

    def chance(p):
        return bool(rng.random() < p)

    def colour(low=20, high=236):
        return tuple(int(v) for v in rng.integers(low, high, 3))

    def one_of(options, p=None):
        return options[rng.choice(len(options), p=p)]

    male, old = chance(0.45), chance(0.3)
    bald = chance((0.06 if not old else 0.15) if male else 0.01)
    gray = 0.27 if old else 0.04
    shares = np.array([0.32, 0.26, 0.27, 0, 0.06])
    hair_name = (
        None
        if bald
        else one_of(list(HAIR_COLOURS), shares / shares.sum() * (1 - gray) + np.array([0, 0, 0, gray, 0]))
    )
    strand = mix(*HAIR_COLOURS[hair_name or one_of(["Black", "Brown"])], rng.random())
    pale = chance(0.06)
    tone = rng.beta(1.1, 1.7) * (len(SKIN_TONES) - 1.001)
    skin = (250, 230, 222) if pale else mix(SKIN_TONES[int(tone)], SKIN_TONES[int(tone) + 1], tone % 1)
    if old:
        skin = mix(skin, (158, 142, 128), 0.22)

    chubby = chance(0.12)
    width = rng.uniform(37.5, 41) + 1.5 * male + 2 * chubby
    length = one_of(["short", "middle", "long"], [0.86, 0.09, 0.05] if male else [0.1, 0.25, 0.65])
    volume = {"short": rng.uniform(2, 6), "middle": rng.uniform(7, 12), "long": rng.uniform(9, 16)}[length]
    tip = {"short": rng.uniform(106, 116), "middle": rng.uniform(140, 166), "long": rng.uniform(182, 212)}[
        length
    ]
    receding = not bald and chance((0.3 if old else 0.08) if male else 0.02)
    bangs = not bald and not receding and chance(0.12 if male else 0.25)
    lipstick = not male and chance(0.72)
    makeup = lipstick and chance(0.45)
    lip = mix(skin, (190, 84, 84), 0.35 if male else 0.5)
    if lipstick:
        lip = one_of([(198, 24, 48), (176, 20, 60), (214, 52, 84), (150, 16, 40)])
    smiling = chance(0.48)
    opened = chance(0.7 if smiling else 0.22)
    beard = (
        one_of([None, "stubble", "mustache", "goatee", "full"], [0.54, 0.14, 0.08, 0.1, 0.14])
        if male
        else None
    )
    bushy = chance(0.3 if male else 0.04)
    big_nose, pointy = chance(0.4 if male else 0.12), chance(0.22)
    narrow = chance(0.12)
    glasses = one_of([None, "round", "oval", "square"], [0.86, 0.045, 0.045, 0.05])
    shades = glasses is not None and chance(0.2)
    formal = chance(0.35 if male else 0.1)
    brow = darker(strand if hair_name != "Blond" else mix(strand, (120, 84, 44), 0.55), 0.3)
    kind = one_of(["gradient", "lights", "stripes", "mottled"], [0.35, 0.3, 0.1, 0.25])
    # muted, as rooms are
    wall, other = (mix(colour(), (rng.uniform(40, 225),) * 3, 0.55) for _ in range(2))
    return Face(
        male=male,
        age=rng.uniform(0.2, 1) if old else 0.0,
        skin=skin,
        hair_name=hair_name,
        hair=strand,
        bald=bald,
        width=width,
        jaw=(rng.uniform(32, 36) if male else rng.uniform(25.5, 29)) + 4 * chubby,
        chin=(rng.uniform(16, 21) if male else rng.uniform(9, 13)) + 3 * chubby,
        chin_y=rng.uniform(174, 179) + 2.5 * male,
        neck=rng.uniform(26, 30) if male else rng.uniform(18, 21.5),
        chubby=chubby,
        double_chin=chubby and chance(0.7),
        cheekbones=chance(0.3),
        pale=pale,
        volume=volume,
        hair_top=rng.uniform(37, 41 if receding else 46) - 0.2 * volume,
        hair_tip=tip,
        hairline=rng.uniform(60, 66) if receding else rng.uniform(73, 81),
        parting=rng.uniform(-19, 19),
        wavy=not bald and chance(0.4),
        curl_count=rng.uniform(3, 6),
        bangs=bangs,
        fringe_y=rng.uniform(95, 101),
        receding=receding,
        hat=one_of(["beanie", "cap"]) if chance(0.04) and not bald and not receding and not bangs else None,
        eye_width=rng.uniform(9.2, 10.6) + 0.6 * (not male),
        eye_height=rng.uniform(2.2, 2.8) if narrow else rng.uniform(4.4, 5.8) + 0.6 * (not male),
        iris=one_of(IRISES),
        gaze=rng.uniform(-2, 2),
        bags=chance(0.85) if old else chance(0.06),
        lashes=not male,
        brow_thickness=(
            rng.uniform(6, 7.2) if bushy else rng.uniform(3.8, 5) if male else rng.uniform(1.8, 2.8)
        ),
        brow_height=rng.uniform(-2.5, 0.5) if male else rng.uniform(-0.5, 3),
        arched=chance(0.08 if male else 0.4),
        brow_colour=brow,
        nose_width=rng.uniform(13.5, 15.5) if big_nose else rng.uniform(8.5, 11) + male,
        pointy_nose=pointy and not big_nose,
        mouth_width=rng.uniform(13.5, 16) + 3 * smiling,
        lip_thickness=rng.uniform(5.6, 6.8) if chance(0.25) else rng.uniform(3, 4.6) - 0.8 * (old or male),
        lip=lip,
        smile=rng.uniform(4, 6.5) if smiling else rng.uniform(-1.5, 0.8),
        gap=rng.uniform(3.5, 7) if opened else 0.0,
        lipstick=lipstick,
        beard=beard,
        sideburns=length == "short" and (beard == "full" or (male and not bald and chance(0.15))),
        makeup=makeup,
        shadow=one_of([(110, 60, 130), (60, 90, 150), (120, 70, 50), (60, 50, 60)]),
        rosy=makeup and chance(0.5) or (not male and chance(0.08)),
        glasses=glasses,
        frame=one_of([(20, 20, 24), (92, 48, 24), (150, 150, 160), (160, 30, 40), (190, 150, 70)]),
        frame_width=rng.uniform(1.2, 2.6),
        lens=(24, 22, 28) if shades else (220, 236, 246),
        lens_alpha=165 if shades else 40,
        earrings=0.0 if chance(0.96 if male else 0.66) else rng.uniform(2.6, 4.4),
        necklace=not male and not formal and chance(0.25),
        metal=one_of([(212, 170, 60), (196, 200, 208), (240, 236, 224)]),
        cloth=darker(colour(), 0.5) if formal else colour(),
        shirt=lighter(colour(), 0.75),
        accent=colour(20, 200),
        neckline="suit" if formal else one_of(["crew", "v"]),
        necktie=formal and male and chance(0.75),
        angle=float(np.clip(rng.normal(0, 0.045), -0.11, 0.11)),
        scale=rng.uniform(0.95, 1.06),
        shift=(rng.normal(0, 2), rng.normal(0, 1.6)),
        yaw=rng.uniform(-6.5, 6.5),
        backdrop=(wall, mix(wall, other, rng.uniform(0.4, 1))),
        backdrop_kind=kind,
        light=rng.uniform(0, 0.2),
        light_angle=rng.uniform(0, 2 * np.pi),
        exposure=rng.uniform(0.84, 1.12),
        warmth=rng.normal(0, 0.035),
        grain=rng.uniform(0.8, 3),
        blurry=chance(0.04),
    )


def attributes(face: Face) -> dict[str, int]:
    """The 40 attributes of a face, name -> 1 or -1. What the painter does not show (Attractive, for one) is
    always -1."""
    bare = not face.bald
    true = {
        "5_o_Clock_Shadow": face.beard == "stubble",
        "Goatee": face.beard == "goatee",
        "Mustache": face.beard in ("mustache", "goatee", "full"),
        "Sideburns": face.sideburns,
        "No_Beard": face.beard is None,
        "Arched_Eyebrows": face.arched,
        "Bushy_Eyebrows": face.brow_thickness > 5.5,
        "Bags_Under_Eyes": face.bags,
        "Bald": face.bald,
        "Bangs": face.bangs,
        "Receding_Hairline": face.receding,
        "Wavy_Hair": face.wavy,
        "Straight_Hair": bare and not face.wavy,
        "Big_Lips": face.lip_thickness > 5,
        "Big_Nose": face.nose_width > 13,
        "Pointy_Nose": face.pointy_nose,
        "Blurry": face.blurry,
        "Chubby": face.chubby,
        "Double_Chin": face.double_chin,
        "Eyeglasses": face.glasses is not None,
        "Heavy_Makeup": face.makeup,
        "Male": face.male,
        "Mouth_Slightly_Open": face.gap > 0,
        "Narrow_Eyes": face.eye_height < 3,
        "Oval_Face": face.jaw < 27,
        "Pale_Skin": face.pale,
        "Rosy_Cheeks": face.rosy,
        "High_Cheekbones": face.cheekbones,
        "Smiling": face.smile > 2,
        "Wearing_Earrings": face.earrings > 0,
        "Wearing_Hat": face.hat is not None,
        "Wearing_Lipstick": face.lipstick,
        "Wearing_Necklace": face.necklace,
        "Wearing_Necktie": face.necktie,
        "Young": face.age == 0,
    }
    true |= {f"{name}_Hair": face.hair_name == name for name in ("Black", "Blond", "Brown", "Gray")}
    return {name: 1 if true.get(name, False) else -1 for name in ATTRIBUTES}
