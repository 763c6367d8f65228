"""Events on which a network is judged: checked once, with a loss that a changed network has to keep."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from hepkan.errors import DataError, UsageError
from hepkan.losses import check_target, get_loss
from hepkan.nn import KAN, KANLayer
from hepkan.nn.regrid import thinned

Floats = NDArray[np.float64]
LEAST = 10
"""Fewer events say nothing about a network."""
BATCH = 8192


@dataclass(frozen=True)
class Judge:
    r"""Events, and the loss of any network on them.

    With targets the loss is the one of training, for regression that of standardised targets. Without, it is the
    infidelity to the outputs of the network that made the judge, :math:`(f - f_0)^2 / \sigma^2(f_0)`.

    **Shape** X: `(n, features)` raw, target: `(n,)` labels or `(n, outputs)`, weight: `(n,)` of mean 1,
    group: `(n,)` numbers of 0 to the number of groups - 1.
    """

    loss: str
    X: Tensor
    target: Tensor
    weight: Tensor
    group: NDArray[np.intp]
    each: Callable[[Tensor, Tensor], Tensor]
    mapped: bool

    def __len__(self) -> int:
        return len(self.X)

    def output(self, model: KAN, body: Tensor) -> Tensor:
        """Return what the loss takes, from what `body` of a network gives."""
        return model.output_map(body) if self.mapped else body  # type: ignore[no-any-return]

    @torch.no_grad()
    def losses(self, model: KAN) -> Floats:
        """Return the loss of every event, `(n,)`."""
        parts = []
        for first in range(0, len(self), BATCH):
            rows = slice(first, first + BATCH)
            output = self.output(model, model.body(model.coordinates(self.X[rows])))
            parts.append(self.each(output, self.target[rows]))
        return np.asarray(torch.cat(parts).double().cpu().numpy())

    def mean(self, losses: Floats) -> float:
        """Return the weighted mean of losses of events."""
        return float(self.weights @ losses / len(self))

    def error(self, losses: Floats) -> float:
        """Return the standard error of the weighted mean, with groups as the independent units."""
        residual = np.bincount(self.group, self.weights * (losses - self.mean(losses)))
        return float(np.sqrt(np.square(residual).sum()) / len(self))

    @property
    def weights(self) -> Floats:
        """The weights in NumPy."""
        return np.asarray(self.weight.double().cpu().numpy())

    def draws(self, n_boot: int, seed: int) -> Tensor:
        """Return weights of the mean itself and of its Poisson bootstrap over groups, `(1 + n_boot, n)`.

        Every row adds up to 1.
        """
        generator = np.random.default_rng(seed)
        counts = generator.poisson(1.0, (n_boot, int(self.group.max()) + 1))[:, self.group]
        rows = np.concatenate([np.ones((1, len(self))), counts]) * self.weights
        return torch.from_numpy((rows / rows.sum(axis=1, keepdims=True)).astype(np.float32)).to(self.X.device)


def make_judge(
    model: KAN,
    X: ArrayLike | Tensor,
    y: ArrayLike | Tensor | None = None,
    weight: ArrayLike | Tensor | None = None,
    *,
    group: ArrayLike | None = None,
    loss: str | None = None,
    events: int | None = None,
) -> Judge:
    """Return a judge of at most `events` events, taken at equal steps of their order.

    Arguments:
        model: the network whose outputs count where there are no targets.
        X: raw features `(n, features)`.
        y: targets; None for fidelity to the network.
        weight: `(n,)`.
        group: events that are not independent share a number, `(n,)`.
        loss: as in `hepkan.losses`; cross_entropy for a network with a sigmoid or softmax, otherwise mse.
        events: at most so many; None for all.

    Raises:
        UsageError: no KAN, or shapes that do not fit.
        DataError: NaN, too few events, an input that is the same in all of them, a network that gives the same for all.
    """
    demand_kan(model)
    name = loss or ("mse" if model.link == "identity" else "cross_entropy")
    function = get_loss(name)
    parameter = next(model.parameters())
    x = _features(model, X)
    n = len(x)
    columns = [None if one is None else _column(text, one, n) for text, one in (("weight", weight), ("group", group))]
    if y is not None and np.shape(y)[:1] != (n,):
        raise UsageError(
            f"X and y need one row per event, however their shapes are {tuple(x.shape)} and {np.shape(y)}."
        )
    most = n if events is None else events
    x = thinned(x, most).to(parameter)
    w = torch.ones(n, dtype=torch.float64) if columns[0] is None else torch.from_numpy(columns[0].astype(np.float64))
    w = thinned(w, most)
    if not (bool(torch.isfinite(w).all()) and float(w.sum()) > 0.0):
        raise DataError(f"Weights must be finite with a positive sum, however the sum is {float(w.sum()):g}.")
    members = np.arange(n) if columns[1] is None else np.unique(columns[1], return_inverse=True)[1]
    places = np.unique(members[thinned(torch.arange(n), most).numpy()], return_inverse=True)[1]
    judge = Judge(
        loss=name,
        X=x,
        target=x[:, :0],
        weight=(w * (len(w) / w.sum())).to(parameter),
        group=np.asarray(places).reshape(-1),
        each=function.each,
        mapped=function.classification,
    )
    if y is None:
        return _fidelity(model, judge)
    if model.head is not None:
        raise UsageError(
            f"Targets are compared with the outputs, however the network has the head {model.head.name!r} behind them. "
            "Leave y out: importance is then the distance to the network's own outputs."
        )
    target = thinned(check_target(name, _tensor(y), model.widths[-1]), most).to(parameter.device)
    if not function.classification:
        mean, scale = model.output_map.mean, model.output_map.scale
        target = ((target - mean) / scale).to(parameter)  # type: ignore[operator]
    return replace(judge, target=target)


def demand_kan(model: object) -> None:
    """Refuse anything but a KAN.

    Raises:
        UsageError: the model is no KAN.
    """
    if not isinstance(model, KAN):
        raise UsageError(
            f"Interpretation needs a hepkan.KAN, however the model is a {type(model).__name__}. "
            "Give the network itself, `.model_` of an estimator or `.model` of a FitResult."
        )


def layers_of(model: KAN) -> list[KANLayer]:
    """Return the layers of a KAN."""
    return [layer for layer in model.layers if isinstance(layer, KANLayer)]


def demand_events(model: KAN, x: Tensor, least: int = LEAST) -> None:
    """Refuse features that do not fit the model, are not finite, or too few.

    Raises:
        UsageError: the shape does not fit.
        DataError: NaN or infinity, or too few events.
    """
    if x.dim() != 2 or x.shape[1] != model.n_features:
        raise UsageError(f"X needs the shape (n, {model.n_features}), however it has {tuple(x.shape)}.")
    if len(x) < least:
        raise DataError(f"At least {least} events are needed, however there are {len(x)}.")
    used = model.select(x.to(next(model.parameters()).device))
    bad = ~torch.isfinite(used)
    if bool(bad.any()):
        names = [name for name, one in zip(model.input_names, bad.any(dim=0).tolist(), strict=True) if one]
        raise DataError(
            f"Events must be finite, however {int(bad.any(dim=1).sum())} of {len(x)} have NaN or infinity in "
            f"{', '.join(names[:5])}. Remove these events."
        )


def _features(model: KAN, X: ArrayLike | Tensor) -> Tensor:
    """Return raw features as a tensor, checked."""
    x = _tensor(X)
    demand_events(model, x)
    used = model.select(x.to(next(model.parameters()).device))
    constant = (used == used[:1]).all(dim=0).tolist()
    names = [name for name, one in zip(model.input_names, constant, strict=True) if one]
    if names:
        raise DataError(
            f"Every input must vary, however {', '.join(names[:5])} is the same in all {len(x)} events: its effect "
            "cannot be measured. Give other events, or take it away with hepkan.interpret.remove_inputs."
        )
    return x


def _fidelity(model: KAN, judge: Judge) -> Judge:
    """Return a judge of the distance to the outputs that the network has now."""
    with torch.no_grad():
        parts = [model.body(model.coordinates(part)) for part in torch.split(judge.X, BATCH)]
    target = torch.cat(parts)
    variance = target.double().var(dim=0, correction=0)
    if not bool((variance > 1e-12 * target.double().square().mean(dim=0)).any()):
        raise DataError(
            "The network gives the same for all events, however importance is a change of its output: it is dead. "
            "Train it anew, or give other events."
        )
    scale = torch.where(variance > 0, variance, variance.max()).sqrt().to(target)

    def each(output: Tensor, wanted: Tensor) -> Tensor:
        return ((output - wanted) / scale).square().mean(dim=1)

    return replace(judge, loss="fidelity", target=target, each=each, mapped=False)


def demand_alive(model: KAN, judge: Judge) -> None:
    """Refuse a network whose output is the same for all events.

    Raises:
        DataError: it is.
    """
    with torch.no_grad():
        some = model.body(model.coordinates(judge.X[:BATCH])).double()
    if not bool((some.std(dim=0) > 1e-9 * some.abs().mean(dim=0)).any()):
        raise DataError(
            "The network gives the same for all events, however importance is a change of its output: it is dead. "
            "Train it anew, or give other events."
        )


def _tensor(values: ArrayLike | Tensor) -> Tensor:
    """Return numbers as a tensor of their own type."""
    if isinstance(values, Tensor):
        return values.detach()
    array = np.asarray(values)
    if array.dtype.kind not in "fiub":
        raise DataError(f"Events must be numbers, however the type of an array is {array.dtype}.")
    return torch.from_numpy(np.array(array, dtype=array.dtype.newbyteorder("=")))


def _column(name: str, values: ArrayLike | Tensor, n: int) -> NDArray[np.generic]:
    """Return one number per event."""
    array = np.asarray(values.detach().cpu() if isinstance(values, Tensor) else values)
    if array.shape != (n,):
        raise UsageError(f"{name} needs the shape ({n},), however it has {array.shape}.")
    return array
