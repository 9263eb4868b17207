"""A hundred image files of every kind that people have, from one seed."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np

ORIENTATION = 0x0112
SIZES = (  # width, height
    *((20, 20), (21, 33), (28, 28), (40, 25), (64, 64), (65, 129), (97, 20), (100, 75), (150, 151)),
    *((199, 87), (224, 224), (225, 257), (256, 192), (288, 300), (301, 200), (320, 240)),
)
LARGE = {  # number of the image: its size
    7: (640, 480),
    23: (500, 800),
    38: (1279, 720),
    52: (800, 800),
    61: (3000, 120),
    70: (60, 2000),
    84: (4000, 1500),
    95: (900, 4000),
}


def written(folder, seed=24):
    """(path, kind) of each."""
    rng = np.random.default_rng(seed)
    kinds = list(KINDS)
    pictures = []
    for number in range(100):
        kind = kinds[number % len(kinds)]
        width, height = LARGE.get(number) or SIZES[rng.integers(len(SIZES))]
        suffix, make = KINDS[kind]
        path = folder / f"{number:02}-{kind}-{width}x{height}-{number % 8 + 1}.{suffix}"
        path.write_bytes(make(_scene(rng, width, height), rng, number % 8 + 1))
        pictures.append((path, kind))
    return pictures


def _scene(rng, width, height):
    """RGB (H, W, 3): soft patches, some edges, a little noise, as photographs have."""
    from PIL import Image

    coarse = rng.integers(0, 256, (2 + height // 40, 2 + width // 40, 3), np.uint8)
    soft = np.asarray(Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)).astype(int)
    for _ in range(4):
        top, left = rng.integers(0, height), rng.integers(0, width)
        soft[top : top + height // 3, left : left + width // 3] = rng.integers(0, 256, 3)
    noise = rng.integers(-6, 7, (height, width, 1))
    return (soft + noise).clip(0, 255).astype(np.uint8)


def _saved(image, kind, orientation, **options):
    from PIL import Image

    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    stream = io.BytesIO()
    image.save(stream, kind, **({"exif": exif} if kind != "GIF" and kind != "BMP" else {}), **options)
    return stream.getvalue()


def _of(convert, kind, **options):
    """A maker from what is done to the pixels, and how Pillow saves it."""
    from PIL import Image

    def make(pixels, rng, orientation):
        picture = convert(pixels, rng)
        image = picture if isinstance(picture, Image.Image) else Image.fromarray(picture)
        return _saved(image, kind, orientation, **options)

    return make


def _mode(name):
    from PIL import Image

    return lambda pixels, rng: Image.fromarray(pixels).convert(name)


def _plain(pixels, rng):
    return pixels


def _with_alpha(pixels, rng):
    """Pixels with a fourth channel: clear, opaque and everything between."""
    height, width = pixels.shape[:2]
    slope = np.linspace(-60, 315, width).clip(0, 255)[None].repeat(height, 0)
    return np.dstack([pixels, slope.astype(np.uint8)])


def _grey_with_alpha(pixels, rng):
    from PIL import Image

    return Image.fromarray(_with_alpha(pixels, rng)).convert("LA")


def _clear_palette(pixels, rng):
    from PIL import Image

    image = Image.fromarray(pixels).quantize(32)
    image.info["transparency"] = bytes(rng.integers(0, 256, 32, np.uint8))
    return image


def _16_bits(pixels, rng):
    wide = pixels[..., 1].astype(np.uint16) * 256
    return wide + rng.integers(0, 256, wide.shape, np.uint16)


def _16_bit_colours(pixels, rng, orientation):
    """An RGB PNG of 16 bits, which Pillow cannot write."""
    values = (pixels.astype(np.uint16) * 256 + rng.integers(0, 256, pixels.shape, np.uint16)).astype(">u2")
    height, width = pixels.shape[:2]
    rows = b"".join(b"\0" + row.tobytes() for row in values)
    head = struct.pack(">IIBBBBB", width, height, 16, 2, 0, 0, 0)
    chunks = ((b"IHDR", head), (b"IDAT", zlib.compress(rows, 1)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(map(_chunk, chunks))


def _chunk(part):
    name, data = part
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def linear_profile():
    """An ICC profile whose bytes are proportional to light: who applies it sees everything lighter."""
    xyz = {
        b"rXYZ": (0.4361, 0.2225, 0.0139),
        b"gXYZ": (0.3851, 0.7169, 0.0971),
        b"bXYZ": (0.1431, 0.0606, 0.7141),
        b"wtpt": (0.9642, 1.0, 0.8249),
    }
    tags = {
        name: b"XYZ \0\0\0\0" + struct.pack(">3i", *(round(v * 65536) for v in values))
        for name, values in xyz.items()
    }
    tags |= {name: b"curv" + bytes(8) for name in (b"rTRC", b"gTRC", b"bTRC")}
    tags |= {b"cprt": b"text\0\0\0\0none\0\0\0\0", b"desc": b"desc\0\0\0\0\0\0\0\x02x\0" + bytes(78)}
    place, table, data = 128 + 4 + 12 * len(tags), b"", b""
    for name, content in tags.items():
        table += name + struct.pack(">II", place + len(data), len(content))
        data += content + bytes(-len(content) % 4)
    head = struct.pack(">II", 0, 0x02400000) + b"mntrRGB XYZ " + bytes(12) + b"acsp" + bytes(28)
    head += struct.pack(">3i", 63190, 65536, 54061) + bytes(48)
    whole = head + struct.pack(">I", len(tags)) + table + data
    return struct.pack(">I", len(whole)) + whole[4:]


KINDS = {
    "photo": ("jpg", _of(_plain, "JPEG", quality=90)),
    "plain": ("png", _of(_plain, "PNG")),
    "grey": ("png", _of(_mode("L"), "PNG")),
    "progressive": ("jpg", _of(_plain, "JPEG", quality=80, progressive=True)),
    "grey-alpha": ("png", _of(_grey_with_alpha, "PNG")),
    "alpha": ("png", _of(_with_alpha, "PNG")),
    "palette": ("png", _of(_mode("P"), "PNG")),
    "cmyk": ("jpg", _of(_mode("CMYK"), "JPEG", quality=92)),
    "clear-palette": ("png", _of(_clear_palette, "PNG")),
    "grey-16": ("png", _of(_16_bits, "PNG")),
    "lossy-webp": ("webp", _of(_plain, "WEBP", quality=85)),
    "one-bit": ("png", _of(_mode("1"), "PNG")),
    "rgb-16": ("png", _16_bit_colours),
    "grey-photo": ("jpg", _of(_mode("L"), "JPEG", quality=85)),
    "tiff-16": ("tif", _of(_16_bits, "TIFF")),
    "alpha-webp": ("webp", _of(_with_alpha, "WEBP", lossless=True, exact=True)),
    "profile": ("jpg", _of(_plain, "JPEG", quality=90, icc_profile=linear_profile())),
    "full-chroma": ("jpg", _of(_plain, "JPEG", quality=95, subsampling=0)),
    "profile-png": ("png", _of(_plain, "PNG", icc_profile=linear_profile())),
    "tiff": ("tif", _of(_plain, "TIFF")),
    "gif": ("gif", _of(_mode("P"), "GIF")),
}
