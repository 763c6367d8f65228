"""Gradient boosted regression trees, one booster per target, trained side by side."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from hepkan.errors import UsageError
from hepkan.nn.heads import Head
from hepkan.regressors import Floats, Problem, Regressor, deviation, encoded

END = "\nend of trees\n"
"""LightGBM ends the process on a text without it."""


@dataclass(frozen=True)
class TargetTrees(Regressor):
    """Boosters in LightGBM's text format, one for each (reduced) target.

    Raises:
        ValueError: a text is cut off.
    """

    n_features: int
    texts: list[str]
    head: dict[str, Any] | None = None
    threads: int = 1
    _boosters: list[Any] = field(default_factory=list, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Read the boosters."""
        import lightgbm

        if not self.texts or not all(END in text for text in self.texts):
            raise ValueError("the text of a booster is cut off")
        for text in self.texts:
            try:
                self._boosters.append(lightgbm.Booster(model_str=text))
            except lightgbm.basic.LightGBMError as error:
                raise ValueError(str(error)) from error

    def reduced(self, x: Floats) -> Floats:
        """Return the sums of the trees."""
        if not len(x):
            return np.zeros((0, len(self.texts)))
        single = x.astype(np.float32)
        return np.column_stack([one.predict(single, num_threads=self.threads) for one in self._boosters])

    @property
    def n_parameters(self) -> int:
        """Number of leaves and splits of all trees."""
        trees = (tree for one in self._boosters for tree in one.dump_model()["tree_info"])
        return sum(2 * int(tree["num_leaves"]) - 1 for tree in trees)


class _Target:
    """One booster in training: its losses on training and validation part, and when it stops."""

    def __init__(self, parameters: Mapping[str, Any], parts: list[Any], patience: int) -> None:
        import lightgbm

        self.booster = lightgbm.Booster(dict(parameters), parts[0])
        self.booster.add_valid(parts[1], "validation")
        self.patience, self.round, self.best_round = patience, 0, 0
        self.losses = (float("inf"), float("inf"))

    @property
    def unfinished(self) -> bool:
        """Whether another round is due."""
        return self.round - self.best_round < self.patience

    def grow(self) -> None:
        """Add a tree and judge it."""
        self.booster.update()
        self.round += 1
        held_out = float(self.booster.eval_valid()[0][2])
        if held_out < self.losses[1]:
            self.best_round, self.losses = self.round, (float(self.booster.eval_train()[0][2]), held_out)

    @property
    def text(self) -> str:
        """The booster up to its best round."""
        return str(self.booster.model_to_string(num_iteration=self.best_round))


def fit_trees(
    train: Problem,
    validation: Problem,
    head: Head | None,
    parameters: Mapping[str, Any],
    rounds: int,
    stop_after: int,
    show: Callable[[int, Mapping[str, float]], None],
) -> tuple[TargetTrees, list[dict[str, float]]]:
    """Train a booster for every (reduced) target on its absolute error; return them and the history.

    A booster stops when `stop_after` rounds bring no better validation loss, and is cut at its best round. A row of the
    history has the mean over targets of the losses at the best rounds so far, in units of the deviation of the reduced
    training targets.

    Raises:
        UsageError: a weight is negative.
    """
    import lightgbm

    if min(train.weight.min(), validation.weight.min()) < 0:
        raise UsageError("Trees need weights that are not negative. Use another policy than 'keep'.")
    labels = [encoded(head, part.target) for part in (train, validation)]
    scale = train.scale if head is None else deviation(labels[0], train.weight)
    parameters = {**parameters, "objective": "regression_l1", "metric": ["l1"]}
    first: Any = None
    targets: list[_Target] = []
    for t in range(labels[0].shape[1]):
        parts: list[Any] = []
        for part, label in zip((train, validation), labels, strict=True):
            reference = parts[0] if parts else first
            single = part.X.astype(np.float32)
            parts.append(lightgbm.Dataset(single, label[:, t], weight=part.weight, reference=reference))
        first = parts[0] if first is None else first
        targets.append(_Target(parameters, parts, stop_after))
    history: list[dict[str, float]] = []
    while len(history) < rounds and any(one.unfinished for one in targets):
        for one in targets:
            if one.unfinished:
                one.grow()
        losses = np.mean([np.asarray(one.losses) / scale[t] for t, one in enumerate(targets)], axis=0)
        row = {"epoch": len(history) + 1.0, "train_loss": float(losses[0]), "validation_loss": float(losses[1])}
        history.append(row)
        show(len(history), dict(row))
    threads = int(parameters.get("num_threads", 1))
    description = None if head is None else head.describe()
    return TargetTrees(train.X.shape[1], [one.text for one in targets], description, threads), history
