"""Surfaces of parts under a camera, drawn and not collected: half of them have a scratch, a dent or a stain.

A surface is brushed, cast, woven or turned; light, contrast and noise differ from image to image. Most surfaces, with a defect or without,
also show something that resembles one and is none: a seam (a line as a scratch is, but from edge to edge), a highlight (bright, where a
dent is bright on one side and dark on the other), dust (specks, where a stain is a patch), a flaw of the texture (a patch that is rougher
or smoother, but no darker). So neither brightness nor contrast tells the label, nor does the presence of such a near-miss.

Image ``index`` of a seed is always the same, however many are drawn.
"""

from typing import NamedTuple

import numpy as np
from scipy.ndimage import gaussian_filter, map_coordinates

SIDE = 64
SURFACES = ("brushed", "cast", "woven", "turned")
DEFECTS = ("scratch", "dent", "stain")
NEAR_MISSES = ("seam", "highlight", "dust", "flaw", "none")
ROWS, COLUMNS = np.mgrid[:SIDE, :SIDE].astype(np.float64)


class Parts(NamedTuple):
    """Images [N, 1, 64, 64] float32, labels (1: defective) and, by name, what each image shows."""

    images: np.ndarray
    labels: np.ndarray
    surfaces: np.ndarray
    defects: np.ndarray
    near_misses: np.ndarray


