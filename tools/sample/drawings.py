"""Draws the sample's images: ten kinds of things, never the same twice.

A drawing is made in a square of [-1, 1] × [-1, 1], y down, with flat colors and no outline, then
scaled, turned, put somewhere on a busy background, and given a photograph's noise and blur.
"""

from __future__ import annotations

import colorsys
import math
from collections.abc import Callable

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

Color = tuple[int, int, int]

# Drawn at several times the size and reduced, since PIL's polygons have jagged edges.
_OVERSAMPLING = 3


class Pen:
    """Draws on a transparent square in coordinates from -1 to 1."""

    def __init__(self, pixels: int):
        self.image = Image.new("RGBA", (pixels, pixels))
        self._draw = ImageDraw.Draw(self.image)
        self._half = pixels / 2

    def _scaled(self, points: list[tuple[float, float]]) -> list[tuple[float, float]]:
        return [(self._half * (1 + x), self._half * (1 + y)) for x, y in points]

    def polygon(self, color: Color, *points: tuple[float, float]) -> None:
        """Fill a polygon."""
        self._draw.polygon(self._scaled(list(points)), fill=color)

    def ellipse(self, color: Color, x: float, y: float, rx: float, ry: float) -> None:
        """Fill an ellipse around a center."""
        self._draw.ellipse(self._scaled([(x - rx, y - ry), (x + rx, y + ry)]), fill=color)

    def slice(
        self, color: Color, x: float, y: float, rx: float, ry: float, start: float, end: float
    ) -> None:
        """Fill a part of an ellipse, degrees clockwise from three o'clock."""
        box = self._scaled([(x - rx, y - ry), (x + rx, y + ry)])
        self._draw.pieslice(box, start, end, fill=color)

    def box(
        self, color: Color, left: float, top: float, right: float, bottom: float, r: float = 0
    ) -> None:
        """Fill a rectangle with rounded corners of radius ``r``."""
        self._draw.rounded_rectangle(
            self._scaled([(left, top), (right, bottom)]), r * self._half, fill=color
        )

    def line(self, color: Color, width: float, *points: tuple[float, float]) -> None:
        """Draw a line of some width with round joints."""
        self._draw.line(self._scaled(list(points)), color, round(width * self._half), "curve")


