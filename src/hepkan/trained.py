"""A trained model of any kind as a value: predictions, the record of its training, its files."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import ArrayLike

from hepkan import regressors
from hepkan.boosting import TargetTrees
from hepkan.errors import DataError
from hepkan.files import write_text
from hepkan.flow import Flow
from hepkan.model_io import load, read_metadata, save
from hepkan.nn import Network
from hepkan.predictors import PyKAN, Trees, read_trees
from hepkan.regressors import Median, METSplit, Regressor, read_regressor, write_regressor


class Predictor(Protocol):
    """Anything that turns raw features `(n, d)` into predictions.

    They are probabilities `(n,)`, or `(n, K)` for K > 2 classes, or targets `(n,)` or `(n, t)` in physical units.
    """

    def predict(self, X: ArrayLike) -> np.ndarray: ...


@dataclass(frozen=True)
class TrainedModel:
    """A trained model of any kind.

    Attributes:
        kind: name in `MODELS`.
        seed: of initial values, order of events and subsampling.
        settings: all of them, defaults included.
        predictor: the network, the trees, or another regressor.
        n_parameters: trained numbers; for trees the number of leaves and splits.
        seconds: wall time of training.
        history: one row per epoch or boosting round: epoch, train_loss, validation_loss, ...
        best_value: validation loss of the epoch that was kept; in regression (networks: with loss `mae`) the mean over
            targets of the absolute error in standard deviations of the training targets.
    """

    kind: str
    seed: int
    settings: dict[str, Any]
    predictor: Predictor
    n_parameters: int
    seconds: float
    history: list[dict[str, float]]
    best_value: float

    def predict(self, X: ArrayLike) -> np.ndarray:
        """Return probabilities `(n,)` of class 1, or `(n, K)`, or targets, from raw features `(n, d)`."""
        return self.predictor.predict(X)

    def save(self, folder: str | Path) -> Path:
        """Write the model into a folder; return its file.

        Networks are `model.hepkan` or `model.pykan`, a flow is `model.flow`, classifying trees `model.txt` and
        `model.json`, the other regressors `predictor.json`.

        Raises:
            OSError: the folder cannot be written.
        """
        root = Path(folder)
        root.mkdir(parents=True, exist_ok=True)
        record = {name: value for name, value in vars(self).items() if name != "predictor"}
        if isinstance(self.predictor, Trees):
            write_text(root / "model.json", json.dumps(record, indent=1))
            write_text(root / "model.txt", self.predictor.text)
            return root / "model.txt"
        if isinstance(self.predictor, PyKAN):
            self.predictor.write(root / "model.pykan", record)
            return root / "model.pykan"
        if isinstance(self.predictor, Flow):
            self.predictor.write(root / "model.flow", record)
            return root / "model.flow"
        if isinstance(self.predictor, Regressor):
            return write_regressor(self.predictor, root, record)
        assert isinstance(self.predictor, Network)
        save(self.predictor, root / "model.hepkan", record)
        return root / "model.hepkan"


def load_model(folder: str | Path) -> TrainedModel:
    """Return the model that `TrainedModel.save` wrote into a folder.

    Raises:
        DataError: no model file, or a damaged one.
        MissingExtra: a model of pykan or a flow, and pykan or zuko is not installed.
    """
    root = Path(folder)
    predictor: Predictor
    if (root / "model.hepkan").is_file():
        predictor, record = load(root / "model.hepkan"), read_metadata(root / "model.hepkan")["extra"]
    elif (root / "model.pykan").is_file():
        predictor, record = PyKAN.read(root / "model.pykan"), read_metadata(root / "model.pykan")["extra"]
    elif (root / "model.flow").is_file():
        predictor, record = Flow.read(root / "model.flow"), read_metadata(root / "model.flow")["extra"]
    elif (root / "model.txt").is_file():
        predictor, record = read_trees(root)
    elif (root / regressors.FILE).is_file():
        predictor, record = read_regressor(root, {one.__name__: one for one in (Median, METSplit, TargetTrees)})
    else:
        raise DataError(
            f"{root} must hold model.hepkan, model.pykan, model.flow, model.txt or {regressors.FILE}, however it has "
            "none of them."
        )
    try:
        return TrainedModel(predictor=predictor, **record)
    except TypeError as error:
        raise DataError(
            f"The model in {root} must come from train_model, however its record does not."
        ) from error
