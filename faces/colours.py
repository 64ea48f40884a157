"""Colours as three ints from 0 to 255, and what lies between two of them."""

Colour = tuple[int, ...]


def mix(a: Colour, b: Colour, share: float) -> Colour:
    """Colour between a (share 0) and b (share 1), as three ints."""
    return tuple(int(round(x + (y - x) * share)) for x, y in zip(a, b, strict=True))


def darker(colour: Colour, share: float) -> Colour:
    return mix(colour, (20, 10, 12), share)


def shade(skin: Colour, share: float) -> Colour:
    """Shadow on skin: warmer than on cloth or hair."""
    return mix(skin, (64, 20, 12), share)


def lighter(colour: Colour, share: float) -> Colour:
    return mix(colour, (255, 250, 240), share)
