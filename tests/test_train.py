"""The fit loop: it learns, keeps the best epoch, repeats and resumes to the bit, and explains what it refuses."""

import pickle
import random
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import hepkan
from hepkan.errors import DataError, UsageError
from hepkan.losses import REGULARISERS, penalty
from hepkan.metrics import auc
from hepkan.nn import Network
from hepkan.train import DivergenceError
from training_cases import Killed, N, events, held_out_loss, interrupted, killer, same_results, same_weights

NETWORKS: dict[str, Callable[..., Network]] = {
    "kan": lambda seed=0: hepkan.KAN([2, 5, 1], seed=seed),
    "mlp": lambda seed=0: hepkan.MLP([2, 16, 16, 1], dropout=0.1, seed=seed),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_learns_a_classification(name: str) -> None:
    model = NETWORKS[name]()
    hepkan.fit(model, events(1000), events(1000, 1), epochs=25, batch=100, learning_rate=2e-2, weight_decay=0.0)
    X, y = events(1000, 2)
    assert model.link == "sigmoid" and auc(y, model.predict(X)) > 0.97


@pytest.mark.parametrize("loss", ["mse", "mae", "huber"])
@pytest.mark.parametrize("name", NETWORKS)
def test_learns_a_regression_in_physical_units(name: str, loss: str) -> None:
    def energy(X: np.ndarray) -> np.ndarray:
        return 500 + 80 * (np.sin(2 * X[:, 0]) + X[:, 1] ** 2)

    model = NETWORKS[name]()
    X, test = events(1000)[0], events(1000, 2)[0]
    hepkan.fit(model, (X, energy(X)), loss=loss, epochs=25, batch=100, learning_rate=2e-2, weight_decay=0.0)
    residual, target = model.predict(test) - energy(test), energy(test)
    assert model.link == "identity" and np.median(np.abs(residual)) < 0.15 * target.std()


def test_three_classes_get_probabilities() -> None:
    X = events(900)[0]
    model = hepkan.KAN([2, 3])
    hepkan.fit(model, (X, np.digitize(X[:, 0], [-0.5, 0.5])), epochs=20, batch=100, learning_rate=2e-2)
    scores = model.predict(X)
    assert model.link == "softmax" and np.allclose(scores.sum(axis=1), 1, atol=1e-6)
    assert np.mean(scores.argmax(axis=1) == np.digitize(X[:, 0], [-0.5, 0.5])) > 0.9


@pytest.mark.parametrize("name", NETWORKS)
def test_model_has_exactly_the_best_epoch(name: str) -> None:
    model, (X, y) = NETWORKS[name](), events(200, 1)
    result = hepkan.fit(model, events(60), (X, y), learning_rate=0.05, schedule="constant", epochs=30, batch=20)
    losses = [row["validation_loss"] for row in result.history]
    assert result.model is model and not model.training
    assert [row["epoch"] for row in result.history] == list(range(1, len(losses) + 1))
    assert result.best_value == min(losses) == losses[result.best_epoch - 1] == held_out_loss(model, X, y)
    assert result.best_epoch < len(losses), "the last epoch is the best one here, so this test shows nothing"
    assert result.seconds == pytest.approx(sum(row["seconds"] for row in result.history))


def test_without_validation_the_last_epoch_counts() -> None:
    result = hepkan.fit(NETWORKS["kan"](), events(), epochs=5)
    assert (len(result.history), result.best_epoch) == (5, 5)
    assert result.best_value == result.history[-1]["train_loss"] < result.history[0]["train_loss"]
    assert "validation_loss" not in result.history[0]


@pytest.mark.parametrize("name", NETWORKS)
def test_seed_decides_everything_and_global_randomness_is_untouched(name: str) -> None:
    models = [NETWORKS[name]() for _ in range(3)]
    before = torch.get_rng_state(), np.random.get_state()[1].copy(), random.getstate()  # noqa: NPY002
    for model, seed in zip(models, (7, 7, 8), strict=True):
        hepkan.fit(model, events(), epochs=2, batch=50, seed=seed)
    after = torch.get_rng_state(), np.random.get_state()[1], random.getstate()  # noqa: NPY002
    assert torch.equal(before[0], after[0]) and np.array_equal(before[1], after[1]) and before[2] == after[2]
    assert same_weights(models[0], models[1]) and not same_weights(models[0], models[2])


ALONE = """
import hashlib, numpy as np, torch, hepkan
rng = np.random.default_rng(0)
X, w = rng.normal(size=(700, 4)), rng.uniform(0.5, 1.5, 700)
y = (X[:, 0] + X[:, 1] ** 2 > 0.5).astype(int)
widths, kept = [4, 6, 5, 1], (X.copy(), y.copy(), w.copy())
before = torch.get_rng_state(), np.random.get_state()[1].copy()
model = hepkan.KAN(widths, grid=5, seed=3)
hepkan.fit(model, (X, y, w), (X, y), epochs=3, batch=100, seed=3, grid_updates=1, average=0.9)
assert all(np.array_equal(one, other) for one, other in zip((X, y, w), kept)) and widths == [4, 6, 5, 1]
assert torch.equal(torch.get_rng_state(), before[0]) and np.array_equal(np.random.get_state()[1], before[1])
print(hashlib.sha256(b"".join(p.detach().numpy().tobytes() for p in model.parameters())).hexdigest())
"""


def test_two_processes_get_the_same_bits_and_leave_the_rest_of_the_world_alone(tmp_path: Path) -> None:
    command = [sys.executable, "-W", "error", "-c", ALONE]
    runs = [subprocess.run(command, cwd=tmp_path, capture_output=True, text=True) for _ in range(2)]
    assert [one.returncode for one in runs] == [0, 0], runs[0].stderr
    assert runs[0].stdout == runs[1].stdout and len(runs[0].stdout.strip()) == 64
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("loss", ["cross_entropy", "mse"])
def test_an_event_twice_is_an_event_of_double_weight(loss: str) -> None:
    X, y = events(100)
    copies = np.where(np.arange(100) < 30, 2, 1)
    trained = [
        hepkan.fit(hepkan.KAN([2, 4, 1]).double(), data, loss=loss, epochs=15, batch=1000).model
        for data in ((X, y, copies), (X.repeat(copies, axis=0), y.repeat(copies)), (X, y))
    ]
    weighted, repeated, plain = (model(torch.from_numpy(X).double()).detach() for model in trained)
    torch.testing.assert_close(weighted, repeated, atol=1e-6, rtol=1e-6)
    assert (weighted - plain).abs().max() > 1e-3


def test_tables_arrays_tensors_and_lists_are_the_same_events() -> None:
    X, y = events(200)
    table = hepkan.Table(X, y, weight=np.linspace(0.1, 3.0, 200), names=("pt", "eta"))
    weight = table.training_weights()
    read_only = X.copy()
    read_only.setflags(write=False)
    forms: list[Any] = [table, (X, y, weight), (read_only, y == 1, weight), (X.tolist(), y.tolist(), weight.tolist())]
    forms += [(torch.from_numpy(X), torch.from_numpy(y), torch.from_numpy(weight))]
    trained = [hepkan.fit(NETWORKS["kan"](), data, data, epochs=2, batch=50) for data in forms]
    assert all(same_weights(trained[0].model, result.model) for result in trained[1:])
    assert all(result.best_value == trained[0].best_value for result in trained[1:])
    assert [result.model.feature_names for result in trained[:2]] == [["pt", "eta"], None]


@pytest.mark.parametrize("change", [lambda a: a[::-1], lambda a: a.astype(a.dtype.newbyteorder(">"))])
def test_any_memory_layout_is_accepted(change: Callable[[np.ndarray], np.ndarray]) -> None:
    X, y = events(50)
    assert np.isfinite(hepkan.fit(NETWORKS["kan"](), (change(X), change(y)), epochs=1).best_value)


def test_negative_weights_follow_the_policy() -> None:
    X, y = events(200)
    weight = np.where(np.arange(200) % 5 == 0, -0.5, 1.0)
    table = hepkan.Table(X, y, weight)

    def trained(data: hepkan.Table, policy: Any) -> Network:
        return hepkan.fit(NETWORKS["kan"](), data, epochs=2, batch=50, negative_weights=policy).model

    assert same_weights(trained(table, "abs"), trained(hepkan.Table(X, y, np.abs(weight)), "abs"))
    assert same_weights(trained(table, "zero"), trained(hepkan.Table(X, y, weight.clip(min=0)), "abs"))
    assert same_weights(trained(table, "drop"), trained(table.take(weight > 0), "abs"))
    assert not same_weights(trained(table, "keep"), trained(table, "abs"))


def test_patience_stops_and_is_counted_from_the_best_epoch() -> None:
    X, y = events()
    result = hepkan.fit(NETWORKS["kan"](), (X, y), (X, 1 - y), epochs=40, batch=40, patience=3)
    assert len(result.history) == result.best_epoch + 3 < 40


def test_schedules() -> None:
    rates = {}
    for schedule in ("cosine", "constant"):
        history = hepkan.fit(
            NETWORKS["mlp"](), events(), epochs=10, batch=40, learning_rate=1e-2, schedule=schedule
        ).history
        rates[schedule] = [row["learning_rate"] for row in history]
    assert rates["constant"] == [1e-2] * 10
    assert 0.9e-2 < rates["cosine"][0] < 1e-2 and 0 < rates["cosine"][-1] < 1e-5
    assert np.all(np.diff(rates["cosine"]) < 0)


@pytest.mark.parametrize("name", [name for name in REGULARISERS if name != "gates"])
def test_regularisers_lower_their_penalty(name: str) -> None:
    def size(strength: float) -> float:
        model = NETWORKS["kan"]()
        result = hepkan.fit(
            model, events(), epochs=10, batch=50, learning_rate=2e-2, regularisers={name: strength} if strength else {}
        )
        assert ("penalty" in result.history[0]) == (strength > 0)
        return float(penalty(model, model.input_map(torch.from_numpy(events()[0])), {name: 1.0}).detach())

    assert size(0.05) < 0.9 * size(0.0)


def test_gradient_clip_bounds_the_step() -> None:
    def numbers(model: Network) -> torch.Tensor:
        return torch.nn.utils.parameters_to_vector(model.parameters()).detach()

    settings = {"optimizer": "sgd", "learning_rate": 1.0, "weight_decay": 0.0, "epochs": 1}
    steps = []
    for clip in (None, 1e-3):
        after = hepkan.fit(NETWORKS["kan"](), events(), gradient_clip=clip, **settings).model
        steps.append(float((numbers(after) - numbers(NETWORKS["kan"]())).norm()))
    assert steps[0] > 2e-3 and steps[1] == pytest.approx(1e-3, rel=1e-2)


def test_maps_are_learned_or_kept() -> None:
    X, y = events()
    model = hepkan.KAN([2, 1], input_map="standard")
    hepkan.fit(model, (1e3 * X, y), epochs=1)
    learned = model.input_map.scale.clone()
    assert (learned > 500).all()
    hepkan.fit(model, (X, y), epochs=1, fit_inputs=False)
    assert torch.equal(model.input_map.scale, learned)


@pytest.mark.parametrize("progress", [None, False, True])
def test_a_bar_is_shown_only_when_asked_for(progress: bool | None, capfd: pytest.CaptureFixture[str]) -> None:
    hepkan.fit(NETWORKS["kan"](), events(), events(200, 1), epochs=3, progress=progress)
    shown = capfd.readouterr()
    assert shown.out == ""
    assert shown.err == "" if not progress else "3/3" in shown.err and "validation loss 0." in shown.err


@pytest.mark.parametrize("kills", [(1,), (2, 3), (1, 2, 3, 4, 5)])
@pytest.mark.parametrize(("name", "optimizer"), [("kan", "adamw"), ("mlp", "adam"), ("mlp", "sgd")])
def test_killed_training_continues_to_the_identical_result(
    name: str, optimizer: str, kills: tuple[int, ...], tmp_path: Path
) -> None:
    def train(**changes: Any) -> Any:
        settings = {"epochs": 5, "batch": 50, "optimizer": optimizer, "learning_rate": 0.05}
        return hepkan.fit(NETWORKS[name](), events(), events(200, 1), **settings | changes)

    resumed, straight = interrupted(train, tmp_path / "training.ckpt", *kills), train()
    assert same_results(resumed, straight) and len(resumed.history) == 5
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    """The checkpoint of a training killed after its first epoch."""
    path = tmp_path / "training.ckpt"
    with pytest.raises(Killed):
        hepkan.fit(NETWORKS["kan"](), events(), epochs=3, checkpoint=path, progress=killer(1))
    return path


@pytest.mark.parametrize(
    ("seed", "data", "settings"),
    [
        (0, events(), {"learning_rate": 1e-3}),
        (0, events(), {"seed": 1}),
        (0, events(), {"epochs": 4}),
        (1, events(), {}),
        (0, events(N, 1), {}),
        (0, (*events(), np.linspace(1, 2, N)), {}),
    ],
)
def test_checkpoint_of_another_training_is_refused(
    seed: int, data: Any, settings: dict[str, Any], checkpoint: Path
) -> None:
    content = checkpoint.read_bytes()
    with pytest.raises(UsageError, match="other settings, data or initial weights"):
        hepkan.fit(NETWORKS["kan"](seed), data, **{"epochs": 3, "checkpoint": checkpoint, **settings})
    assert checkpoint.read_bytes() == content


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: b"",
        lambda content: b"hello",
        lambda content: content[:1000],
        lambda content: pickle.dumps([1, 2], protocol=2),
        lambda content: content[:-30],  # OSError
        lambda content: b"epoch,loss\n",  # IndexError
        lambda content: b"\x80\x02X\x01\0\0\0\xd1.",  # UnicodeDecodeError
    ],
    ids=["empty", "word", "head", "pickle", "cut", "text", "noise"],
)
def test_damaged_checkpoint_is_explained(damage: Callable[[bytes], bytes], checkpoint: Path) -> None:
    checkpoint.write_bytes(damage(checkpoint.read_bytes()))
    with pytest.raises(DataError, match="must be a checkpoint"):
        hepkan.fit(NETWORKS["kan"](), events(), epochs=3, checkpoint=checkpoint)


