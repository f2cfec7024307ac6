from pipeline.models.tensorflow_import import what_failed


def test_what_failed():
    assert what_failed(ValueError("\n one\n two")) == "one"
    assert what_failed(ValueError()) == "ValueError"
