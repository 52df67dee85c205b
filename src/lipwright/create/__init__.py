"""The walks that make an avatar of a film: ``train_avatar`` teaches a prepared one, ``create`` does everything."""

from __future__ import annotations

from lipwright.create.agreement import Agreed
from lipwright.create.encoder import as_onnx
from lipwright.create.fit import Trained, pack_avatar, train_avatar, training_folder
from lipwright.create.step import Step
from lipwright.create.walk import Created, FilmFindings, create

__all__ = [
    "Agreed",
    "Created",
    "FilmFindings",
    "Step",
    "Trained",
    "as_onnx",
    "create",
    "pack_avatar",
    "train_avatar",
    "training_folder",
]
