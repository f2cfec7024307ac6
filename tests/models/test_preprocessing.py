import json

import pytest

from pipeline.errors import ModelError
from pipeline.models.preprocessing import Preprocessing

CONTENT = {"height": 96, "width": 128, "scale": [0, 1], "resample": "bicubic", "returns": "logits"}


def write(folder, content):
    (folder / "assets").mkdir(exist_ok=True)
    path = folder / "assets" / "preprocessing.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def test_is_read_as_it_was_written(tmp_path):
    preprocessing = Preprocessing(96, 128, "bicubic", "logits")
    preprocessing.write(tmp_path)
    assert json.loads((tmp_path / "assets" / "preprocessing.json").read_text()) == CONTENT
    assert Preprocessing.read(tmp_path) == preprocessing


def test_most_models_have_none(tmp_path):
    assert Preprocessing.read(tmp_path) is None


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "cannot be read: JSONDecodeError"),
        ("[]", "cannot be read: TypeError"),
        ("1", "cannot be read: AttributeError"),
        ({}, "cannot be read: KeyError: 'scale'"),
        (CONTENT | {"crop": 0.9}, "cannot be read: TypeError: .*crop"),
        (CONTENT | {"height": "96"}, "height and width are"),
        (CONTENT | {"width": 0}, "height and width are"),
        (CONTENT | {"scale": [-2, 2]}, r'scale is \[-2, 2\], expected "unit" or "symmetric"'),
        (CONTENT | {"resample": "area"}, 'resample is "area", expected "bicubic" or "bilinear"'),
        (CONTENT | {"returns": "boxes"}, 'returns is "boxes", expected "logits" or "probab'),
    ],
)
def test_what_cannot_be_understood_is_an_error(tmp_path, content, message):
    path = write(tmp_path, content)
    with pytest.raises(ModelError, match=message) as caught:
        Preprocessing.read(tmp_path)
    assert str(path) in str(caught.value)
