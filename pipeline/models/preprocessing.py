"""``assets/preprocessing.json``: what a model wants to be given, and what it gives back.

    {"height": 224, "width": 224, "scale": [0, 1], "resample": "bicubic", "returns": "logits"}

Models of this project carry it; others do without, and are probed.
"""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

from pipeline.errors import ModelError
from pipeline.images.resizing import RESAMPLING
from pipeline.models.scaling import SCALES
from pipeline.models.spec import RETURNS

# Older files have black and white as the model sees them.
_RANGES = {"unit": [0, 1], "symmetric": [-1, 1], "byte": [0, 255]}


@dataclasses.dataclass(frozen=True)
class Preprocessing:
    """The file's content.

    Attributes:
      height: of the images, in pixels.
      width: of the images, in pixels.
      resample: the filter that images are resized with, a key of ``resizing.RESAMPLING``.
      returns: one of ``spec.RETURNS``.
      scale: a key of ``scaling.SCALES``; in the file, ``unit`` is ``[0, 1]``.
    """

    height: int
    width: int
    resample: str
    returns: str
    scale: str = "unit"

    @staticmethod
    def read(model_dir: Path) -> Preprocessing | None:
        """Read what a SavedModel's folder says; None if it does not say.

        Raises:
          ModelError: the file is there, but cannot be understood.
        """
        path = _path(model_dir)
        if not path.is_file():
            return None
        try:
            content = json.loads(path.read_bytes())
            scale = content.pop("scale")
            scale = next((name for name, range_ in _RANGES.items() if range_ == scale), scale)
            preprocessing = Preprocessing(**content, scale=scale)
        except (OSError, ValueError, TypeError, AttributeError, KeyError) as error:
            raise ModelError(f"{path} cannot be read: {type(error).__name__}: {error}") from error
        sizes = (preprocessing.height, preprocessing.width)
        if not all(type(size) is int and size > 0 for size in sizes):
            raise ModelError(f"{path}: height and width are {sizes}, expected numbers of pixels")
        for name, value, known in (
            ("scale", preprocessing.scale, list(SCALES)),
            ("resample", preprocessing.resample, list(RESAMPLING)),
            ("returns", preprocessing.returns, RETURNS),
        ):
            if value not in known:
                expected = " or ".join(json.dumps(choice) for choice in known)
                raise ModelError(f"{path}: {name} is {json.dumps(value)}, expected {expected}")
        return preprocessing

    def write(self, model_dir: Path) -> None:
        """Add the file to a SavedModel's folder."""
        path = _path(model_dir)
        path.parent.mkdir(exist_ok=True)
        content = dataclasses.asdict(self)
        content["scale"] = _RANGES.get(self.scale, self.scale)
        path.write_text(json.dumps(content, indent=2) + "\n")


def _path(model_dir: Path) -> Path:
    return model_dir / "assets" / "preprocessing.json"