def draw(label: str, rng: np.random.Generator, size: int) -> Image.Image:
    """Draw a picture of something.

    Args:
      label: a key of ``DRAWINGS``.
      rng: decides on everything that is not the label.
      size: of the square picture, in pixels.

    Returns:
      An RGB image.
    """
    picture = _background(rng, size)
    pen = Pen(int(size * rng.uniform(0.42, 0.85)) * _OVERSAMPLING)
    DRAWINGS[label](pen, rng)
    thing = pen.image
    if rng.random() < 0.5:
        thing = thing.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    thing = thing.rotate(rng.uniform(-25, 25), Image.Resampling.BICUBIC, expand=True)
    thing = thing.reduce(_OVERSAMPLING)
    room = size - np.array(thing.size)
    # Where it does not fit with its corners, which are empty, it may stick out.
    at = [int(rng.uniform(min(0, r / 2), max(r, r / 2))) for r in room]
    if rng.random() < 0.5:
        shadow = Image.new("RGBA", thing.size, (0, 0, 0, 0))
        shadow.paste((0, 0, 0, 90), mask=thing.getchannel("A"))
        shadow = shadow.filter(ImageFilter.GaussianBlur(size / 60))
        picture.paste(shadow, (at[0] + size // 50, at[1] + size // 40), shadow)
    picture.paste(thing, (at[0], at[1]), thing)
    return _photographed(picture, rng)


def _background(rng: np.random.Generator, size: int) -> Image.Image:
    """Draw a gradient, perhaps with unrelated stripes or dots."""
    across, down = np.meshgrid(*[np.linspace(0, 1, size)] * 2)
    angle = rng.uniform(0, 2 * math.pi)
    ramp = across * math.cos(angle) + down * math.sin(angle)
    ramp = (ramp - ramp.min()) / (ramp.max() - ramp.min())
    ends = [np.array(_color(rng, (0.05, 0.45), (0.35, 1.0))) for _ in range(2)]
    pixels = ends[0] + ramp[..., None] * (ends[1] - ends[0])
    image = Image.fromarray(pixels.astype(np.uint8))
    draw = ImageDraw.Draw(image)
    pattern = rng.random()
    color = _color(rng, (0.05, 0.5), (0.3, 1.0))
    if pattern < 0.25:
        step = int(rng.uniform(0.06, 0.2) * size)
        for x in range(-size, 2 * size, 2 * step):
            slant = int(size * math.tan(angle / 8))
            draw.line([(x, 0), (x + slant, size)], color, step // 2)
    elif pattern < 0.6:
        for x, y, r in rng.random((int(rng.integers(3, 25)), 3)):
            r *= 0.05
            box = [size * (x - r), size * (y - r), size * (x + r), size * (y + r)]
            (draw.ellipse if rng.random() < 0.5 else draw.rectangle)(box, color)
    return image


def _photographed(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    """Add the light, blur and noise of a camera."""
    if rng.random() < 0.4:
        image = image.filter(ImageFilter.GaussianBlur(rng.uniform(0.3, 1.3) * image.width / 224))
    pixels = np.asarray(image, np.float32) * rng.uniform(0.7, 1.15) + rng.uniform(-15, 15)
    pixels += rng.normal(0, rng.uniform(0, 10), pixels.shape)
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8))


def _color(
    rng: np.random.Generator, saturation: tuple[float, float], value: tuple[float, float]
) -> Color:
    red, green, blue = colorsys.hsv_to_rgb(
        rng.random(), rng.uniform(*saturation), rng.uniform(*value)
    )
    return int(255 * red), int(255 * green), int(255 * blue)


def _bright(rng: np.random.Generator) -> Color:
    return _color(rng, (0.55, 1.0), (0.55, 1.0))


def _dark(rng: np.random.Generator) -> Color:
    return _color(rng, (0.2, 0.8), (0.05, 0.35))


def _pale(rng: np.random.Generator) -> Color:
    return _color(rng, (0.0, 0.25), (0.8, 1.0))


def _green(rng: np.random.Generator) -> Color:
    return int(rng.uniform(10, 110)), int(rng.uniform(100, 200)), int(rng.uniform(10, 90))


def _balloon(pen: Pen, rng: np.random.Generator) -> None:
    hull, stripe, basket = _bright(rng), _bright(rng), _dark(rng)
    width = rng.uniform(0.5, 0.65)
    pen.line(basket, 0.03, (-width * 0.6, 0.1), (-0.14, 0.75))
    pen.line(basket, 0.03, (width * 0.6, 0.1), (0.14, 0.75))
    pen.box(basket, -0.16, 0.7, 0.16, 0.95, 0.04)
    pen.polygon(hull, (-width * 0.92, -0.05), (width * 0.92, -0.05), (0.14, 0.52), (-0.14, 0.52))
    pen.ellipse(hull, 0, -0.3, width, 0.62)
    pen.ellipse(stripe, 0, -0.3, width * 0.45, 0.62)
    pen.polygon(stripe, (-width * 0.42, -0.05), (width * 0.42, -0.05), (0.07, 0.52), (-0.07, 0.52))


def _boat(pen: Pen, rng: np.random.Generator) -> None:
    hull, sail, jib, mast = _bright(rng), _pale(rng), _bright(rng), _dark(rng)
    top = rng.uniform(-0.95, -0.7)
    pen.box(mast, -0.04, top, 0.04, 0.5)
    pen.polygon(sail, (0.1, top), (0.1, 0.3), (rng.uniform(0.6, 0.8), 0.3))
    pen.polygon(jib, (-0.1, top + 0.25), (-0.1, 0.3), (rng.uniform(-0.65, -0.45), 0.3))
    pen.polygon(hull, (-0.85, 0.42), (0.9, 0.42), (0.6, 0.85), (-0.55, 0.85))


def _cactus(pen: Pen, rng: np.random.Generator) -> None:
    green, pot = _green(rng), _bright(rng)
    left, right = rng.uniform(-0.25, 0.1, 2)
    pen.line(green, 0.22, (0, left + 0.12), (-0.5, left + 0.12))
    pen.box(green, -0.62, left - 0.4, -0.4, left + 0.23, 0.11)
    pen.line(green, 0.22, (0, right + 0.2), (0.5, right + 0.2))
    pen.box(green, 0.4, right - 0.3, 0.62, right + 0.31, 0.11)
    pen.box(green, -0.2, -0.95, 0.2, 0.6, 0.2)
    pen.polygon(pot, (-0.42, 0.5), (0.42, 0.5), (0.3, 0.97), (-0.3, 0.97))
    if rng.random() < 0.5:
        pen.ellipse(_bright(rng), 0, -0.9, 0.12, 0.09)


def _car(pen: Pen, rng: np.random.Generator) -> None:
    body, glass, tire = _bright(rng), _pale(rng), _dark(rng)
    front = rng.uniform(0.4, 0.6)
    pen.polygon(body, (-0.6, 0.05), (-0.4, -0.45), (front - 0.15, -0.45), (front + 0.15, 0.05))
    pen.polygon(glass, (-0.47, 0.0), (-0.33, -0.36), (-0.03, -0.36), (-0.03, 0.0))
    pen.polygon(glass, (0.05, 0.0), (0.05, -0.36), (front - 0.2, -0.36), (front, 0.0))
    pen.box(body, -0.95, 0.0, 0.95, 0.42, 0.12)
    for x in (-0.5, 0.52):
        pen.ellipse(tire, x, 0.42, 0.24, 0.24)
        pen.ellipse(glass, x, 0.42, 0.11, 0.11)


def _fish(pen: Pen, rng: np.random.Generator) -> None:
    body, fin, eye = _bright(rng), _bright(rng), _dark(rng)
    height = rng.uniform(0.35, 0.55)
    pen.polygon(fin, (0.4, 0), (0.95, -height), (0.8, 0), (0.95, height))
    pen.polygon(fin, (-0.25, -height * 0.8), (0.1, -height - 0.25), (0.3, -height * 0.6))
    pen.ellipse(body, -0.15, 0, 0.72, height)
    pen.polygon(fin, (-0.1, 0.05), (0.2, -0.1), (0.2, 0.25))
    pen.ellipse((245, 245, 245), -0.55, -height * 0.25, 0.12, 0.12)
    pen.ellipse(eye, -0.57, -height * 0.25, 0.06, 0.06)


def _flower(pen: Pen, rng: np.random.Generator) -> None:
    petal, center, green = _bright(rng), _bright(rng), _green(rng)
    petals = int(rng.integers(5, 9))
    pen.line(green, 0.08, (0, -0.2), (rng.uniform(-0.1, 0.1), 0.4), (0, 0.98))
    for side in (-1, 1):
        y = rng.uniform(0.5, 0.75)
        pen.polygon(green, (0, y + 0.12), (side * 0.25, y - 0.12), (side * 0.5, y - 0.1))
    for n in range(petals):
        angle = 2 * math.pi * n / petals
        x, y = 0.36 * math.cos(angle), -0.4 + 0.36 * math.sin(angle)
        pen.ellipse(petal, x, y, 0.2, 0.2)
    pen.ellipse(center, 0, -0.4, 0.22, 0.22)


def _house(pen: Pen, rng: np.random.Generator) -> None:
    wall, roof, door, glass = _pale(rng), _bright(rng), _dark(rng), _bright(rng)
    if rng.random() < 0.3:
        wall = _bright(rng)
    ridge = rng.uniform(-0.95, -0.7)
    pen.box(door, 0.35, ridge + 0.05, 0.55, 0.0)
    pen.box(wall, -0.7, -0.15, 0.7, 0.9)
    pen.polygon(roof, (-0.9, -0.1), (0, ridge), (0.9, -0.1))
    side = rng.choice([-1, 1])
    pen.box(door, side * 0.32 - 0.15, 0.3, side * 0.32 + 0.15, 0.9)
    pen.box(glass, -side * 0.32 - 0.18, 0.15, -side * 0.32 + 0.18, 0.5)


def _moon(pen: Pen, rng: np.random.Generator) -> None:
    color = _pale(rng) if rng.random() < 0.5 else (250, int(rng.uniform(190, 240)), 90)
    pen.ellipse(color, 0, 0, 0.9, 0.9)
    # What is cut out of the disc shows the background.
    shift = rng.uniform(0.3, 0.5)
    hole = Image.new("L", pen.image.size, 255)
    half = pen.image.width / 2
    box = [half * (0.1 + shift), half * 0.15, half * (1.7 + shift), half * 1.75]
    ImageDraw.Draw(hole).ellipse(box, fill=0)
    clear = Image.new("RGBA", pen.image.size)
    pen.image = Image.composite(pen.image, clear, hole)


def _mushroom(pen: Pen, rng: np.random.Generator) -> None:
    cap, stem, dot = _bright(rng), _pale(rng), _pale(rng)
    width = rng.uniform(0.18, 0.3)
    pen.polygon(stem, (-width, 0.0), (width, 0.0), (width * 1.3, 0.9), (-width * 1.3, 0.9))
    pen.slice(cap, 0, 0.15, 0.9, rng.uniform(0.8, 1.0), 180, 360)
    for x, y, r in ((-0.45, -0.1, 0.11), (0.05, -0.4, 0.14), (0.5, -0.12, 0.1), (-0.1, 0.0, 0.07)):
        pen.ellipse(dot, x + rng.uniform(-0.06, 0.06), y + rng.uniform(-0.06, 0.06), r, r)


def _tree(pen: Pen, rng: np.random.Generator) -> None:
    green, trunk = _green(rng), (int(rng.uniform(70, 130)), int(rng.uniform(40, 75)), 30)
    pen.box(trunk, -0.12, 0.4, 0.12, 0.97)
    width = rng.uniform(0.5, 0.75)
    for n in range(3):
        top, reach = -0.95 + 0.42 * n, width * (0.6 + 0.2 * n)
        pen.polygon(green, (0, top), (reach, top + 0.68), (-reach, top + 0.68))


DRAWINGS: dict[str, Callable[[Pen, np.random.Generator], None]] = {
    "balloon": _balloon,
    "boat": _boat,
    "cactus": _cactus,
    "car": _car,
    "fish": _fish,
    "flower": _flower,
    "house": _house,
    "moon": _moon,
    "mushroom": _mushroom,
    "tree": _tree,
}
LABELS = tuple(DRAWINGS)
