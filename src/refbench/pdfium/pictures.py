"""The raster images of the manual: what a photograph or a scanned trace looks like to a renderer.

They are computed from integers alone, because floating-point sums may differ between machines.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from refbench.pdfium.prose import Numbers

if TYPE_CHECKING:
    from PIL.Image import Image

Pixels = np.ndarray[tuple[int, ...], np.dtype[np.int64]]


def photograph(numbers: Numbers, width: int, height: int) -> Image:
    """Colour: smooth areas, lines of a grid as on a die, and noise."""
    y, x = np.ogrid[:height, :width]
    red = (x * (3 + numbers.below(5)) // 7 + y * (2 + numbers.below(5)) // 9) % 256
    green = ((x - width // 2) ** 2 + (y - height // 3) ** 2) // (257 + numbers.below(300)) % 256
    blue = ((x ^ y) & (numbers.below(128) | 64)) + 40
    pixels = np.stack(np.broadcast_arrays(red, green, blue), axis=-1)
    for _ in range(60):
        left, top = numbers.below(width), numbers.below(height)
        wide, high = 8 + numbers.below(width // 5), 6 + numbers.below(height // 6)
        tone = numbers.below(160)
        pixels[top : top + high, left : left + wide] = (
            pixels[top : top + high, left : left + wide] + tone
        ) // 2
        pixels[top : top + high : 4, left : left + wide] += 24
    pixels = pixels + _noise(numbers, height, width)[..., None] % 14
    return _image("RGB", np.clip(pixels, 0, 255))


def waveform(numbers: Numbers, width: int, height: int) -> Image:
    """Grey: a logic analyser's screen, one band a signal."""
    pixels = np.full((height, width), 24, dtype=np.int64)
    band = height // 12
    for signal in range(12):
        level, x = numbers.below(2), 0
        while x < width:
            length = 3 + numbers.below(40)
            row = signal * band + (band // 4 if level else 3 * band // 4)
            pixels[row : row + 2, x : x + length] = 230
            pixels[signal * band + band // 4 : signal * band + 3 * band // 4, x : x + 2] = 190
            level, x = 1 - level, x + length
    return _image("L", np.clip(pixels + _noise(numbers, height, width) % 9, 0, 255))


def _noise(
    numbers: Numbers, height: int, width: int
) -> np.ndarray[tuple[int, int], np.dtype[np.int64]]:
    """A linear congruential sequence (Knuth's MMIX constants), one number a pixel."""
    state = np.arange(height * width, dtype=np.uint64) + np.uint64(numbers.next() >> 1)
    for _ in range(2):
        state = state * np.uint64(6364136223846793005) + np.uint64(1442695040888963407)
        state ^= state >> np.uint64(33)
    return (state >> np.uint64(40)).astype(np.int64).reshape(height, width)


def _image(mode: str, pixels: Pixels) -> Image:
    from PIL.Image import frombytes

    height, width = pixels.shape[:2]
    return frombytes(mode, (width, height), pixels.astype(np.uint8).tobytes())
