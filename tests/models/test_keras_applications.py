"""Models of keras.applications: labeled as Keras itself labels, or said to be assumed."""

import dataclasses

import numpy as np
import pytest

from tools.keras_applications import ARCHITECTURES, TOLERANCE, Result, table, try_out

NAMED = {it.name: it for it in ARCHITECTURES}


@pytest.mark.parametrize(
    ("name", "keras", "place"),
    [("MobileNet", "tf_keras", "inside"), ("VGG16", "keras", "outside")],
)
def test_no_scale_is_assumed_in_silence(name, keras, place):
    result = try_out(NAMED[name], keras, place)
    assert result.stated <= TOLERANCE
    if place == "inside":
        assert (result.taken, result.outcome, result.said) == ("byte", "read", "")
    else:
        assert result.difference > 100 * TOLERANCE
        assert result.outcome in ("flag", "refused")
        assert "--scale" in result.said


def test_a_wrong_scale_in_silence_is_counted_as_such():
    result = Result("MobileNet", "keras", "outside", "symmetric", "unit", "", "", 0.5, 1e-6)
    assert result.outcome == "wrong"
    warned = "warning: 0 to 1, RGB is assumed; if it takes others, give --scale"
    others = [
        Result("MobileNet", "keras", "inside", "byte", "byte", "read from its graph", "", 0.0, 0.0),
        Result("MobileNet", "tf_keras", "outside", "symmetric", "unit", "", warned, 0.5, 1e-6),
        Result("MobileNet", "tf_keras", "inside", "byte", "", "", warned, np.inf, 1e-6),
    ]
    assert [it.outcome for it in others] == ["read", "flag", "refused"]
    unstable = Result("MobileNet", "keras", "outside", "torch", "unit", "", warned, 0.5, 0.1, 0.2)
    assert unstable.outcome == "unstable"
    assert dataclasses.replace(unstable, said="").outcome == "wrong"
    assert dataclasses.replace(unstable, rounding=1e-6).outcome == "wrong"
    page = table([result, *others, Result("VGG16", "keras", "inside", "byte", "", "", "", 0, 0)])
    assert "Of 4 exports, 1 were read without a flag, 1 need `--scale` and say so" in page
    counts = "1 are refused until it is given, 0 cannot be compared, and 1 are wrong in silence"
    assert counts in page.replace("\n", " ")
    assert "| MobileNet | 32 | wrong: `symmetric`, 1e-06 | read: `byte`, 0e+00 |" in page
    assert "VGG16" not in page