def parts(count, seed):
    """As many images of each label, of each defect and of each near-miss as ``count`` allows, independent of each other."""
    index = np.arange(count)
    labels = (index % 2).astype(np.int64)
    defects = np.where(labels == 1, np.array(DEFECTS)[index // 2 % 3], "none")
    near_misses = np.array(NEAR_MISSES)[index // 6 % 5]
    surfaces = np.array(SURFACES)[index // 30 % 4]
    images = [part(np.random.default_rng((seed, row)), *shown) for row, *shown in zip(index, surfaces, defects, near_misses, strict=True)]
    return Parts(np.stack(images)[:, None], labels, surfaces, defects, near_misses)


def train_set(count=24_000):
    """Images and their labels."""
    drawn = parts(count, 1)
    return drawn.images, drawn.labels


def calibration_set(count=512):
    """The first of the training images."""
    return train_set(count)


def test_set(count=4_000):
    """Other images, held out of training."""
    drawn = parts(count, 2)
    return drawn.images, drawn.labels


def part(rng, surface, defect, near_miss):
    """One image, [64, 64] float32 between -2 and 2."""
    texture = _texture(rng, surface)
    spread = rng.uniform(0.03, 0.09)
    if near_miss == "flaw":
        texture = texture * (1 + rng.choice([-0.6, 0.8]) * _patch(rng, rng.uniform(6, 12)))
    angle, slope = rng.uniform(0, 2 * np.pi), rng.uniform(0, 0.4)
    light = rng.uniform(0.35, 0.65) + slope * ((ROWS / SIDE - 0.5) * np.sin(angle) + (COLUMNS / SIDE - 0.5) * np.cos(angle))
    image = light + spread * texture
    image += spread * _near_miss(rng, near_miss) + spread * _defect(rng, defect)
    image += rng.normal(0, rng.uniform(0.005, 0.02), image.shape)
    return ((np.clip(image, 0, 1) - 0.5) * 4).astype(np.float32)


def _texture(rng, surface):
    """A surface of mean 0 and spread 1."""
    noise = rng.normal(size=(SIDE, SIDE))
    along, across = _axes((SIDE / 2, SIDE / 2), rng.uniform(0, np.pi))
    if surface == "brushed":
        drawn = gaussian_filter(rng.normal(size=(2 * SIDE, 2 * SIDE)), (0.7, rng.uniform(10, 25)))
        drawn = map_coordinates(drawn, [across + SIDE, along + SIDE], order=1)
    elif surface == "cast":
        drawn = sum(gaussian_filter(noise, scale) * scale for scale in (0.8, 1.6, rng.uniform(2, 3)))
    elif surface == "woven":
        period = rng.uniform(4, 8)
        bend = 0.6 * gaussian_filter(noise, 6) * 6
        drawn = np.cos(2 * np.pi * along / period + bend) * np.cos(2 * np.pi * across / period - bend) + 0.3 * noise
    else:
        radius = np.hypot(ROWS - rng.uniform(-60, 30), COLUMNS - rng.uniform(-60, 30))
        grooves = gaussian_filter(rng.normal(size=4 * SIDE), 1.0)
        drawn = np.interp(radius, np.arange(4 * SIDE), grooves) / grooves.std() + 0.4 * noise
    return (drawn - drawn.mean()) / drawn.std()


def _defect(rng, kind):
    """What a defect adds, in units of the texture's spread."""
    if kind == "scratch":
        length, angle = rng.uniform(12, 30), rng.uniform(0, 2 * np.pi)  # it ends inside the image
        return _sign(rng) * rng.uniform(5, 10) * _line(rng, _middle(rng, 20), angle, length)
    if kind == "dent":
        size, angle = rng.uniform(2.5, 6), rng.uniform(0, 2 * np.pi)
        row, column = _middle(rng, 12)
        down, right = (ROWS - row) / size, (COLUMNS - column) / size
        slope = (down * np.sin(angle) + right * np.cos(angle)) * np.exp(-(down**2 + right**2) / 2)
        return rng.uniform(4, 8) * slope / 0.607  # the largest value of x exp(-x²/2)
    if kind == "stain":
        return -rng.uniform(2.5, 4.5) * _patch(rng, rng.uniform(5, 11))
    return 0.0


def _near_miss(rng, kind):
    """What something that is no defect adds, in the same units."""
    if kind == "seam":
        return _sign(rng) * rng.uniform(5, 10) * _line(rng, _middle(rng, 16), rng.uniform(0, 2 * np.pi), 4 * SIDE)
    if kind == "highlight":
        row, column = _middle(rng, 12)
        size = rng.uniform(2.5, 8)
        return rng.uniform(3, 6) * np.exp(-((ROWS - row) ** 2 + (COLUMNS - column) ** 2) / (2 * size**2))
    if kind == "dust":
        specks = np.zeros((SIDE, SIDE))
        for _ in range(rng.integers(2, 8)):
            (row, column), size = _middle(rng, 2), rng.uniform(0.6, 1.4)
            specks += _sign(rng) * rng.uniform(5, 10) * np.exp(-((ROWS - row) ** 2 + (COLUMNS - column) ** 2) / (2 * size**2))
        return specks
    return 0.0


def _axes(middle, angle):
    """Of each pixel, how far it lies from a point along a direction and across it."""
    down, right = ROWS - middle[0], COLUMNS - middle[1]
    return down * np.sin(angle) + right * np.cos(angle), down * np.cos(angle) - right * np.sin(angle)


def _middle(rng, margin):
    return rng.uniform(margin, SIDE - margin, 2)


def _sign(rng):
    return rng.choice([-1.0, 1.0])


def _line(rng, middle, angle, length):
    """A furrow and its raised edge, slightly bent, of height 1, that fades at both ends."""
    along, across = _axes(middle, angle)
    across = across + rng.uniform(-0.003, 0.003) * along**2
    width = rng.uniform(0.6, 1.1)
    profile = np.exp(-(across**2) / (2 * width**2)) - 0.4 * np.exp(-((across - 2 * width) ** 2) / (2 * width**2))
    return profile / (1 + np.exp((np.abs(along) - length / 2) / 1.5))


def _patch(rng, size):
    """An area of irregular outline around a point, 1 inside and 0 outside, with a soft edge."""
    row, column = _middle(rng, 14)
    outline = gaussian_filter(rng.normal(size=(SIDE, SIDE)), 4)
    distance = np.hypot(ROWS - row, (COLUMNS - column) * rng.uniform(0.7, 1.4)) / size
    return 1 / (1 + np.exp((distance - 1 + 0.3 * outline / outline.std()) / 0.15))
