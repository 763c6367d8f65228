"""Training a network to give the mean prediction of others: an ensemble in the size of one."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from hepkan.data import Table
from hepkan.errors import UsageError
from hepkan.nn import Network
from hepkan.train.fitting import fit
from hepkan.train.training import FitResult


def distil(
    model: Network, teachers: Sequence[Network], train: Table, validation: Table | None = None, **settings: Any
) -> FitResult:
    """Train a network in place to predict what the mean of its teachers predicts for the training events.

    Networks that differ in their initial values overfit differently, and their mean less than each of them; targets
    without the scatter of the true ones are learned without overfitting. So a single network comes close to the mean of
    several. It takes the maps of the first teacher; validation is by the true targets, in the same units.

    Arguments:
        model: of the shape wanted.
        teachers: trained networks of the same features and targets.
        train: events of a regression; their targets are not looked at.
        validation: events that choose the best epoch.
        settings: of `hepkan.fit`.

    Raises:
        UsageError: no teachers, a classification, or another number of features or targets.
        DataError: as `hepkan.fit`.

    References:
        "Distilling the Knowledge in a Neural Network" (Hinton et al., 2015), arXiv:1503.02531.
    """
    if not teachers:
        raise UsageError("Distillation needs teachers, however there are none. Train some with hepkan.fit.")
    if train.classification:
        raise UsageError("Distillation is for regression, however the events have class labels. Set teachers to 0.")
    for one in teachers:
        shapes = (one.n_features, one.n_targets), (model.n_features, model.n_targets)
        if shapes[0] != shapes[1] or type(one.input_map) is not type(model.input_map):
            maps = type(one.input_map).__name__, type(model.input_map).__name__
            raise UsageError(
                f"Teacher and network need the same features, targets and input map, however: {shapes[0]} and "
                f"{shapes[1]} features and targets, {maps[0]} and {maps[1]}."
            )
    model.input_map = copy.deepcopy(teachers[0].input_map)
    model.output_map = copy.deepcopy(teachers[0].output_map)
    model.head = copy.deepcopy(teachers[0].head)
    total = np.sum([one.predict(train.X).reshape(train.y.shape) for one in teachers], axis=0, dtype=np.float64)
    taught = dataclasses.replace(train, y=np.asarray(total) / len(teachers))
    return fit(model, taught, validation, fit_inputs=False, **settings)
