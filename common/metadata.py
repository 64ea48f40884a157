"""What stands beside an image's pixels in its file: none of it may cost the picture, at most the
orientation."""

import struct

from PIL import Image

PNG, JPEG = b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff"
PNG_KEPT = (b"IHDR", b"PLTE", b"IDAT", b"IEND", b"tRNS")  # chunks that decide pixels
TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}  # by EXIF's orientation, as PIL.ImageOps.exif_transpose, which also rewrites the EXIF and may fail at that
HEIF = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")


def upright(image: Image.Image) -> Image.Image:
    """A decoded image turned as its EXIF says; as it is where that cannot be read."""
    try:
        turn = TURNS.get(image.getexif().get(0x0112, 1))
    except Exception:  # EXIF is parsed by many hands, and by none of them is it a reason to lose the photo
        turn = None
    return image if turn is None else image.transpose(turn)


def without_metadata(data: bytes) -> bytes | None:
    """The bytes of a PNG or JPEG file with what decides its pixels alone; None for other files."""
    if data.startswith(PNG):
        return _png(data)
    return _jpeg(data) if data.startswith(JPEG) else None


def _png(data):
    parts, at = [PNG], len(PNG)
    while at + 12 <= len(data):
        (length,) = struct.unpack_from(">I", data, at)
        kind, end = data[at + 4 : at + 8], at + 12 + length
        if kind in PNG_KEPT:
            parts.append(data[at:end])
        at = end
    return b"".join(parts)


def _jpeg(data):
    parts, at = [data[:2]], 2
    while at + 4 <= len(data) and data[at] == 0xFF and data[at + 1] != 0xDA:  # up to the scan
        end = at + 2 + int.from_bytes(data[at + 2 : at + 4], "big")
        # APP0 is JFIF's, APP14 says how colours are coded; the others and comments tell of no pixel
        if data[at + 1] in (0xE0, 0xEE) or not (0xE0 <= data[at + 1] <= 0xEF or data[at + 1] == 0xFE):
            parts.append(data[at:end])
        at = end
    return b"".join([*parts, data[at:]])


def format_without_decoder(start: bytes) -> tuple[str, str] | None:
    """(format, what gives a decoder) of a file that Pillow may lack one for, by its first 32 bytes."""
    if start[4:8] == b"ftyp" and start[8:12] in HEIF:
        return "HEIC", "install pillow-heif"
    if start[4:8] == b"ftyp" and start[8:12] in (b"avif", b"avis"):
        return "AVIF", "install Pillow 11.3 or later"
    if start[:2] == b"\xff\x0a" or start[4:12] == b"JXL \r\n\x87\n":
        return "JPEG XL", "Pillow has none"
    return None
