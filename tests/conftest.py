import os
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

# Read when TensorFlow is imported, here and in the processes that tests start. Its own memory
# pool waits ten seconds before it reports that memory is short; the system reports it at once.
os.environ["TF_ONEDNN_USE_SYSTEM_ALLOCATOR"] = "1"


@pytest.fixture(scope="session", autouse=True)
def _no_cache_of_the_users(tmp_path_factory):
    """Keep tests from reading or changing the cache of the person who runs them."""
    patch = pytest.MonkeyPatch()
    patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
    patch.delenv("TFHUB_CACHE_DIR", raising=False)
    yield
    patch.undo()


@pytest.fixture
def servers_here():
    """Let this process ask servers on this machine, as ``allow_private_addresses`` does."""
    from apache_beam.io.filesystems import FileSystems
    from apache_beam.options.pipeline_options import PipelineOptions

    with pytest.MonkeyPatch.context() as patch:
        options = PipelineOptions(["--allow_private_addresses"])
        patch.setattr(FileSystems, "_pipeline_options", options)
        yield


@pytest.fixture(scope="session")
def fixtures():
    """The folder with real weights and photographs, if there is one."""
    folder = Path(os.environ.get("LABELING_FIXTURES") or ROOT.parent / "shared" / "fixtures")
    if not (folder / "photos" / "truth.csv").is_file():
        pytest.skip(f"real weights and photographs are not in LABELING_FIXTURES ({folder})")
    return folder


@pytest.fixture(scope="session")
def color_model(tmp_path_factory):
    """A SavedModel that tells red, green and blue images of 32 × 32 apart."""
    from helpers.models import save_model

    return save_model(tmp_path_factory.mktemp("models") / "color")
