"""What a SavedModel says of its graphs: it may have one for serving, and others."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pipeline.errors import ModelError

_SERVE, _TRAIN = "serve", "train"

# The operations whose values are in the files of variables/.
_VARIABLES = {"VarHandleOp", "VariableV2", "Variable", "AutoReloadVariable"}


def tags_of(folder: Path) -> list[str] | None:
    """Choose the graph to load, by its tags.

    That for serving; else that without tags, as in modules of TensorFlow 1 Hub, which have another
    one for training.

    Args:
      folder: of a SavedModel.

    Returns:
      Its tags, or None if there is only one.

    Raises:
      ModelError: there are several, and none of them is for serving; or the only one is for
        training, with dropout and all.
    """
    saved_model = _read(folder)
    if saved_model is None:
        return None  # TensorFlow says what is wrong with it
    tags = [sorted(graph.meta_info_def.tags) for graph in saved_model.meta_graphs]
    if len(tags) == 1 and (_TRAIN not in tags[0] or _SERVE in tags[0]):
        return None
    for wanted in ([_SERVE], []):
        if tags.count(wanted) == 1:
            return wanted
    if not tags:
        raise ModelError(f"the SavedModel in {folder} cannot be loaded: it has no graph")
    raise ModelError(
        f"the SavedModel in {folder} has no graph for serving: its graphs have the tags "
        + ", ".join(f"[{', '.join(names)}]" for names in tags),
        remedy="save it with a graph whose only tag is serve",
    )


def has_variables(folder: Path) -> bool:
    """Tell whether a SavedModel has values of variables to read.

    A graph that was frozen has none. One that cannot be read is taken to have some.
    """
    saved_model = _read(folder)
    return saved_model is None or any(
        graph.HasField("saver_def") or any(node.op in _VARIABLES for node in graph.graph_def.node)
        for graph in saved_model.meta_graphs
    )


def _read(folder: Path) -> Any:
    """Read the SavedModel's message; None if it is none, or more than protobuf reads."""
    # TensorFlow takes seconds to import, and is silent only if it is imported in this way.
    from pipeline.models.tensorflow_import import DecodeError, SavedModel

    saved_model = SavedModel()
    try:
        saved_model.ParseFromString((folder / "saved_model.pb").read_bytes())
    except (DecodeError, OSError):
        return None
    return saved_model
