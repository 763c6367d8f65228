"""`KANClassifier` and `KANRegressor`: networks as scikit-learn estimators.

They need scikit-learn 1.6 or newer.
"""

from __future__ import annotations

import operator
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from numbers import Integral, Real
from typing import Any, Self, get_args

import numpy as np
import torch
from joblib import effective_n_jobs
from numpy.typing import ArrayLike, NDArray
from scipy.special import expit, log_softmax, logit, softmax
from sklearn import __version__ as sklearn_release
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin
from sklearn.calibration import CalibratedClassifierCV
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils import check_random_state
from sklearn.utils.fixes import parse_version
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import _check_sample_weight, check_is_fitted, validate_data

from hepkan.data import Policy
from hepkan.data.checks import positive_sum, splitmix64, uniform_hash
from hepkan.errors import DataError, UsageError, unknown
from hepkan.losses import LOSSES, get_loss
from hepkan.nn import KAN
from hepkan.train import fit
from hepkan.train.progress import shown

Floats = NDArray[np.float64]
RandomState = int | np.random.RandomState | None

LEAST_HELD_OUT = 20
"""Training goes without a validation part that would have fewer events."""

LARGEST_TARGET = 1e30
"""Targets beyond have no room for predictions in float32."""

CALIBRATIONS = (
    "sigmoid",
    "isotonic",
    *(("temperature",) if parse_version(sklearn_release) >= parse_version("1.8") else ()),
)
KAN_OPTIONS = frozenset(("base", "input_map", "grid_range", "rank", "products", "backend"))
FIT_OPTIONS = frozenset(("optimizer", "schedule", "regularisers", "gradient_clip", "grid_updates", "average"))

_DRAW = 3  # stream of the hash, other than those of a Table


@dataclass(frozen=True)
class Events:
    """Different events: X `(n, d)`, target `(n,)` or `(n, t)`, weight `(n,)`, and a hash of each, `key` `(n,)`."""

    X: NDArray[np.float32]
    target: NDArray[Any]
    weight: Floats
    key: NDArray[np.uint64]

    def take(self, rows: NDArray[np.bool_]) -> Events:
        """Return some rows."""
        return Events(self.X[rows], self.target[rows], self.weight[rows], self.key[rows])

    @property
    def arrays(self) -> tuple[NDArray[np.float32], NDArray[Any], Floats]:
        """X, target and weight as `hepkan.fit` takes them."""
        return self.X, self.target, self.weight


def distinct_events(X: ArrayLike, target: ArrayLike, weight: ArrayLike | None = None) -> Events:
    """Return the different events among all, in an order that depends on their content only.

    Copies become one event with the sum of their weights, events of weight zero are left out. Training on the result
    gives the same bits for any order of the rows, and for a weight of 3 or three copies.

    **Shape** X: `(n, d)`, taken as float32; target: `(n,)` or `(n, t)`; weight: `(n,)`.
    """
    features, targets = np.asarray(X, dtype=np.float32) + np.float32(0), np.asarray(target)  # -0 becomes 0
    weights = np.ones(len(features)) if weight is None else np.asarray(weight, dtype=np.float64)
    present = weights != 0.0
    features, targets, weights = features[present], targets[present], weights[present]
    columns = (targets if targets.ndim == 2 else targets[:, None]).astype(np.float64) + 0.0
    key = np.zeros(len(features), dtype=np.uint64)
    for column in (*features.T, *columns.T):
        bits = np.ascontiguousarray(column, dtype=np.float64).view(np.uint64)
        key = splitmix64(key ^ splitmix64(bits))
    order = np.argsort(key, kind="stable")
    features, columns, targets, key = features[order], columns[order], targets[order], key[order]
    new = np.ones(len(key), dtype=np.bool_)
    new[1:] = (key[1:] != key[:-1]) | (features[1:] != features[:-1]).any(1) | (columns[1:] != columns[:-1]).any(1)
    sums = np.add.reduceat(weights[order], np.flatnonzero(new)) if len(key) else weights
    return Events(np.ascontiguousarray(features[new]), targets[new], sums, key[new])


