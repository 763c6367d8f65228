"""KANClassifier and KANRegressor: scikit-learn's contract, weights as copies, hostile inputs, interruption."""

from __future__ import annotations

import copy
import doctest
import os
import pickle
import signal
import subprocess
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy import sparse
from sklearn.base import clone, is_classifier, is_regressor
from sklearn.datasets import make_blobs
from sklearn.exceptions import ConvergenceWarning, NotFittedError
from sklearn.metrics import log_loss
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

import hepkan
from hepkan import KANClassifier, KANRegressor, estimators
from hepkan.errors import DataError, UsageError
from hepkan.estimators import CALIBRATIONS, LEAST_HELD_OUT, distinct_events, split_events
from hepkan.train.training import Training

SMALL: dict[str, Any] = {"hidden": (4,), "grid": 3, "max_epochs": 4}
BOTH = pytest.mark.parametrize("kind", [KANClassifier, KANRegressor])


def events(n: int = 400, classes: int = 2, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Return features `(n, 3)` and labels that overlap in the first two of them."""
    generator = np.random.default_rng(seed)
    y = generator.integers(classes, size=n)
    X = generator.normal(size=(n, 3)) + np.stack([y, y == 1, 0 * y], axis=1) * 1.5
    return X, y


def outputs(estimator: Any, X: Any) -> np.ndarray:
    """Return the most detailed prediction of an estimator."""
    values: np.ndarray = (estimator.predict_proba if is_classifier(estimator) else estimator.predict)(X)
    return values


def logits(model: hepkan.KAN, X: np.ndarray) -> np.ndarray:
    """Return the single output of a network `(n,)`."""
    with torch.no_grad():
        return model(torch.from_numpy(X.astype(np.float32)))[:, 0].double().numpy()


# --- scikit-learn's own checks, without expected failures -------------------------------------------------------------


@parametrize_with_checks([KANClassifier(hidden=(4,), max_epochs=20), KANRegressor(hidden=(4,), max_epochs=25)])
def test_contract(estimator: Any, check: Any) -> None:
    check(estimator)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:calibrate needs two validation events:UserWarning")
@parametrize_with_checks(
    [KANClassifier(), KANRegressor(), KANRegressor(loss="mae"), KANClassifier(hidden=(30, 30), class_weight="balanced")]
    + [KANClassifier(validation_fraction=0.3, max_epochs=20, calibrate=name) for name in CALIBRATIONS]
)
def test_contract_of_defaults_and_calibrations(estimator: Any, check: Any) -> None:
    check(estimator)


@pytest.mark.slow
def test_check_estimator_passes_without_a_skip() -> None:
    code = (
        "import warnings; warnings.simplefilter('ignore'); import hepkan\n"
        "from sklearn.utils.estimator_checks import check_estimator\n"
        "for one in (hepkan.KANClassifier(), hepkan.KANRegressor()):\n"
        "    print(sorted({row['status'] for row in check_estimator(one)}))"
    )
    environment = {**os.environ, "SCIPY_ARRAY_API": "1"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    assert done.stdout.splitlines() == ["['passed']"] * 2


def test_examples_of_the_docstrings() -> None:
    result = doctest.testmod(estimators)
    assert result.attempted >= 6
    assert result.failed == 0


@BOTH
def test_every_argument_is_documented_and_stored_unchanged(kind: Any) -> None:
    hidden = [5, np.int64(4)]
    estimator = kind(hidden=hidden, options={"average": 0.9})
    assert estimator.hidden is hidden
    text = (KANClassifier.__doc__ or "") + (kind.__doc__ or "")
    for name in estimator.get_params():
        assert f"{name}:" in text or f"{name}," in text, name
    assert set(vars(estimator)) == set(estimator.get_params())


class WithThreshold(KANClassifier):
    def __init__(self, hidden: Any = (3,), threshold: float = 0.5) -> None:
        super().__init__(hidden=hidden, max_epochs=2)
        self.threshold = threshold


def test_subclass_with_its_own_arguments() -> None:
    X, y = events(60)
    clf = clone(WithThreshold(threshold=0.7)).fit(X, y)
    assert clf.get_params() == {"hidden": (3,), "threshold": 0.7}
    assert clf.n_iter_ == 2


def test_kinds_and_tags() -> None:
    assert is_classifier(KANClassifier())
    assert is_regressor(KANRegressor())
    tags = KANRegressor().__sklearn_tags__()
    assert tags.target_tags.multi_output
    assert not tags.input_tags.sparse
    assert not tags.input_tags.allow_nan
    assert KANClassifier().__sklearn_tags__().classifier_tags.multi_class


def test_no_hep_dependency() -> None:
    code = "import sys, hepkan.estimators; print(*{name.split('.')[0] for name in sys.modules})"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert "sklearn" in loaded
    assert not {"uproot", "awkward", "fastjet", "pythia8mc", "pylhe", "mplhep", "vector", "matplotlib"} & set(loaded)


# --- the network is that of hepkan.fit --------------------------------------------------------------------------------


def test_classifier_is_hepkan_fit() -> None:
    X, y = events()
    w = np.random.default_rng(1).exponential(size=len(X))
    clf = KANClassifier(hidden=(4,), grid=3, degree=2, max_epochs=3, batch_size=64, random_state=5)
    clf.fit(X, y, sample_weight=w)
    train, held_out = split_events(*(one := distinct_events(X, y, w), one.target), 0.1, 5)[:2]
    assert held_out is not None
    model = hepkan.KAN([3, 4, 1], grid=3, degree=2, seed=5)
    result = hepkan.fit(model, train.arrays, held_out.arrays, epochs=3, batch=64, seed=5)
    assert np.array_equal(clf.decision_function(X), logits(model, X))
    for row, own in zip(clf.history_, result.history, strict=True):
        assert row["validation_loss"] == own["validation_loss"]
    assert clf.best_epoch_ == result.best_epoch
    assert clf.n_iter_ == 3


def test_regressor_is_hepkan_fit() -> None:
    X, _ = events(100)
    Y = np.stack([X[:, 0] * 100.0, X[:, 1] ** 2], axis=1)
    options = {"optimizer": "sgd", "average": 0.9, "base": "linear", "input_map": "standard"}
    reg = KANRegressor(hidden=3, loss="huber", max_epochs=3, validation_fraction=0, learning_rate=0.01, options=options)
    reg.set_params(weight_decay=0.0, batch_size=30, random_state=2).fit(X, Y)
    model = hepkan.KAN([3, 3, 2], base="linear", input_map="standard", seed=2)
    settings: dict[str, Any] = {"learning_rate": 0.01, "weight_decay": 0.0, "optimizer": "sgd", "average": 0.9}
    hepkan.fit(model, distinct_events(X, Y).arrays, loss="huber", epochs=3, batch=30, seed=2, **settings)
    assert np.array_equal(reg.predict(X).astype(np.float32), model.predict(X))
    assert reg.best_epoch_ == reg.n_iter_ == 3


def test_network_is_kept_and_saved(tmp_path: Path) -> None:
    X, y = events(60)
    clf = KANClassifier(**SMALL).fit(X, y)
    assert isinstance(clf.model_, hepkan.KAN)
    assert clf.model_.link == "sigmoid"
    hepkan.save(clf.model_, tmp_path / "model.hepkan")
    again = hepkan.load(tmp_path / "model.hepkan")
    assert np.array_equal(logits(again, X), clf.decision_function(X))
    assert np.allclose(again.predict(X), clf.predict_proba(X)[:, 1], rtol=1e-6)


# --- weights ----------------------------------------------------------------------------------------------------------


@BOTH
@pytest.mark.parametrize("classes", [2, 3])
def test_weights_are_copies(kind: Any, classes: int) -> None:
    X, y = events(500, classes)
    target = y if kind is KANClassifier else X[:, 0] + y
    w = np.random.default_rng(3).integers(0, 4, size=len(X))
    weighted = kind(**SMALL).fit(X, target, sample_weight=w)
    order = np.random.default_rng(4).permutation(int(w.sum()))
    copied = kind(**SMALL).fit(X.repeat(w, axis=0)[order], target.repeat(w)[order])
    assert "validation_loss" in weighted.history_[0]
    assert np.array_equal(outputs(weighted, X), outputs(copied, X))
    rescaled = kind(**SMALL).fit(X, target, sample_weight=w * 2.0**-60)
    assert np.array_equal(outputs(weighted, X), outputs(rescaled, X))


def test_distinct_events() -> None:
    X = np.array([[1.0, 2.0], [0.0, 5.0], [1.0, 2.0], [-0.0, 5.0], [1.0, 2.0], [9.0, 9.0]])
    one = distinct_events(X, [0, 1, 0, 1, 1, 1], [1.0, 2.0, 3.0, 4.0, 5.0, 0.0])
    rows = sorted((*x, t, w) for x, t, w in zip(one.X.tolist(), one.target.tolist(), one.weight.tolist(), strict=True))
    assert rows == [(0.0, 5.0, 1, 6.0), (1.0, 2.0, 0, 4.0), (1.0, 2.0, 1, 5.0)]
    assert len(distinct_events(X[:0], [], []).X) == 0


def test_equal_hashes_do_not_merge_events(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(estimators, "splitmix64", np.zeros_like)
    X = np.array([[1.0], [2.0], [2.0], [1.0]])
    one = distinct_events(X, np.zeros(4), np.ones(4))
    assert sorted(zip(one.X[:, 0].tolist(), one.weight.tolist(), strict=True)) == [(1.0, 1.0), (1.0, 1.0), (2.0, 2.0)]


@BOTH
@pytest.mark.parametrize("policy", ["abs", "zero", "drop", "keep"])
def test_negative_weights(kind: Any, policy: str) -> None:
    X, y = events(200)
    target = y if kind is KANClassifier else X[:, 0]
    w = np.where(np.arange(200) % 5 == 0, -0.5, 1.0)
    same = {"abs": np.abs(w), "zero": np.maximum(w, 0), "drop": np.maximum(w, 0), "keep": w}[policy]
    settings: dict[str, Any] = {**SMALL, "validation_fraction": 0.0}
    one = kind(**settings, negative_weights=policy).fit(X, target, sample_weight=w)
    if policy == "keep":
        assert np.isfinite(outputs(one, X)).all()
    else:
        two = kind(**settings).fit(X, target, sample_weight=same)
        assert np.array_equal(outputs(one, X), outputs(two, X))


@pytest.mark.parametrize(
    ("weight", "message"),
    [
        (np.zeros(40), "(?i)weight.*zero"),
        (np.full(40, np.nan), "NaN"),
        (np.full(40, np.inf), "infinity"),
        (np.ones(39), "shape"),
        (np.ones((40, 1)), "(?i)1D|shape"),
    ],
)
@BOTH
def test_bad_weights_are_refused(kind: Any, weight: np.ndarray, message: str) -> None:
    X, y = events(40)
    with pytest.raises(ValueError, match=message):
        kind(**SMALL).fit(X, y, sample_weight=weight)
    with pytest.raises(DataError, match="weight is not zero"):
        kind(**SMALL, negative_weights="zero").fit(X, y, sample_weight=-np.ones(40))


@BOTH
def test_extreme_weights(kind: Any) -> None:
    X, y = events(60)
    for scale in (1e-300, 1e300, 5e-324):
        assert np.isfinite(outputs(kind(**SMALL).fit(X, y, sample_weight=np.full(60, scale)), X)).all()


def test_class_of_weight_zero_is_absent() -> None:
    X, y = events(90, 3)
    clf = KANClassifier(**SMALL).fit(X, y, sample_weight=y != 2)
    assert clf.classes_.tolist() == [0, 1]
    with pytest.raises(DataError, match=r"at least two classes.*one class: 1"):
        KANClassifier(**SMALL).fit(X, y, sample_weight=y == 1)


def test_class_weight() -> None:
    X, y = events(400)
    w = np.where(y == 1, 1e-3, 1.0)
    plain, balanced, named = (
        KANClassifier(hidden=(4,), max_epochs=15, class_weight=one).fit(X, y, sample_weight=w)
        for one in (None, "balanced", {1: 1e3})
    )
    assert plain.predict(X).mean() < 0.05
    assert abs(balanced.predict(X).mean() - 0.5) < 0.1
    assert abs(named.predict(X).mean() - 0.5) < 0.1
    for wrong in ("equal", {7: 1.0}, {1: -1.0}, 3):
        with pytest.raises(UsageError, match="class_weight needs"):
            KANClassifier(**SMALL, class_weight=wrong).fit(X, y)


# --- labels, targets, frames ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "names",
    [["signal", "background"], [True, False], [-1, 1], [3.0, 5.0], ["w", "tt", "qcd"], [10, 2, 30]],
    ids=str,
)
def test_labels_of_any_kind(names: list[Any]) -> None:
    X, y = make_blobs(120, centers=len(names), random_state=1)
    labels = np.array(names)[y]
    clf = KANClassifier(hidden=(4,), max_epochs=25).fit(X, labels)
    assert clf.classes_.tolist() == sorted(names)
    assert clf.predict(X).dtype == labels.dtype
    assert clf.score(X, labels) > 0.9
    probabilities = clf.predict_proba(X)
    assert np.allclose(probabilities.sum(axis=1), 1.0, atol=1e-12)
    assert np.allclose(np.exp(clf.predict_log_proba(X)), probabilities, rtol=1e-9)
    assert np.array_equal(clf.classes_[probabilities.argmax(axis=1)], clf.predict(X))
    score = clf.decision_function(X)
    if len(names) == 2:
        assert score.shape == (120,)
        assert np.array_equal(clf.classes_[(score > 0).astype(int)], clf.predict(X))
        assert clf.model_.widths[-1] == 1
    else:
        assert score.shape == (120, len(names))
        assert np.array_equal(clf.classes_[score.argmax(axis=1)], clf.predict(X))


@pytest.mark.parametrize("shape", [(80,), (80, 1), (80, 3)])
def test_targets_keep_their_shape(shape: tuple[int, ...]) -> None:
    X, _ = events(80)
    Y = np.random.default_rng(0).normal(size=shape) + 1000.0
    reg = KANRegressor(**SMALL).fit(X, Y)
    assert reg.predict(X).shape == shape
    assert reg.predict(X[:1]).shape == (1, *shape[1:])
    assert reg.predict(X).dtype == np.float64
    assert reg.n_outputs_ == int(np.prod(shape[1:], dtype=int))
    assert abs(reg.predict(X).mean() - 1000.0) < 1.0


@pytest.mark.parametrize("loss", ["mse", "mae", "huber"])
def test_regression_learns(loss: str) -> None:
    generator = np.random.default_rng(0)
    X = generator.normal(size=(600, 2))
    Y = np.stack([100 * np.sin(X[:, 0]) + 500, 1e-3 * X[:, 0] * X[:, 1]], axis=1)
    reg = KANRegressor(hidden=(6,), loss=loss, weight_decay=0.01).fit(X[:400], Y[:400])
    assert reg.score(X[400:], Y[400:]) > 0.8


@BOTH
def test_data_frames(kind: Any) -> None:
    pandas = pytest.importorskip("pandas")
    X, y = events(60)
    frame = pandas.DataFrame(X, columns=["pt", "eta", "mass"])
    estimator = kind(**SMALL).fit(frame, pandas.Series(y), sample_weight=pandas.Series(np.ones(60)))
    assert estimator.feature_names_in_.tolist() == ["pt", "eta", "mass"]
    assert estimator.n_features_in_ == 3
    assert estimator.model_.feature_names == ["pt", "eta", "mass"]
    assert np.array_equal(outputs(estimator, frame), outputs(kind(**SMALL).fit(X, y), X))
    with pytest.raises(ValueError, match="feature names"):
        estimator.predict(frame[["eta", "pt", "mass"]])
    with pytest.warns(UserWarning, match="feature names"):
        estimator.predict(X)
    estimator.fit(X, y)
    assert not hasattr(estimator, "feature_names_in_")
    assert estimator.model_.feature_names is None


@BOTH
def test_polars_frames(kind: Any) -> None:
    polars = pytest.importorskip("polars")
    X, y = events(60)
    estimator = kind(**SMALL).fit(polars.DataFrame(X, schema=["pt", "eta", "mass"]), polars.Series(y))
    assert estimator.feature_names_in_.tolist() == ["pt", "eta", "mass"]


def test_categories_of_pandas() -> None:
    pandas = pytest.importorskip("pandas")
    X, y = events(60)
    for dtype in ("category", "string", "object"):
        labels = pandas.Series(np.array(["b", "s"])[y]).astype(dtype)
        assert set(KANClassifier(**SMALL).fit(X, labels).predict(X)) <= {"b", "s"}


# --- copies, searches, pipelines --------------------------------------------------------------------------------------


@BOTH
@pytest.mark.parametrize("how", [copy.deepcopy, lambda one: pickle.loads(pickle.dumps(one))], ids=["copy", "pickle"])  # noqa: S301
def test_copies_predict_the_same(kind: Any, how: Any) -> None:
    X, y = events(200)
    settings: dict[str, Any] = {"calibrate": "isotonic"} if kind is KANClassifier else {}
    estimator = kind(**SMALL, **settings).fit(X, y)
    twin = how(estimator)
    assert np.array_equal(outputs(twin, X), outputs(estimator, X))
    assert np.array_equal(outputs(twin.fit(X, y), X), outputs(estimator, X))
    fresh = clone(estimator)
    assert fresh.get_params() == estimator.get_params()
    with pytest.raises(NotFittedError):
        fresh.predict(X)


@pytest.mark.slow
def test_grid_search_in_two_processes() -> None:
    X, y = events(150)
    grid = {"hidden": [(3,), ()], "grid": [3]}
    search = GridSearchCV(KANClassifier(max_epochs=2), grid, cv=2, n_jobs=2).fit(X, y)
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()
    alone = GridSearchCV(KANClassifier(max_epochs=2), grid, cv=2).fit(X, y)
    assert np.array_equal(search.cv_results_["mean_test_score"], alone.cv_results_["mean_test_score"])
    assert np.array_equal(search.predict_proba(X), alone.predict_proba(X))


def test_pipeline() -> None:
    pandas = pytest.importorskip("pandas")
    X, y = events(300)
    frame = pandas.DataFrame(X, columns=["pt", "eta", "mass"])
    pipeline = make_pipeline(StandardScaler(), KANClassifier(hidden=(4,), max_epochs=15)).set_output(transform="pandas")
    pipeline.fit(frame, y, kanclassifier__sample_weight=np.ones(300))
    assert pipeline[-1].feature_names_in_.tolist() == ["pt", "eta", "mass"]
    assert cross_val_score(pipeline, frame, y, cv=3, scoring="roc_auc").mean() > 0.8


# --- random numbers ---------------------------------------------------------------------------------------------------


@BOTH
def test_random_state(kind: Any) -> None:
    X, y = events(60)

    def fitted(state: Any) -> np.ndarray:
        return outputs(kind(**SMALL, random_state=state).fit(X, y), X)

    assert np.array_equal(fitted(3), fitted(np.int64(3)))
    assert not np.array_equal(fitted(3), fitted(4))
    assert np.array_equal(fitted(np.random.RandomState(3)), fitted(np.random.RandomState(3)))
    state = np.random.RandomState(3)
    assert not np.array_equal(fitted(state), fitted(state))
    assert np.isfinite(fitted(None)).all()
    with pytest.raises(ValueError, match="seed"):
        fitted("three")


@BOTH
def test_global_state_stays(kind: Any) -> None:
    X, y = events(60)
    before = np.random.get_state()[1].copy(), torch.get_rng_state(), torch.get_num_threads()  # type: ignore[index] # noqa: NPY002
    kind(**SMALL, n_jobs=2).fit(X, y).predict(X)
    assert np.array_equal(before[0], np.random.get_state()[1])  # type: ignore[index] # noqa: NPY002
    assert torch.equal(before[1], torch.get_rng_state())
    assert before[2] == torch.get_num_threads()


def test_inputs_stay_as_they_are() -> None:
    X, y = events(60)
    X32, w = X.astype(np.float32), np.linspace(-1, 1, 60)
    originals = X32.copy(), y.copy(), w.copy()
    X32.setflags(write=False)
    KANClassifier(**SMALL).fit(X32, y, sample_weight=w).predict(X32)
    for one, two in zip((X32, y, w), originals, strict=True):
        assert np.array_equal(one, two)


# --- validation part, calibration -------------------------------------------------------------------------------------


def test_early_stopping() -> None:
    X, _ = events(300)
    y = np.random.default_rng(5).integers(2, size=300)
    clf = KANClassifier(hidden=(20,), max_epochs=200, patience=3, weight_decay=0.0).fit(X, y)
    assert clf.n_iter_ == clf.best_epoch_ + 3 == len(clf.history_) < 200
    losses = [row["validation_loss"] for row in clf.history_]
    assert losses[clf.best_epoch_ - 1] == min(losses)
    none = KANClassifier(hidden=(20,), max_epochs=10, validation_fraction=0).fit(X, y)
    assert none.n_iter_ == none.best_epoch_ == 10
    assert "validation_loss" not in none.history_[0]


def test_split_is_stratified_and_by_content() -> None:
    X, y = events(1000, 3)
    one = distinct_events(X, y)
    train, held_out = split_events(one, one.target, 0.2, 0)
    assert held_out is not None
    for k in range(3):
        assert abs((held_out.target == k).sum() - 0.2 * (y == k).sum()) <= 0.5
    assert not set(train.key) & set(held_out.key)
    other = split_events(one, one.target, 0.2, 1)[1]
    assert other is not None
    assert 0.05 < len(set(other.key) & set(held_out.key)) / len(held_out.key) < 0.4
    few = distinct_events(X[: 5 * LEAST_HELD_OUT - 5], y[: 5 * LEAST_HELD_OUT - 5])
    assert split_events(few, np.zeros(len(few.X), dtype=np.int64), 0.2, 0) == (few, None)


@pytest.mark.parametrize("method", CALIBRATIONS)
@pytest.mark.parametrize("classes", [2, 3])
def test_calibration_helps_a_network_of_one_epoch(method: str, classes: int) -> None:
    X, y = events(3000, classes)
    settings: dict[str, Any] = {"hidden": (4,), "max_epochs": 1, "validation_fraction": 0.3}
    plain = KANClassifier(**settings).fit(X[:2000], y[:2000])
    clf = KANClassifier(**settings, calibrate=method).fit(X[:2000], y[:2000])
    assert clf.calibrator_ is not None
    assert np.array_equal(plain.model_.predict(X), clf.model_.predict(X))
    assert log_loss(y[2000:], clf.predict_proba(X[2000:])) < log_loss(y[2000:], plain.predict_proba(X[2000:]))
    probabilities, score = clf.predict_proba(X), clf.decision_function(X)
    assert np.allclose(probabilities.sum(axis=1), 1.0)
    assert np.isfinite(score).all()
    assert np.array_equal(probabilities.argmax(axis=1), clf.predict(X))
    assert np.array_equal((score > 0).astype(int) if classes == 2 else score.argmax(axis=1), clf.predict(X))
    assert np.allclose(np.exp(clf.predict_log_proba(X)), probabilities)
    if method == "temperature":
        assert np.array_equal(clf.predict(X), plain.predict(X))
    assert clf.set_params(calibrate=None).fit(X[:100], y[:100]).calibrator_ is None


def test_calibration_needs_data() -> None:
    X, y = events(60)
    with pytest.warns(UserWarning, match=r"two validation events of every class.*\[0, 0\]"):
        clf = KANClassifier(**SMALL, calibrate="sigmoid").fit(X, y)
    assert clf.calibrator_ is None
    for settings, message in (
        ({"validation_fraction": 0.0}, "validation part"),
        ({"negative_weights": "keep"}, "not negative"),
    ):
        with pytest.raises(UsageError, match=message):
            KANClassifier(**SMALL, calibrate="sigmoid", **settings).fit(X, y)


# --- interruption -----------------------------------------------------------------------------------------------------


def interrupted_in(epoch: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let Ctrl-C arrive while a training learns in this epoch."""
    learn = Training._learn

    def with_signal(self: Training, number: int) -> tuple[float, float, float]:
        result = learn(self, number)
        if number == epoch:
            signal.raise_signal(signal.SIGINT)
        return result

    monkeypatch.setattr(Training, "_learn", with_signal)


@pytest.fixture
def interruptible() -> Iterator[None]:
    """Let Ctrl-C raise KeyboardInterrupt, also where the tests run in the background and it is ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("interruptible")
@BOTH
def test_interruption_keeps_the_best_weights(kind: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    X, y = events(400)
    whole = kind(**{**SMALL, "max_epochs": 8}).fit(X, y)
    with monkeypatch.context() as patch:
        interrupted_in(4, patch)
        estimator = kind(**{**SMALL, "max_epochs": 8})
        with pytest.warns(ConvergenceWarning, match="after 3 of 8 epochs"):
            assert estimator.fit(X, y) is estimator
    names = ("train_loss", "validation_loss")
    assert [[row[one] for one in names] for row in estimator.history_] == [
        [row[one] for one in names] for row in whole.history_[:3]
    ]
    assert estimator.n_iter_ == 3
    if kind is KANClassifier:
        one = distinct_events(X, y)
        held_out = split_events(one, one.target, 0.1, 0)[1]
        assert held_out is not None
        value = log_loss(held_out.target, estimator.predict_proba(held_out.X))
        assert value == pytest.approx(min(row["validation_loss"] for row in estimator.history_), rel=1e-5)
    assert np.array_equal(outputs(estimator.fit(X, y), X), outputs(whole, X))


@pytest.mark.usefixtures("interruptible")
def test_interruption_with_warnings_as_errors_keeps_the_network(monkeypatch: pytest.MonkeyPatch) -> None:
    X, y = events(60)
    interrupted_in(2, monkeypatch)
    clf = KANClassifier(**SMALL)
    with warnings.catch_warnings(), pytest.raises(ConvergenceWarning):
        warnings.simplefilter("error")
        clf.fit(X, y)
    assert clf.n_iter_ == 1
    assert clf.predict(X).shape == (60,)


def test_failed_fit_keeps_the_old_network() -> None:
    X, y = events(60)
    clf = KANClassifier(**SMALL).fit(X, y)
    before = clf.predict_proba(X)
    with pytest.raises(DataError):
        clf.fit(X, np.zeros(60))
    with pytest.raises(UsageError):
        clf.set_params(hidden=(0,)).fit(X, y + 1)
    assert np.array_equal(clf.predict_proba(X), before)
    assert clf.classes_.tolist() == [0, 1]


@pytest.mark.usefixtures("interruptible")
def test_interruption_before_the_first_epoch_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    X, y = events(60)
    threads = torch.get_num_threads()
    with monkeypatch.context() as patch:
        interrupted_in(1, patch)
        clf = KANClassifier(**SMALL, n_jobs=2)
        with pytest.raises(KeyboardInterrupt):
            clf.fit(X, y)
    assert torch.get_num_threads() == threads
    with pytest.raises(NotFittedError):
        clf.predict(X)


def test_progress_goes_to_standard_error(capfd: pytest.CaptureFixture[str]) -> None:
    X, y = events(60)
    KANClassifier(**SMALL, verbose=True).fit(X, y)
    out, err = capfd.readouterr()
    assert out == ""
    assert "epoch" in err


# --- hostile inputs ---------------------------------------------------------------------------------------------------


def test_one_class() -> None:
    X, _ = events(30)
    with pytest.raises(DataError, match=r"at least two classes.*all 30 events.*one class: 'signal'"):
        KANClassifier(**SMALL).fit(X, ["signal"] * 30)


@BOTH
def test_few_events(kind: Any) -> None:
    X, y = np.array([[0.0, 1.0], [1.0, 1.0]]), np.array([0, 1])
    assert np.isfinite(outputs(kind(**SMALL).fit(X, y), X)).all()
    if kind is KANClassifier:
        with pytest.raises(DataError, match="one class"):
            kind(**SMALL).fit(X[:1], y[:1])
    else:
        assert kind(**SMALL).fit(X[:1], [7.0]).predict(X[:1]) == pytest.approx(7.0, abs=0.1)


@BOTH
def test_constant_discrete_and_huge_columns(kind: Any) -> None:
    generator = np.random.default_rng(0)
    charge = generator.choice([-1.0, 1.0], size=200)
    X = np.stack([np.full(200, 7.0), charge, 1e30 * generator.normal(size=200), 1e-30 * charge, np.zeros(200)], axis=1)
    estimator = kind(hidden=(4,), max_epochs=20).fit(X, charge)
    assert np.isfinite(outputs(estimator, X)).all()
    assert estimator.score(X, charge) > 0.9
    assert np.isfinite(outputs(estimator, -1e7 * X)).all()


@BOTH
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda X, y: (X * [1, 1, np.nan], y), "NaN"),
        (lambda X, y: (X * [1, 1, np.inf], y), "infinity"),
        (lambda X, y: (X * 1e300, y), "too large for dtype\\('float32'\\)"),
        (lambda X, y: (sparse.csr_array(X), y), "(?i)sparse"),
        (lambda X, y: (X[0], y), "2D array"),
        (lambda X, y: (X[:, :, None], y), "dim 3"),
        (lambda X, y: (X[:-1], y), "inconsistent"),
        (lambda X, y: (X[:, :0], y), "0 feature"),
        (lambda X, y: (X[:0], y[:0]), "0 sample"),
        (lambda X, y: (X, y[:, None, None]), "dim 3|1d array"),
        (lambda X, y: (X, np.where(y == 0, np.nan, 1.0)), "NaN"),
        (lambda X, y: (X + 1j, y), "Complex"),
        (lambda X, y: (np.array([["a", "b", "c"]] * len(X)), y), "could not convert"),
    ],
)
def test_impossible_data(kind: Any, change: Any, message: str) -> None:
    X, y = change(*events(40))
    with pytest.raises((ValueError, TypeError), match=message):
        kind(**SMALL).fit(X, y)


def test_impossible_targets() -> None:
    X, y = events(40)
    with pytest.raises(ValueError, match="continuous"):
        KANClassifier(**SMALL).fit(X, X[:, 0])
    with pytest.raises(ValueError, match="1d array"):
        KANClassifier(**SMALL).fit(X, np.stack([y, 1 - y], axis=1))
    with pytest.raises(DataError, match=r"Targets need to be below 1e\+30.*another unit"):
        KANRegressor(**SMALL).fit(X, 1e35 * X[:, 0])
    assert np.isfinite(KANRegressor(**SMALL).fit(X, 1e29 * X[:, 0]).predict(X)).all()
    with pytest.raises(ValueError, match="could not convert"):
        KANRegressor(**SMALL).fit(X, np.array(["a"] * 40, dtype=object))


@BOTH
def test_impossible_predictions(kind: Any) -> None:
    X, y = events(40)
    with pytest.raises(NotFittedError):
        kind().predict(X)
    estimator = kind(**SMALL).fit(X, y)
    for wrong, message in (
        (X[:, :2], "2 features"),
        (X[0], "2D array"),
        (X[:0], "0 sample"),
        (X * np.nan, "NaN"),
        (sparse.csr_array(X), "(?i)sparse"),
    ):
        with pytest.raises((ValueError, TypeError), match=message):
            estimator.predict(wrong)


@BOTH
@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"hidden": (2.5,)}, "hidden needs whole numbers"),
        ({"hidden": "ten"}, "hidden needs whole numbers"),
        ({"hidden": (0,)}, "at least 1"),
        ({"grid": 0}, "grid needs"),
        ({"grid": 2.5}, "grid needs"),
        ({"grid": None}, "grid needs"),
        ({"degree": -1}, "degree needs"),
        ({"max_epochs": 0}, "max_epochs needs"),
        ({"max_epochs": True}, "max_epochs needs"),
        ({"patience": 0}, "patience needs"),
        ({"batch_size": 0}, "batch_size needs to be 'auto' or"),
        ({"batch_size": "big"}, "batch_size needs to be 'auto' or"),
        ({"learning_rate": "fast"}, "learning_rate needs"),
        ({"learning_rate": 0.0}, "learning_rate needs"),
        ({"weight_decay": -1}, "weight_decay needs"),
        ({"weight_decay": np.nan}, "weight_decay needs"),
        ({"validation_fraction": 1.0}, "validation_fraction needs"),
        ({"validation_fraction": None}, "validation_fraction needs"),
        ({"negative_weights": "aps"}, "Did you mean 'abs'"),
        ({"options": ["average"]}, "options needs"),
        ({"options": {"averge": 0.9}}, "Did you mean 'average'"),
        ({"options": {"epochs": 3}}, "Unknown option 'epochs'"),
        ({"options": {"input_map": "quantle"}}, "Did you mean 'quantile'"),
    ],
)
def test_impossible_settings(kind: Any, settings: dict[str, Any], message: str) -> None:
    X, y = events(40)
    with pytest.raises(UsageError, match=message):
        kind(**settings).fit(X, y)


def test_impossible_settings_of_one_kind() -> None:
    X, y = events(40)
    with pytest.raises(UsageError, match="Unknown loss of a regression 'cross_entropy'"):
        KANRegressor(loss="cross_entropy").fit(X, y)
    with pytest.raises(UsageError, match="Did you mean 'isotonic'"):
        KANClassifier(calibrate="isotonik").fit(X, y)


@BOTH
def test_no_warnings(kind: Any) -> None:
    X, y = events(100)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        kind(**SMALL).fit(X.tolist(), y.tolist()).predict(X.tolist())
