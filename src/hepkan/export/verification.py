"""No export without a proof: its numbers against those of the network, on events inside, outside and missing."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from hepkan.errors import DataError, UsageError
from hepkan.export.pieces import Floats
from hepkan.files import atomic_file
from hepkan.nn.layers import KANLayer
from hepkan.nn.networks import KAN, Network
from hepkan.nn.transforms import QuantileNormal, Standard

EVENTS = 1024
"""Events that are drawn for every check, besides the ones given."""
MOST = 100_000
"""At most so many of the events given are checked, at equal steps of their order."""
MISSING = 3
"""Events with a NaN among those that are drawn."""
SINGLE, LOOSEST = 1e-4, 1e-2
"""What files in float32 may differ by, and at most for a network that amplifies rounding."""


@dataclass(frozen=True, kw_only=True)
class Export:
    """What was written and how well it agrees with the network.

    Attributes:
        path: the file.
        events: number of events compared.
        difference: largest difference to the network in float64, in units of the spread of the output.
        tolerance: what was allowed; a larger difference writes nothing.
    """

    path: Path
    events: int
    difference: float
    tolerance: float


def check_events(model: Network, X: ArrayLike | Tensor | None, seed: int = 0) -> NDArray[np.float32]:
    """Return events to compare on: the ones given and drawn ones, some far outside the training data, some with a NaN.

    **Shape** X: `(n, features)`, result: `(events, features)`; the last `MISSING` have a NaN.

    Raises:
        UsageError: X does not have the model's number of features.
        DataError: X cannot be read as numbers.
    """
    generator = np.random.default_rng(seed)
    drawn = generator.normal(size=(EVENTS, model.n_features))
    drawn[:, range(model.n_features) if model.columns is None else model.columns] = _draw(model, generator)
    drawn[-MISSING:, :] = drawn[:MISSING, :]
    drawn[np.arange(-MISSING, 0), generator.integers(drawn.shape[1], size=MISSING)] = np.nan
    if X is None:
        return drawn.astype(np.float32)
    try:
        given = np.asarray(X.detach().cpu() if isinstance(X, Tensor) else X, dtype=np.float32)
    except (TypeError, ValueError) as error:
        raise DataError(f"X needs numbers, however it cannot be read as such ({error}).") from error
    if given.ndim != 2 or given.shape[1] != model.n_features:
        raise UsageError(f"X needs the shape (n, {model.n_features}), however it has {given.shape}.")
    if not isinstance(model.input_map, QuantileNormal):
        given = given[~np.isinf(given).any(axis=1)]  # infinities have a meaning for the quantile map only
    return np.concatenate([given[:: max(1, -(-len(given) // MOST))], drawn.astype(np.float32)])


def _draw(model: Network, generator: np.random.Generator) -> Floats:
    """Return inputs like the ones the input map has learned; a tenth lies up to ten times as far out."""
    features = model.widths[0]
    z = generator.normal(size=(EVENTS, features))
    z[::10] *= 10.0 * generator.random(size=(len(z[::10]), features))
    transform = model.input_map
    if isinstance(transform, Standard):
        return np.asarray(z * transform.scale.double().cpu().numpy() + transform.mean.double().cpu().numpy())
    if isinstance(transform, QuantileNormal):
        x, score = (nodes.detach().double().cpu().numpy() for nodes in (transform.x_nodes, transform.z_nodes))
        columns = [np.interp(z[:, i], score[i], x[i]) for i in range(features)]
        return np.asarray(np.stack(columns, axis=1) + 0.1 * (np.abs(z) > transform.limit) * z * np.ptp(x, axis=1))
    first = model.layers[0] if isinstance(model, KAN) else None
    if isinstance(first, KANLayer):
        low, high = (first.knots[:, at].detach().double().cpu().numpy() for at in (first.degree, -1 - first.degree))
        return np.asarray(0.5 * (low + high) + z * np.maximum((high - low) / 6.0, 1e-6))
    return z


@torch.no_grad()
def reference(model: Network, X: NDArray[np.float32], link: bool, dtype: torch.dtype = torch.float64) -> Floats:
    """Return the network's outputs in float64, after the link or before; `(n, features)` to `(n, outputs)`."""
    exact = copy.deepcopy(model).cpu().to(dtype).eval()
    for layer in exact.modules():
        if isinstance(layer, KANLayer):
            layer.backend = "auto"
    y = torch.cat([exact(part) for part in torch.split(torch.from_numpy(X).to(dtype), 16384)])
    if link and model.link == "sigmoid":
        y = torch.sigmoid(y)
    elif link and model.link == "softmax":
        y = torch.softmax(y, dim=1)
    return np.asarray(y.numpy(), dtype=np.float64)