def split_events(events: Events, strata: NDArray[np.int64], fraction: float, seed: int) -> tuple[Events, Events | None]:
    """Return a training and a validation part, drawn by the content of the events in every stratum alike.

    The second is None where it would have fewer than `LEAST_HELD_OUT` events.
    """
    number = uniform_hash(events.key.view(np.int64), seed, _DRAW)
    held_out = np.zeros(len(number), dtype=np.bool_)
    for stratum in np.unique(strata):
        rows = np.flatnonzero(strata == stratum)
        count = int(np.floor(fraction * len(rows) + 0.5))
        held_out[rows[np.argsort(number[rows], kind="stable")[:count]]] = True
    if held_out.sum() < LEAST_HELD_OUT:
        return events, None
    return events.take(~held_out), events.take(held_out)


class _KANEstimator(BaseEstimator):  # type: ignore[misc]
    """What both estimators share: reading data, training, and the outputs of the network."""

    def _store(self, arguments: Mapping[str, Any]) -> None:
        """Keep the constructor's arguments as they are, which is scikit-learn's contract."""
        self.__dict__.update({name: value for name, value in arguments.items() if name not in ("self", "__class__")})

    def _read(self, X: Any, y: Any, **checks: Any) -> tuple[NDArray[np.float32], NDArray[Any]]:
        """Return checked features and targets; features too large for float32 are refused as infinite."""
        self._check_settings()
        with np.errstate(over="ignore", invalid="ignore"):
            features, target = validate_data(self, X, y, dtype=np.float32, **checks)
        return features, target

    def _check_settings(self) -> None:
        """Refuse impossible settings in the estimator's own words; names of options are checked here too."""
        for name, least in (("grid", 1), ("degree", 0), ("max_epochs", 1), ("patience", 1), ("batch_size", 1)):
            value = getattr(self, name)
            if name == "batch_size" and isinstance(value, str) and value == "auto":
                continue
            if not isinstance(value, Integral) or isinstance(value, bool) or value < least:
                either = "'auto' or " if name == "batch_size" else ""
                raise UsageError(f"{name} needs to be {either}a whole number of at least {least}, however: {value!r}.")
        for name in ("learning_rate", "weight_decay"):
            value = getattr(self, name)
            if value is not None and (not isinstance(value, Real) or not 0.0 <= float(value) < np.inf):
                raise UsageError(f"{name} needs to be None or a number that is not negative, however: {value!r}.")
        fraction = self.validation_fraction
        if not isinstance(fraction, Real) or not 0.0 <= float(fraction) < 1.0:
            raise UsageError(f"validation_fraction needs to be at least 0 and below 1, however: {fraction!r}.")
        if self.negative_weights not in get_args(Policy):
            raise unknown("policy for negative weights", str(self.negative_weights), get_args(Policy))
        if self.options is not None and not isinstance(self.options, Mapping):
            raise UsageError(f"options needs to be a dict or None, however: {self.options!r}.")
        for option in self.options or {}:
            if option not in KAN_OPTIONS | FIT_OPTIONS:
                raise unknown("option", str(option), KAN_OPTIONS | FIT_OPTIONS)

    def _weights(self, sample_weight: Any, X: NDArray[np.float32]) -> Floats:
        """Return weights `(n,)` after the policy for negative ones, of a size that sums cannot overflow."""
        weight: Floats = _check_sample_weight(sample_weight, X, dtype=np.float64)
        if self.negative_weights == "abs":
            weight = np.abs(weight)
        elif self.negative_weights != "keep":
            weight = np.maximum(weight, 0.0)
        largest = float(np.abs(weight).max())
        if largest == 0.0:
            raise DataError(
                "Training needs events whose weight is not zero, however there are none. Check sample_weight, or "
                "choose another policy for negative_weights."
            )
        return np.ldexp(weight, -int(np.frexp(largest)[1]))  # a power of two: sums of copies stay exact

    def _network(self, outputs: int, seed: int) -> KAN:
        """Return an untrained network."""
        try:
            hidden = [operator.index(n) for n in np.atleast_1d(np.asarray(self.hidden, dtype=object))]
        except TypeError as error:
            raise UsageError(f"hidden needs whole numbers, (30, 30) say, however: {self.hidden!r}.") from error
        network = KAN(
            [self.n_features_in_, *hidden, outputs],
            grid=int(self.grid),
            degree=int(self.degree),
            seed=seed,
            **self._chosen(KAN_OPTIONS),
        )
        if hasattr(self, "feature_names_in_"):
            network.feature_names = [str(name) for name in self.feature_names_in_]
        return network

    def _chosen(self, names: frozenset[str]) -> dict[str, Any]:
        """Return the options with one of these names."""
        return {name: value for name, value in (self.options or {}).items() if name in names}

    def _train(
        self, events: Events, strata: NDArray[np.int64], outputs: int, loss: str, **learned: Any
    ) -> Events | None:
        """Train a network, keep it with its history and what else was learned; return the validation part."""
        seed = seed_of(self.random_state)
        network = self._network(outputs, seed)
        train, held_out = split_events(events, strata, float(self.validation_fraction), seed)
        automatic = min(256, max(16, len(train.X) // 64))
        history: list[dict[str, float]] = []
        interrupted = False
        try:
            with shown(bool(self.verbose)) as show, threads(effective_n_jobs(self.n_jobs)):

                def note(epoch: int, epochs: int, row: Mapping[str, float]) -> None:
                    history.append(dict(row))
                    show(epoch, epochs, row)

                fit(
                    network,
                    train.arrays,
                    None if held_out is None else held_out.arrays,
                    loss=loss,
                    learning_rate=self.learning_rate,
                    weight_decay=self.weight_decay,
                    epochs=int(self.max_epochs),
                    batch=automatic if self.batch_size == "auto" else int(self.batch_size),
                    patience=int(self.patience),
                    seed=seed,
                    progress=note,
                    **self._chosen(FIT_OPTIONS),
                )
        except KeyboardInterrupt:
            if not history:
                raise
            interrupted = True
        losses = [row.get("validation_loss", -row["epoch"]) for row in history]
        self.__dict__.update(learned, model_=network, history_=history, n_iter_=len(history))
        self.best_epoch_ = int(np.argmin(losses)) + 1
        if interrupted:
            warnings.warn(
                f"Training was interrupted after {len(history)} of {self.max_epochs} epochs; the estimator keeps the "
                "best weights so far.",
                ConvergenceWarning,
                stacklevel=3,
            )
        return held_out

    def _outputs(self, X: Any) -> Floats:
        """Return the outputs of the network `(n, outputs)` for features to be checked."""
        check_is_fitted(self, "model_")
        with np.errstate(over="ignore", invalid="ignore"):
            features = validate_data(self, X, reset=False, dtype=np.float32, order="C")
        return outputs_of(self.model_, features)


class KANClassifier(ClassifierMixin, _KANEstimator):  # type: ignore[misc]
    """A Kolmogorov-Arnold network that classifies, for scikit-learn.

    The features are raw physical quantities: their map to network coordinates is learned from the training data and
    part of the network. Arithmetic is float32. Copies of an event count as one with the sum of their weights, events of
    weight zero as absent, and neither copies nor the order of rows change a bit of the result.

    **Interruption.** Ctrl-C in `fit` ends the training, not the program: a `ConvergenceWarning` is given and the
    estimator is fitted with the best weights so far. Before the first epoch is complete there is nothing to keep and
    the `KeyboardInterrupt` goes on. In a search over settings each Ctrl-C therefore ends one training.

    Arguments:
        hidden: numbers of hidden nodes, one or several layers, `()` for none.
        grid: intervals of every grid.
        degree: degree of the splines.
        learning_rate: of the first step; None for the default of the optimiser, see `hepkan.fit`.
        weight_decay: of weights and spline coefficients; None as above.
        max_epochs: at most.
        batch_size: events per step; `auto` is 1/64 of them, at least 16 and at most 256.
        patience: epochs without a better validation loss before training stops.
        validation_fraction: part of every class, drawn by the content of the events, that chooses the best epoch. 0, or
            fewer than 20 events in that part: training goes without and the last epoch counts.
        class_weight: None; `balanced` for equal sums of weights; or a factor for each label, 1 where there is none.
        calibrate: how `predict_proba` is calibrated on the validation part by scikit-learn: None, `sigmoid`,
            `isotonic` or `temperature` (one number, no decision changes; needs scikit-learn 1.8). It has the weights of
            training, those of classes included. Without two events of every class in that part a warning is given and
            nothing is calibrated.
        negative_weights: policy for negative sample weights: `abs`, `keep`, `zero` or `drop` (the same here).
        options: more arguments of `hepkan.KAN` (base, input_map, grid_range, products, backend) and `hepkan.fit`
            (optimizer, schedule, regularisers, gradient_clip, grid_updates, average) by name.
        n_jobs: threads of training, 1 if None, all if -1.
        verbose: whether a bar shows the epochs.
        random_state: of initial values, validation part and order of events. The same integer gives the same bits; it
            is the seed of `hepkan.KAN` and `hepkan.fit`. None and a `RandomState` draw such an integer.

    Attributes:
        model_: the network, a `hepkan.KAN`; without calibration.
        classes_: the labels in order `(K,)`.
        n_features_in_, feature_names_in_: number and, for data frames, names of the features.
        history_: one row per epoch, see `hepkan.FitResult`.
        n_iter_, best_epoch_: epochs trained, and the one whose weights the network has.
        calibrator_: scikit-learn's calibrator from outputs of the network to probabilities, or None.

    Example:
        >>> from sklearn.datasets import load_iris
        >>> X, y = load_iris(return_X_y=True)
        >>> clf = KANClassifier(hidden=(8,), max_epochs=20, random_state=0).fit(X, y)
        >>> clf.predict_proba(X).shape, bool(clf.score(X, y) > 0.9)
        ((150, 3), True)
    """

    def __init__(
        self,
        hidden: Sequence[int] | int = (10,),
        grid: int = 5,
        degree: int = 3,
        *,
        learning_rate: float | None = None,
        weight_decay: float | None = None,
        max_epochs: int = 50,
        batch_size: int | str = "auto",
        patience: int = 8,
        validation_fraction: float = 0.1,
        class_weight: str | Mapping[Any, float] | None = None,
        calibrate: str | None = None,
        negative_weights: str = "abs",
        options: Mapping[str, Any] | None = None,
        n_jobs: int | None = None,
        verbose: bool = False,
        random_state: RandomState = 0,
    ) -> None:
        self._store(locals())

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:
        """Train a new network.

        Arguments:
            X: features `(n, d)`, finite numbers: array, list or data frame.
            y: labels `(n,)`: numbers, strings or booleans.
            sample_weight: weights `(n,)`, 1 if None.

        Raises:
            UsageError: an impossible setting.
            ValueError: shapes that do not fit, NaN, sparse data, fewer than two classes, no weight that is not zero.
        """
        features, target = self._read(X, y)
        check_classification_targets(target)
        self._check_calibration()
        weight = self._weights(sample_weight, features)
        kept = weight != 0.0
        classes, labels = np.unique(target[kept], return_inverse=True)
        if len(classes) < 2:
            raise DataError(
                f"A classifier needs events of at least two classes, however all {int(kept.sum())} events (of weight "
                f"not zero) have one class: {classes.tolist()[0]!r}. Add events of another class."
            )
        events = distinct_events(features[kept], labels, weight[kept])
        events = replace(events, weight=self._by_class(events, classes))
        outputs = 1 if len(classes) == 2 else len(classes)
        held_out = self._train(events, events.target, outputs, "cross_entropy", classes_=classes, calibrator_=None)
        if self.calibrate is not None:
            self.calibrator_ = self._calibrator(held_out)
        return self

    def decision_function(self, X: Any) -> Floats:
        """Return the logit of the second class `(n,)`, or one score per class `(n, K)`; the largest one is predicted.

        With `calibrate` these are the logits, or logarithms, of the calibrated probabilities.
        """
        outputs = self._outputs(X)
        if self.calibrator_ is not None:
            smallest = np.finfo(np.float64).eps
            p = np.clip(self.calibrator_.predict_proba(outputs), smallest / 2, 1.0 - smallest / 2)
            return np.asarray(logit(p[:, 1]) if len(self.classes_) == 2 else np.log(p))
        return outputs[:, 0] if len(self.classes_) == 2 else outputs

    def predict(self, X: Any) -> NDArray[Any]:
        """Return the most probable label of every event, `(n, d)` to `(n,)`."""
        score = self.decision_function(X)
        index = (score > 0).astype(np.intp) if score.ndim == 1 else score.argmax(axis=1)
        labels: NDArray[Any] = self.classes_[index]
        return labels

    def predict_proba(self, X: Any) -> Floats:
        """Return probabilities in the order of `classes_`, `(n, d)` to `(n, K)`."""
        outputs = self._outputs(X)
        if self.calibrator_ is not None:
            return self.calibrator_.predict_proba(outputs)  # type: ignore[no-any-return]
        if len(self.classes_) == 2:
            return np.asarray(expit(np.hstack([-outputs, outputs])))
        return softmax(outputs, axis=1)  # type: ignore[no-any-return]

    def predict_log_proba(self, X: Any) -> Floats:
        """Return logarithms of `predict_proba`, `(n, d)` to `(n, K)`, finite without calibration."""
        outputs = self._outputs(X)
        if self.calibrator_ is not None:
            with np.errstate(divide="ignore"):
                return np.log(self.calibrator_.predict_proba(outputs))  # type: ignore[no-any-return]
        logits = np.hstack([0.0 * outputs, outputs]) if len(self.classes_) == 2 else outputs
        return log_softmax(logits, axis=1)  # type: ignore[no-any-return]

    def _by_class(self, events: Events, classes: NDArray[Any]) -> Floats:
        """Return the weights after `class_weight`."""
        names = classes.tolist()
        if self.class_weight is None:
            return events.weight
        if isinstance(self.class_weight, Mapping):
            strange = [label for label in self.class_weight if label not in names]
            if strange:
                raise UsageError(f"class_weight needs labels among {names}, however it has {strange}.")
            factors = [float(self.class_weight.get(label, 1.0)) for label in names]
            if not all(0.0 <= factor < np.inf for factor in factors):
                raise UsageError(f"class_weight needs numbers that are not negative, however: {factors}.")
        elif self.class_weight == "balanced":
            parts = [events.weight[events.target == k] for k in range(len(names))]
            factors = [1.0 / positive_sum(part, f"class {name!r}") for part, name in zip(parts, names, strict=True)]
        else:
            raise UsageError(f"class_weight needs to be None, 'balanced' or a dict, however: {self.class_weight!r}.")
        return np.asarray(events.weight * np.asarray(factors)[events.target])

    def _check_calibration(self) -> None:
        """Refuse a calibration that no data could have."""
        if self.calibrate is None:
            return
        if self.calibrate not in CALIBRATIONS:
            raise unknown("calibration", str(self.calibrate), CALIBRATIONS)
        if self.validation_fraction == 0:
            raise UsageError("calibrate needs a validation part, however validation_fraction is 0. Set it to 0.2, say.")
        if self.negative_weights == "keep":
            raise UsageError("calibrate needs weights that are not negative, however negative_weights is 'keep'.")

    def _calibrator(self, held_out: Events | None) -> CalibratedClassifierCV | None:
        """Return a calibrator learned on the validation part, or None when that has too few events."""
        counts = np.bincount([] if held_out is None else held_out.target, minlength=len(self.classes_))
        if held_out is None or counts.min() < 2:
            warnings.warn(
                f"calibrate needs two validation events of every class, however there are {counts.tolist()}: the "
                "probabilities stay as they are. Give more events or raise validation_fraction.",
                UserWarning,
                stacklevel=3,
            )
            return None
        outputs = outputs_of(self.model_, held_out.X)
        calibrator = CalibratedClassifierCV(_Scores(), method=self.calibrate, cv=2, ensemble=False)
        return calibrator.fit(outputs, held_out.target, held_out.weight / held_out.weight.mean())


class KANRegressor(RegressorMixin, _KANEstimator):  # type: ignore[misc]
    """A Kolmogorov-Arnold network for one or several targets, for scikit-learn.

    Features and targets are raw physical quantities: the map of the features and the scale of the targets are learned
    from the training data and part of the network. All else, also what Ctrl-C does, is as for `KANClassifier`.

    Arguments:
        loss: `mse`, `mae` or `huber`, of standardised targets, see `hepkan.fit`.
        hidden, grid, degree, learning_rate, weight_decay, max_epochs, batch_size, patience, validation_fraction,
            negative_weights, options, n_jobs, verbose, random_state: as for `KANClassifier`; the validation part is
            drawn from all events.

    Attributes:
        model_: the network, a `hepkan.KAN`.
        n_outputs_: number of targets.
        n_features_in_, feature_names_in_, history_, n_iter_, best_epoch_: as for `KANClassifier`.

    Example:
        >>> X = np.random.default_rng(0).normal(size=(300, 2))
        >>> reg = KANRegressor(hidden=(), loss="mae", random_state=0).fit(X, np.sin(X) + [0.0, 100.0])
        >>> reg.predict(X).shape, bool(reg.score(X, np.sin(X) + [0.0, 100.0]) > 0.9)
        ((300, 2), True)
    """

    def __init__(
        self,
        hidden: Sequence[int] | int = (10,),
        grid: int = 5,
        degree: int = 3,
        *,
        loss: str = "mse",
        learning_rate: float | None = None,
        weight_decay: float | None = None,
        max_epochs: int = 50,
        batch_size: int | str = "auto",
        patience: int = 8,
        validation_fraction: float = 0.1,
        negative_weights: str = "abs",
        options: Mapping[str, Any] | None = None,
        n_jobs: int | None = None,
        verbose: bool = False,
        random_state: RandomState = 0,
    ) -> None:
        self._store(locals())

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:
        """Train a new network.

        Arguments:
            X: features `(n, d)`, finite numbers: array, list or data frame.
            y: targets `(n,)` or `(n, t)`.
            sample_weight: weights `(n,)`, 1 if None.

        Raises:
            UsageError: an impossible setting.
            ValueError: shapes that do not fit, NaN, sparse data, numbers beyond float32, no weight that is not zero.
        """
        features, target = self._read(X, y, multi_output=True, y_numeric=True)
        if self.loss not in LOSSES or get_loss(self.loss).classification:
            known = [name for name, loss in LOSSES.items() if not loss.classification]
            raise unknown("loss of a regression", str(self.loss), known)
        largest = float(np.abs(target).max(initial=0.0))
        if largest > LARGEST_TARGET:
            raise DataError(
                f"Targets need to be below {LARGEST_TARGET:g} in size (float32 arithmetic), however the largest is "
                f"{largest:g}. Choose another unit."
            )
        events = distinct_events(features, target.astype(np.float64), self._weights(sample_weight, features))
        outputs = 1 if target.ndim == 1 else target.shape[1]
        strata = np.zeros(len(events.X), dtype=np.int64)
        self._train(events, strata, outputs, self.loss, n_outputs_=outputs, _flat=target.ndim == 1)
        return self

    def predict(self, X: Any) -> Floats:
        """Return targets `(n,)` or `(n, t)`, in the shape of those in training."""
        outputs = self._outputs(X)
        return outputs[:, 0] if self._flat else outputs

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags


class _Scores(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """A classifier with nothing to learn: its features are the scores that scikit-learn is to calibrate."""

    def fit(self, X: Floats, y: NDArray[Any], sample_weight: Floats | None = None) -> Self:
        """Keep the classes."""
        self.classes_ = np.unique(y)
        return self

    def decision_function(self, X: Floats) -> Floats:
        """Return the features."""
        return X[:, 0] if X.shape[1] == 1 else X

    def predict(self, X: Floats) -> NDArray[Any]:
        """Return the class of the largest score."""
        index = (X[:, 0] > 0).astype(np.intp) if X.shape[1] == 1 else X.argmax(axis=1)
        labels: NDArray[Any] = self.classes_[index]
        return labels


def seed_of(random_state: RandomState) -> int:
    """Return an integer as it is, otherwise draw one."""
    generator = check_random_state(random_state)
    return int(random_state) if isinstance(random_state, Integral) else int(generator.randint(2**31 - 1))


def outputs_of(network: KAN, X: NDArray[np.float32]) -> Floats:
    """Return what a network gives before its link, `(n, d)` to `(n, outputs)`."""
    parameter = next(network.parameters())
    x = torch.from_numpy(X if X.flags.writeable else X.copy())
    with torch.no_grad():
        parts = [network(part.to(parameter)).cpu() for part in torch.split(x, 65536)]
    return torch.cat(parts).double().numpy()


@contextmanager
def threads(number: int) -> Iterator[None]:
    """Let PyTorch use a number of threads for a while."""
    before = torch.get_num_threads()
    torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)
