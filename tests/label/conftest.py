import pytest
from helpers.runs import write_colors


@pytest.fixture
def photos(tmp_path):
    """Nine images, and two that cannot be decoded."""
    folder = write_colors(tmp_path / "photos", 9)
    (tmp_path / "photos" / "empty.jpg").touch()
    (tmp_path / "photos" / "page.jpg").write_bytes(b"<html>")
    return folder


@pytest.fixture
def flags(tmp_path, photos, color_model):
    return {
        "input": photos,
        "model": color_model,
        "output": str(tmp_path / "out"),
        "max_failure_ratio": 0.5,
    }