class Bomb:
    """Creates a file when it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> Any:
        return Path.touch, (self.mark,)


def test_checkpoint_executes_no_code(checkpoint: Path, tmp_path: Path) -> None:
    mark = tmp_path / "executed"
    torch.save({"identity": Bomb(mark)}, checkpoint)
    with pytest.raises(DataError, match="must be a checkpoint"):
        hepkan.fit(NETWORKS["kan"](), events(), epochs=3, checkpoint=checkpoint)
    assert not mark.exists()
    torch.load(checkpoint, weights_only=False)
    assert mark.exists(), "the bomb itself does not work, so this test shows nothing"


@pytest.mark.parametrize("within", [False, True], ids=["between epochs", "within an epoch"])
def test_ctrl_c_leaves_the_best_weights(within: bool) -> None:
    model, (X, y), losses = NETWORKS["kan"](), events(200, 1), []

    def interrupt(*_: Any) -> None:
        if losses and losses[-1] > min(losses) and model.training:
            raise KeyboardInterrupt

    def progress(epoch: int, epochs: int, row: Mapping[str, float]) -> None:
        losses.append(row["validation_loss"])
        if not within:
            model.train()
            interrupt()

    if within:
        model.output_map.register_forward_hook(interrupt)
    with pytest.raises(KeyboardInterrupt):
        hepkan.fit(model, events(), (X, y), epochs=50, batch=40, learning_rate=0.1, progress=progress)
    assert 1 < len(losses) < 50 and not model.training
    assert held_out_loss(model, X, y) == min(losses)


@pytest.mark.parametrize("column", ["features", "weights", "targets"])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_spoiled_events_are_counted(column: str, value: float) -> None:
    X, y = events(50)
    data = {"features": X, "targets": y.astype(float), "weights": np.ones(50)}
    data[column][[3, 5, 8]] = value
    with pytest.raises(DataError, match=f"(?i)finite.*{'' if column == 'targets' else column}.* 3 of 50 events"):
        hepkan.fit(NETWORKS["kan"](), (data["features"], data["targets"], data["weights"]))


@pytest.mark.parametrize("weight", [np.zeros(50), -np.ones(50)])
def test_weights_need_a_positive_sum(weight: np.ndarray) -> None:
    with pytest.raises(DataError, match="positive sum of weights"):
        hepkan.fit(NETWORKS["kan"](), (*events(50), weight))


def test_divergence_is_explained_and_leaves_finite_weights() -> None:
    model, (X, _) = NETWORKS["kan"](), events()
    with pytest.raises(DivergenceError, match=r"must stay finite.* epoch \d+: train_loss = .*lower learning_rate"):
        hepkan.fit(model, (X, X[:, 0]), (X, X[:, 0]), loss="mse", optimizer="sgd", learning_rate=1e8, batch=40)
    assert issubclass(DivergenceError, DataError) and np.isfinite(model.predict(X)).all()


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (lambda X, y: X, "must be a Table"),
        (lambda X, y: (X,), "must be a Table"),
        (lambda X, y: (X[:, 0], y), r"shape \(n, 2\) with n > 0, however: \(50,\)"),
        (lambda X, y: (X[:, :1], y), r"shape \(n, 2\) with n > 0, however: \(50, 1\)"),
        (lambda X, y: (X[:0], y[:0]), r"however: \(0, 2\)"),
        (lambda X, y: (X, y[:-1]), "one row per event"),
        (lambda X, y: (X, y, np.ones(49)), "one row per event"),
        (lambda X, y: (X, y, np.ones((50, 1))), "one row per event"),
        (lambda X, y: (X, X), r"labels need the shape \(n,\)"),
    ],
)
def test_wrong_shapes_are_explained(data: Callable[[np.ndarray, np.ndarray], Any], text: str) -> None:
    with pytest.raises(UsageError, match=text):
        hepkan.fit(NETWORKS["kan"](), data(*events(50)))


@pytest.mark.parametrize(
    ("target", "loss", "error"),
    [(2, "cross_entropy", DataError), (0.5, "cross_entropy", DataError), ([1.0, 2.0], "mse", UsageError)],
)
def test_targets_need_to_fit_the_outputs(target: Any, loss: str, error: type[Exception]) -> None:
    with pytest.raises(error, match="however"):
        hepkan.fit(NETWORKS["kan"](), (events(50)[0], np.array([target] * 50)), loss=loss)


@pytest.mark.parametrize(
    ("settings", "suggestion"),
    [
        ({"loss": "crossentropy"}, "cross_entropy"),
        ({"optimizer": "adamww"}, "adamw"),
        ({"schedule": "cosin"}, "cosine"),
        ({"regularisers": {"entropi": 1.0}}, "entropy"),
        ({"negative_weights": "absolute"}, "abs"),
    ],
)
def test_unknown_names_suggest_the_closest(settings: dict[str, Any], suggestion: str) -> None:
    with pytest.raises(UsageError, match=f"Did you mean '{suggestion}'"):
        hepkan.fit(NETWORKS["kan"](), hepkan.Table(*events(50)), **settings)


@pytest.mark.parametrize("value", [0, -1, np.nan, np.inf])
@pytest.mark.parametrize("name", ["epochs", "batch", "patience", "learning_rate", "gradient_clip", "weight_decay"])
def test_impossible_numbers_are_refused(name: str, value: float) -> None:
    if (name, value) == ("weight_decay", 0):
        value = -0.1
    with pytest.raises(UsageError, match=f"{name} .*however: {value}"):
        hepkan.fit(NETWORKS["kan"](), events(50), **{name: value})


def test_penalties_need_edges() -> None:
    with pytest.raises(UsageError, match="need a KAN"):
        hepkan.fit(NETWORKS["mlp"](), events(50), regularisers={"l1": 1.0})


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(20))
def test_cross_entropy_never_yields_nan_on_hostile_data(seed: int) -> None:
    rng = np.random.default_rng(seed)
    table = hepkan.get_task("multijet").table(n=2000, seed=seed)
    n = len(table)
    hostile = [rng.standard_cauchy(n) ** 5, np.exp(12 * rng.normal(size=n)), np.full(n, 7.0)]
    X = np.column_stack([table.X, *hostile])
    weight = table.weight * 10.0 ** rng.uniform(-6, 6, n)
    train, validation, test = hepkan.Table(X, table.y, weight, table.id, table.group).split(seed=seed)
    model = hepkan.KAN([X.shape[1], 10, 1], seed=seed)
    result = hepkan.fit(model, train, validation, learning_rate=5e-2, epochs=15, batch=256, seed=seed)
    assert all(np.isfinite(list(row.values())).all() for row in result.history)
    assert np.isfinite(model.predict(test.X)).all()


@pytest.mark.slow
@pytest.mark.parametrize("hidden", [1, 2, 3])
@pytest.mark.parametrize("grid", [3, 5, 10, 20, 50])
@pytest.mark.parametrize("updates", [0, 2])
def test_cross_entropy_trains_on_the_multijet_task(hidden: int, grid: int, updates: int) -> None:
    """Twenty seeds of events and weights."""
    table = hepkan.get_task("multijet").table(n=1000, seed=0)
    for seed in range(20):
        train, validation, test = table.split(seed=seed)
        model = hepkan.KAN([len(table.names), *[5] * hidden, 1], grid=grid, seed=seed)
        result = hepkan.fit(model, train, validation, epochs=4, batch=64, seed=seed, grid_updates=updates)
        assert all(np.isfinite(list(row.values())).all() for row in result.history)
        assert np.isfinite(model.predict(test.X)).all()
        assert result.history[-1]["train_loss"] < min(result.history[0]["train_loss"], np.log(2))
