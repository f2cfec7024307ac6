from pipeline.runners.identity import versions


def test_versions():
    assert set(versions()) - {"cykooz-resizer"} == {  # which is not everywhere
        *("image-labeling", "python", "apache-beam", "tensorflow", "numpy", "pillow")
    }
