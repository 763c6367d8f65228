"""Training a network to give the mean prediction of others: an ensemble in the size of one."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
from torch import nn

from hepkan.data import Policy, Table
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
    several. Classes are taught by the mean probabilities. The network takes the maps of the first teacher, and may use
    fewer features, as a pruned one does; validation is by the true targets or labels, in the same units.

    Arguments:
        model: of the shape wanted.
        teachers: trained networks of the same features and targets.
        train: events; labels count in the balance of classes only, targets are not looked at.
        validation: events that choose the best epoch.
        settings: of `hepkan.fit`.

    Raises:
        UsageError: no teachers, another number of features or targets, features that the first teacher does not use, or
            classes with another loss than cross-entropy.
        DataError: as `hepkan.fit`.

    References:
        "Distilling the Knowledge in a Neural Network" (Hinton et al., 2015), arXiv:1503.02531.
    """
    if not teachers:
        raise UsageError("Distillation needs teachers, however there are none. Train some with hepkan.fit.")
    for one in teachers:
        shapes = (one.n_features, one.n_targets), (model.n_features, model.n_targets)
        if shapes[0] != shapes[1] or type(one.input_map) is not type(model.input_map):
            maps = type(one.input_map).__name__, type(model.input_map).__name__
            raise UsageError(
                f"Teacher and network need the same features, targets and input map, however: {shapes[0]} and "
                f"{shapes[1]} features and targets, {maps[0]} and {maps[1]}."
            )
    model.input_map = _map_of(teachers[0], model)
    model.output_map = copy.deepcopy(teachers[0].output_map)
    model.head = copy.deepcopy(teachers[0].head)
    policy: Policy = settings.get("negative_weights", "abs")
    table, weight = train.for_training(policy)
    mean = np.stack([one.predict(table.X).reshape(len(table), -1) for one in teachers]).astype(np.float64).mean(axis=0)
    if not train.classification:
        return fit(model, dataclasses.replace(table, y=mean), validation, fit_inputs=False, **settings)
    if settings.get("loss", "cross_entropy") != "cross_entropy":
        raise UsageError(f"Classes are taught by the cross-entropy, however the loss is {settings['loss']!r}.")
    model.feature_names = list(train.names)
    held_out = None if validation is None else _with_probabilities(validation, policy)
    taught = (table.X, mean, weight)
    return fit(model, taught, held_out, fit_inputs=False, **{**settings, "loss": "soft_cross_entropy"})


def _map_of(teacher: Network, model: Network) -> nn.Module:
    """Return the teacher's input map for the features that a network uses, which may be fewer."""
    known, wanted = (list(one.columns or range(one.n_features)) for one in (teacher, model))
    if not set(wanted) <= set(known):
        missing = sorted(set(wanted) - set(known))
        raise UsageError(
            f"A network learns from teachers that use all of its features, however they do not use columns {missing}."
        )
    part: nn.Module = teacher.input_map.part([known.index(column) for column in wanted])  # type: ignore[operator]
    return part


def _with_probabilities(table: Table, policy: Policy) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return features, labels as probabilities, and weights."""
    kept, weight = table.for_training(policy)
    labels = np.eye(len(kept.classes))[kept.y]
    return kept.X, labels[:, 1:] if len(kept.classes) == 2 else labels, weight
