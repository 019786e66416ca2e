"""Picture files of every kind, made by hand where Pillow cannot write them."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import numpy as np
from PIL import Image

PHOTOS = Path(__file__).parents[1] / "stylenet" / "assets" / "photos"


def small_photo(width: int = 48, height: int = 36, name: str = "cat") -> Image.Image:
    """A bundled photograph, small."""
    with Image.open(PHOTOS / f"{name}.jpg") as photo:
        return photo.convert("RGB").resize((width, height), Image.Resampling.LANCZOS)


def deep_png(path: Path, values: np.ndarray) -> None:
    """A PNG of 16 bits per channel from (H, W, 3) uint16."""
    height, width, _ = values.shape
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    chunks = [(b"IHDR", struct.pack(">IIBBBBB", width, height, 16, 2, 0, 0, 0)), (b"IDAT", zlib.compress(rows))]
    content = b"\x89PNG\r\n\x1a\n"
    for kind, data in [*chunks, (b"IEND", b"")]:
        content += struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
    path.write_bytes(content)


def deep_tiff(path: Path, values: np.ndarray) -> None:
    """A TIFF of 16 bits per channel from (H, W, 3) uint16."""
    height, width, _ = values.shape
    data = values.astype("<u2").tobytes()
    entries = [(256, 3, 1, width), (257, 3, 1, height), (258, 3, 3, 8 + len(data)), (259, 3, 1, 1), (262, 3, 1, 2)]
    entries += [(273, 4, 1, 8), (277, 3, 1, 3), (278, 3, 1, height), (279, 4, 1, len(data)), (284, 3, 1, 1)]
    directory = struct.pack("<H", len(entries)) + b"".join(struct.pack("<HHII", *entry) for entry in entries)
    bits = struct.pack("<HHH", 16, 16, 16) + b"\0\0"
    path.write_bytes(struct.pack("<2sHI", b"II", 42, 8 + len(data) + len(bits)) + data + bits + directory + bytes(4))


def rotated_profile() -> bytes:
    """An ICC profile whose red is sRGB's green, whose green is its blue and whose blue is its red."""
    colorants = [(0.38515, 0.71687, 0.09708), (0.14307, 0.06061, 0.71410), (0.43607, 0.22249, 0.01392)]

    def fixed(*values: float) -> bytes:
        return b"".join(struct.pack(">i", round(value * 65536)) for value in values)

    name = b"rotated primaries\0"
    curve = b"curv" + bytes(4) + struct.pack(">IH", 1, round(2.2 * 256)) + bytes(2)
    tags = {b"desc": b"desc" + bytes(4) + struct.pack(">I", len(name)) + name + bytes(79)}
    tags |= {b"cprt": b"text" + bytes(4) + b"none\0\0\0\0"}
    tags |= {b"wtpt": b"XYZ " + bytes(4) + fixed(0.9642, 1.0, 0.82491)}
    for letter, colorant in zip("rgb", colorants, strict=True):
        tags[letter.encode() + b"XYZ"] = b"XYZ " + bytes(4) + fixed(*colorant)
        tags[letter.encode() + b"TRC"] = curve
    table, body, offset = struct.pack(">I", len(tags)), b"", 128 + 4 + 12 * len(tags)
    for tag, data in tags.items():
        padded = data + bytes(-len(data) % 4)
        table += tag + struct.pack(">II", offset + len(body), len(data))
        body += padded
    header = struct.pack(">I4sI4s4s4s", offset + len(body), bytes(4), 0x02200000, b"mntr", b"RGB ", b"XYZ ")
    header += bytes(12) + b"acsp" + bytes(28) + fixed(0.9642, 1.0, 0.82491)
    return header + bytes(128 - len(header)) + table + body
