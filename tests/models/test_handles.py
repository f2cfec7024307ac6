import pytest

from pipeline.errors import ModelError
from pipeline.models.handles import archive_of, has_hub_convention, is_hub, kaggle_of

API = "https://www.kaggle.com/api/v1/models"
MODEL = "google/mobilenet-v2/tensorFlow2/tf2-preview-classification/1"


@pytest.mark.parametrize(
    "handle",
    [
        f"https://www.kaggle.com/models/{MODEL}",
        f"https://kaggle.com/models/{MODEL}/",
        f"https://www.kaggle.com/models/{MODEL.replace('tensor', 'Tensor')}",
        f"https://www.kaggle.com/models/{MODEL}?tfhub-redirect=true",
        f"https://www.kaggle.com/models/{MODEL}#files",
        "https://www.kaggle.com/models/google/mobilenet-v2/frameworks/TensorFlow2/variations/"
        "tf2-preview-classification/versions/1",
        f"HTTPS://WWW.KAGGLE.COM/models/{MODEL}",
        f"kaggle://{MODEL}",
        f"kaggle://models/{MODEL}",
        f"KAGGLE:///{MODEL}?a=b",
    ],
)
def test_kaggles_handles(handle):
    assert is_hub(handle)
    assert archive_of(handle).url.lower() == f"{API}/{MODEL}/download".lower()
    assert archive_of(handle).query == {}


def test_tensorflow_1():
    handle = "https://www.kaggle.com/models/google/nasnet/TensorFlow1/large-classification/3"
    expected = f"{API}/google/nasnet/tensorFlow1/large-classification/3/download"
    assert archive_of(handle).url == expected
    assert archive_of(expected).url == expected


@pytest.mark.parametrize(
    ("page", "problem"),
    [
        ("models/google/mobilenet-v2", "is the page of a model that has several variations"),
        ("models/google/mobilenet-v2/tensorFlow2", "names no variation of the model"),
        ("models/google/mobilenet-v2/tensorFlow2/a", "names no version of the model"),
        ("models/google/mobilenet-v2/tfLite/a/1", "is a model for tfLite, not for TensorFlow"),
        ("models/keras/bert/keras/a/2", "is a model for keras, not for TensorFlow"),
        ("models/google/mobilenet-v2/tensorFlow2/a/latest", "not the address of a model's version"),
        ("models/google/mobilenet-v2/tensorFlow2/a/1/2", "not the address of a model's version"),
        ("models/google/mobilenet-v2/tensorFlow2/../1", "not the address of a model's version"),
        ("models/google", "is a page of Kaggle's that has no model"),
        ("models", "is a page of Kaggle's that has no model"),
        ("", "is a page of Kaggle's that has no model"),
        ("datasets/owner/flowers", "is a page of Kaggle's that has no model"),
    ],
)
def test_pages_of_kaggles_without_one_model(page, problem):
    handle = f"https://www.kaggle.com/{page}"
    with pytest.raises(ModelError) as caught:
        archive_of(handle)
    assert str(caught.value).startswith(f"model {handle}: ")
    assert problem in str(caught.value)
    assert "give it as https://www.kaggle.com/models/OWNER/MODEL/tensorFlow2/" in str(caught.value)


def test_other_servers_speak_the_hubs_protocol():
    for handle in ("https://tfhub.dev/google/m/1", "http://host/m.tar.gz?a=b", "http://[x/m"):
        assert archive_of(handle) == (handle, {"tf-hub-format": "compressed"})


@pytest.mark.parametrize(
    ("handle", "problem"),
    [
        ("https://huggingface.co/google/vit-base-patch16-224", "is a page of Hugging Face"),
        ("https://tfhub.dev/google/tfjs-model/m/1", "is a model for TensorFlow.js or TensorFlow L"),
        ("https://tfhub.dev/tensorflow/lite-model/m/1", "is a model for TensorFlow.js or TensorFl"),
    ],
)
def test_pages_that_are_no_archives(handle, problem):
    with pytest.raises(ModelError, match=problem):
        archive_of(handle)


@pytest.mark.parametrize("handle", [MODEL, f"{MODEL}/", MODEL.removesuffix("/1")])
def test_kaggles_client_writes_no_scheme(handle):
    assert kaggle_of(handle) == f"https://www.kaggle.com/models/{handle.strip('/')}"


@pytest.mark.parametrize("handle", ["models/m", "a/b/c/d/1", "/srv/a/keras/m", "gs://a/b/keras/m"])
def test_paths_are_not_kaggles(handle):
    assert kaggle_of(handle) is None


@pytest.mark.parametrize(
    ("handle", "has_it"),
    [
        ("https://tfhub.dev/google/tf2-preview/mobilenet_v2/classification/2", True),
        ("https://www.kaggle.com/models/google/mobilenet-v2/tensorFlow2/tf2-preview/1", True),
        ("kaggle://google/mobilenet-v2/tensorFlow2/tf2-preview/1", True),
        ("kaggle://models/google/mobilenet-v2/tensorFlow2/tf2-preview/1", True),
        ("https://www.kaggle.com/models/somebody/flowers/tensorFlow2/default/1", False),
        ("https://tfhub.dev/somebody/flowers/1", False),
        ("http://models.example/google/flowers/1", False),
        ("models/google/flowers", False),
    ],
)
def test_only_googles_models_promise_the_hubs_convention(handle, has_it):
    assert has_hub_convention(handle) is has_it
