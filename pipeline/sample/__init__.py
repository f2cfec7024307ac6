"""Locate the embedded sample: drawings, the model trained on them, and its features alone."""

from pathlib import Path

MODEL_DIR = Path(__file__).resolve().parent / "model"
IMAGES_DIR = Path(__file__).resolve().parent / "images"
FEATURES_DIR = Path(__file__).resolve().parent / "features"
