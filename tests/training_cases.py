"""What the tests of training share: a small problem, interruptions, and comparisons to the bit."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch

from hepkan.losses import get_loss
from hepkan.nn import Network

N = 400


class Killed(Exception):
    """What a test throws into a training."""


def events(n: int = N, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Return features (n, 2) and the labels of a problem that no linear model solves."""
    X = np.random.default_rng(seed).normal(size=(n, 2)).astype(np.float32)
    return X, (X[:, 0] * X[:, 1] > 0).astype(np.int64)


def held_out_loss(model: Network, X: np.ndarray, y: np.ndarray, loss: str = "cross_entropy") -> float:
    """Return the mean loss, computed apart from the fit loop."""
    with torch.no_grad():
        return float(get_loss(loss).each(model(torch.from_numpy(X)), torch.from_numpy(y)).sum()) / len(X)


def same_weights(one: Network, other: Network) -> bool:
    """Whether two networks agree in every bit of their state."""
    mine, its = one.state_dict(), other.state_dict()
    return mine.keys() == its.keys() and all(torch.equal(mine[name], its[name]) for name in mine)


def killer(*epochs: int) -> Callable[[int, int, Mapping[str, float]], None]:
    """Return a progress function that raises `Killed` after these epochs."""

    def progress(epoch: int, _: int, row: Mapping[str, float]) -> None:
        if epoch in epochs:
            raise Killed

    return progress


def interrupted(train: Callable[..., Any], path: Any, *epochs: int) -> Any:
    """Kill a training after each of these epochs, let it go on from its checkpoint, and return its result."""
    for epoch in epochs:
        try:
            train(checkpoint=path, progress=killer(epoch))
        except Killed:
            assert path.is_file()
        else:
            raise AssertionError(f"the training was not killed after epoch {epoch}")
    result = train(checkpoint=path)
    assert not path.exists()
    return result


def same_results(one: Any, other: Any) -> bool:
    """Whether two results agree in every bit but the seconds."""
    rows = [[{k: v for k, v in row.items() if k != "seconds"} for row in result.history] for result in (one, other)]
    best = (one.best_epoch, one.best_value) == (other.best_epoch, other.best_value)
    return best and rows[0] == rows[1] and same_weights(one.model, other.model)