def compare(
    kind: str, path: Path, found: NDArray[np.floating], expected: Floats, tolerance: float, precision: float
) -> Export:
    r"""Return the summary of an export that agrees with the network.

    .. math:: |y - y_\text{network}| \le \text{tolerance} \, (\sigma + |y_\text{network} - m|)
              + 4 \, \text{precision} \, |y_\text{network}|

    for every event and output, with m the median of the output and :math:`\sigma` half the width of its central 68 %;
    drawn events have their own, so that given ones far from the training data do not hide them. The last term is the
    rounding that no number of that precision avoids. NaN must be where the network has it.

    Raises:
        DataError: it differs.
    """
    if found.shape != expected.shape:
        raise DataError(f"{kind} gives the shape {found.shape}, however the network {expected.shape}: nothing written.")
    if not bool(np.array_equal(np.isnan(found), np.isnan(expected))):
        raise DataError(
            f"{kind} must give NaN where the network does, however it gives {int(np.isnan(found).sum())} and the "
            f"network {int(np.isnan(expected).sum())}. {path} was not written."
        )
    usable: NDArray[np.bool_] = np.asarray(np.isfinite(expected).all(axis=1))
    if not usable[-EVENTS:].any():
        raise DataError(f"The network gives no finite output on {len(expected)} events: {path} was not written.")
    gap = gaps(found, expected, precision)[usable]
    difference = float(gap.max())
    if not difference <= tolerance:
        event, output = np.unravel_index(int(np.argmax(gap)), gap.shape)
        seen, wanted = found[usable][event, output], expected[usable][event, output]
        raise DataError(
            f"{kind} must agree with the network to {tolerance:g} of the output's spread, however it differs by "
            f"{difference:.3g} on {len(gap)} events (output {output}: {seen:.9g}, network {wanted:.9g}). "
            f"{path} was not written."
        )
    return Export(path=path, events=len(expected), difference=difference, tolerance=tolerance)


def gaps(found: NDArray[np.floating], expected: Floats, precision: float) -> Floats:
    """Return the differences beyond rounding in the units of `compare`, `(n, outputs)`."""
    with np.errstate(invalid="ignore", over="ignore"):
        distance = np.abs(found.astype(np.float64) - expected) - 4.0 * precision * np.abs(expected)
        return np.asarray(np.maximum(distance, 0.0) / _unit(expected, EVENTS))


def _unit(expected: Floats, drawn: int) -> Floats:
    """Return in what unit the difference of every event counts; the last `drawn` events were drawn."""
    result, least = np.ones_like(expected), np.full(expected.shape[1], 1e-300)
    for part in (slice(len(expected) - drawn, None), slice(0, len(expected) - drawn)):
        y = expected[part]
        finite = y[np.isfinite(y).all(axis=1)]
        if len(finite) == 0:
            continue
        low, middle, high = np.quantile(finite, [0.16, 0.5, 0.84], axis=0)
        # A constant output has no spread of its own: its size is the unit then.
        constant = np.where(np.ptp(finite, axis=0) > 0, 0.0, np.maximum(np.abs(middle), 1.0))
        spread = np.maximum(np.maximum(0.5 * (high - low), constant if part.stop is None else 0.0), least)
        least = spread  # few events, or all alike, say less about the spread than the drawn ones
        result[part] = spread + np.abs(y - middle)
    return result


def float32_tolerance(model: Network, events: NDArray[np.float32], link: bool, expected: Floats) -> float:
    """Return the tolerance of files in float32: `SINGLE`, or 20 times what PyTorch in float32 differs by."""
    own = gaps(reference(model, events, link, torch.float32), expected, float(np.finfo(np.float32).eps))
    return max(SINGLE, min(20.0 * float(np.max(own, where=np.isfinite(own), initial=0.0)), LOOSEST))


@contextmanager
def writing(path: str | Path) -> Iterator[Path]:
    """Give a temporary path that becomes `path` when complete.

    Raises:
        DataError: the file cannot be written.
    """
    if Path(path).is_dir():
        raise DataError(f"{path} must be a file that can be written, however it is a folder.")
    try:
        with atomic_file(path) as temporary:
            yield temporary
    except OSError as error:
        raise DataError(f"{path} must be a file that can be written, however: {error}.") from error
