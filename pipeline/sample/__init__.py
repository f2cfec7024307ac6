"""The embedded default: drawn images and the small model trained on them."""

from pathlib import Path

MODEL_DIR = Path(__file__).resolve().parent / "model"
IMAGES_DIR = Path(__file__).resolve().parent / "images"
