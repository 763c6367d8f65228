"""A conditional normalising flow: the whole density of two invisible momenta given what was measured."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor, nn

from hepkan.errors import DataError, UsageError, require, unknown
from hepkan.files import atomic_file
from hepkan.model_io import read_metadata
from hepkan.nn.heads import MET, Head, head_for
from hepkan.nn.transforms import INPUT_MAPS
from hepkan.regressors import Floats, Problem, Regressor, deviation, weighted_median
from hepkan.train import DivergenceError

DIMENSIONS = 7
MASS_FLOOR = 0.1
"""Masses (GeV) below this count as this in the logarithm."""
ROWS = 16384
"""Samples that are drawn in one go; more leave the cache of a processor."""


class TargetMap(nn.Module):
    r"""From the eight components to seven coordinates in which a flow learns easily, and back.

    They are the neutrino's momentum, the mediator's (with MET among the features its transverse part as the residual
    :math:`\vec p_{T\nu} + \vec p_{T\phi} - (\text{MET}, 0)`, which is narrow), and :math:`\log m_\phi`. Momenta go
    through :math:`\text{asinh}((u - c) / s)` with median c and median deviation s, then all are standardised. What
    leaves the range of the training data on the way back is set to its end.

    **Shape** targets `(n, 8)` in GeV, met `(n, 1)` or None, coordinates `(n, 7)`.
    """

    numbers: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.head = Head("mass_shells", 1)
        self.register_buffer("numbers", torch.zeros(6, DIMENSIONS, dtype=torch.float64))

    def raw(self, targets: Tensor, met: Tensor | None) -> Tensor:
        """Return the coordinates in GeV and, for the mass, as a logarithm."""
        u = self.head.encode(targets.double())
        u[:, 6] = u[:, 6].clamp(min=MASS_FLOOR).log()
        if met is not None:
            u[:, 3:5] += u[:, 0:2]
            u[:, 3] -= met[:, 0]
        return u

    def fit(self, u: Tensor, weight: Floats) -> None:
        """Learn the numbers from raw coordinates and weights that are not negative."""
        values = u.numpy()
        centre = weighted_median(values, weight)
        width = np.maximum(weighted_median(np.abs(values - centre), weight), 1e-3)
        z = self._tamed(u, torch.from_numpy(centre), torch.from_numpy(width)).numpy()
        mean, ends = np.average(z, axis=0, weights=weight), (z.min(axis=0), z.max(axis=0))
        self.numbers.copy_(torch.from_numpy(np.stack([centre, width, mean, deviation(z, weight), *ends])))

    @staticmethod
    def _tamed(u: Tensor, centre: Tensor, width: Tensor) -> Tensor:
        z = torch.asinh((u - centre) / width)
        z[:, 6] = u[:, 6]
        return z

    def standard(self, u: Tensor) -> Tensor:
        """Return coordinates for the flow, float32, from raw ones."""
        centre, width, mean, scale = self.numbers[:4]
        standard: Tensor = (self._tamed(u, centre, width) - mean) / scale
        return standard.float()

    def targets(self, z: Tensor, met: Tensor | None) -> Tensor:
        """Return the eight components in float64 from coordinates of the flow."""
        centre, width, mean, scale, low, high = self.numbers
        tamed = torch.minimum(torch.maximum(mean + scale * z.double(), low), high)
        u = centre + width * torch.sinh(tamed)
        u[:, 6] = tamed[:, 6].exp()
        if met is not None:
            u[:, 3:5] -= u[:, 0:2]
            u[:, 3] += met[:, 0]
        return self.head.decode(u, None)


class Flow(Regressor):
    """A neural spline flow of coupling layers whose density depends on the features; see `TargetMap`.

    `predict` is the median of every component over `samples` draws, a scrambled Sobol sequence that is the same for
    all events, so that an event's prediction depends on its features alone.

    Arguments:
        n_features: number of raw features.
        met: column of the missing transverse momentum among them, None when it is not there.
        head: arguments of a `Head` whose constraints every sample obeys; None: mass shells hold for samples and not
            for the medians.
        transforms: number of coupling layers.
        hidden: widths of the network in each of them.
        bins: pieces of each spline.
        input_map: `quantile`, `standard` or `none`.
        samples: draws for a prediction.
        seed: of the initial values and of the draws.

    Raises:
        MissingExtra: zuko is not installed.

    References:
        "Neural Spline Flows" (Durkan et al., 2019), arXiv:1906.04032.
    """

    def __init__(
        self,
        n_features: int,
        met: int | None,
        head: Mapping[str, Any] | None = None,
        transforms: int = 4,
        hidden: int | Sequence[int] = (128, 128),
        bins: int = 8,
        input_map: str = "quantile",
        samples: int = 128,
        seed: int = 0,
    ) -> None:
        zuko = require("zuko", "flow", "The model 'flow'")
        if input_map not in INPUT_MAPS:
            raise unknown("input map", input_map, INPUT_MAPS)
        if samples < 1 or transforms < 1 or bins < 2:
            raise UsageError(
                "A flow needs samples and transforms of at least 1 and bins of at least 2, however: "
                f"samples={samples}, transforms={transforms}, bins={bins}."
            )
        self.n_features, self.met, self.samples, self.seed = n_features, met, samples, seed
        self.head = None if head is None else dict(head)
        self._made = None if head is None else Head(**head)
        sizes = [hidden] if isinstance(hidden, int) else list(hidden)
        self._arguments = {"transforms": transforms, "hidden": sizes, "bins": bins, "input_map": input_map}
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            density = zuko.flows.NICE(
                DIMENSIONS,
                n_features,
                transforms=transforms,
                univariate=zuko.transforms.MonotonicRQSTransform,
                shapes=[(bins,), (bins,), (bins - 1,)],
                hidden_features=sizes,
            )
        self.inputs, self.map, self.density = INPUT_MAPS[input_map](n_features), TargetMap(), density
        self.modules = nn.ModuleDict({"inputs": self.inputs, "map": self.map, "density": self.density})

    def content(self) -> dict[str, Any]:
        """Return the constructor's arguments as plain data."""
        own = {name: getattr(self, name) for name in ("n_features", "met", "head", "samples", "seed")}
        return {**own, **self._arguments}

    @property
    def n_parameters(self) -> int:
        """Number of trained numbers."""
        return sum(parameter.numel() for parameter in self.density.parameters())

    def sample(self, X: ArrayLike, samples: int, seed: int = 0) -> Floats:
        """Return independent draws of the eight components in GeV for raw features: `(n, samples, 8)`.

        Raises:
            UsageError: X does not have the model's number of features, or no sample is wanted.
        """
        x = np.asarray(X, dtype=np.float64)
        if x.ndim != 2 or x.shape[1] != self.n_features or samples < 1:
            raise UsageError(
                f"X needs the shape (n, {self.n_features}) and samples at least 1, however: {x.shape}, {samples}."
            )
        generator = torch.Generator().manual_seed(seed)
        found = np.empty((len(x), samples, Head.targets))
        for rows, part in self._chunks(x, samples):
            noise = torch.randn(len(part) * samples, DIMENSIONS, generator=generator)
            y = self._drawn(part, noise, samples)
            if self._made is not None:
                context = self._context(part, samples, self._made.met)
                y = self._made.decode(self._made.encode(y), context)
            found[rows] = y.reshape(len(part), samples, -1).numpy()
        found[np.isnan(x).any(axis=1)] = np.nan
        return found

    def reduced(self, x: Floats) -> Floats:
        """Return the median of every (reduced) target."""
        width = Head.targets if self._made is None else self._made.reduced
        found = np.empty((len(x), width))
        engine = torch.quasirandom.SobolEngine(DIMENSIONS, scramble=True, seed=self.seed)  # type: ignore[no-untyped-call]
        uniform = engine.draw(self.samples, dtype=torch.float64).clamp(1e-6, 1 - 1e-6)
        noise = torch.special.ndtri(uniform).float()
        for rows, part in self._chunks(x, self.samples):
            y = self._drawn(part, noise.repeat(len(part), 1), self.samples)
            y = y if self._made is None else self._made.encode(y)
            found[rows] = np.median(y.reshape(len(part), self.samples, -1).numpy(), axis=1)
        return found

    def log_density(self, u: Tensor, z: Tensor) -> Tensor:
        """Return the logarithm of the density of standard coordinates `(n, 7)` given network coordinates `(n, d)`."""
        return self.density(z).log_prob(u)  # type: ignore[no-any-return]

    def coordinates(self, x: Floats) -> Tensor:
        """Return network coordinates, 0 for NaN, from raw features."""
        return self.inputs(torch.from_numpy(np.nan_to_num(x).astype(np.float32)))  # type: ignore[no-any-return]

    def _chunks(self, x: Floats, samples: int) -> Iterator[tuple[slice, Floats]]:
        """Cut events so that their samples fit `ROWS`."""
        size = max(1, ROWS // samples)
        for first in range(0, len(x), size):
            yield slice(first, first + size), x[first : first + size]

    @torch.no_grad()
    def _drawn(self, x: Floats, noise: Tensor, samples: int) -> Tensor:
        """Return the components for noise `(n * samples, 7)`, event after event."""
        z = self.coordinates(x).repeat_interleave(samples, dim=0)
        return self.map.targets(self.density(z).transform.inv(noise), self._context(x, samples, self.met))

    @staticmethod
    def _context(x: Floats, samples: int, column: int | None) -> Tensor | None:
        """Return a column of the features once for each sample, `(n * samples, 1)`."""
        if column is None:
            return None
        return torch.from_numpy(np.nan_to_num(x[:, column : column + 1])).repeat_interleave(samples, dim=0)

    def write(self, path: Path, record: Mapping[str, Any]) -> None:
        """Write the numbers as safetensors, with the description as metadata."""
        from safetensors.torch import save_file

        tensors = {name: tensor.detach().contiguous().clone() for name, tensor in self.modules.state_dict().items()}
        content = {"format": 1, "class": "Flow", "arguments": self.content(), "link": "identity"}
        with atomic_file(path) as temporary:
            save_file(tensors, temporary, {"hepkan": json.dumps({**content, "extra": dict(record)})})

    @classmethod
    def read(cls, path: Path) -> Flow:
        """Read what `write` wrote.

        Raises:
            DataError: the file is damaged.
        """
        from safetensors.torch import load_file

        content = read_metadata(path)
        try:
            flow = cls(**content["arguments"])
            flow.modules.load_state_dict(load_file(path))
        except (TypeError, ValueError, RuntimeError) as error:
            raise DataError(f"{path} must hold a complete flow, however: {error}") from error
        return flow


def fit_flow(
    train: Problem,
    validation: Problem,
    head: Head | None,
    features: Sequence[str],
    targets: Sequence[str],
    settings: Mapping[str, Any],
    seed: int,
    show: Callable[[int, Mapping[str, float]], None],
) -> tuple[Flow, list[dict[str, float]]]:
    """Maximise the likelihood of the training targets and keep the epoch of the best validation likelihood.

    Losses in the history are negative log-likelihoods per event in nats, of standard coordinates. Masses are spread by
    a normal factor of `mass_noise` in the logarithm, anew in every epoch: a sample holds few different ones.

    Raises:
        UsageError: negative weights, or targets that are no two four-momenta.
        DivergenceError: the loss is not finite.
    """
    if min(train.weight.min(), validation.weight.min()) < 0:
        raise UsageError("A flow needs weights that are not negative. Use another policy than 'keep'.")
    head_for("mass_shells", None, features, targets)  # refuses other targets
    met = list(features).index(MET) if MET in features else None
    names = ("transforms", "hidden", "bins", "input_map", "samples")
    description = None if head is None else head.describe()
    flow = Flow(len(features), met, description, **{name: settings[name] for name in names}, seed=seed)
    generator = torch.Generator().manual_seed(seed)
    noise = float(settings["mass_noise"])
    weights = [torch.from_numpy(part.weight).float() for part in (train, validation)]
    raws = [flow.map.raw(torch.from_numpy(part.target), flow._context(part.X, 1, met)) for part in (train, validation)]
    flow.inputs.fit(torch.from_numpy(train.X.astype(np.float32)), weights[0])  # type: ignore[operator]
    flow.map.fit(_spread(raws[0], noise, generator), train.weight)
    inputs = [flow.coordinates(part.X) for part in (train, validation)]
    fixed = flow.map.standard(_spread(raws[1], noise, generator))
    epochs, size, rate = int(settings["epochs"]), int(settings["batch"]), float(settings["learning_rate"])
    parameters = list(flow.density.parameters())
    optimizer = torch.optim.AdamW(parameters, lr=rate, weight_decay=float(settings["weight_decay"]))
    steps = epochs * math.ceil(len(raws[0]) / size)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    history: list[dict[str, float]] = []
    best, best_epoch, best_state = math.inf, 0, flow.density.state_dict()
    while len(history) < epochs and len(history) - best_epoch < int(settings["patience"]):
        moved = flow.map.standard(_spread(raws[0], noise, generator))
        total = 0.0
        for rows in torch.split(torch.randperm(len(moved), generator=generator), size):
            optimizer.zero_grad()
            each = -flow.log_density(moved[rows], inputs[0][rows]) * weights[0][rows]
            each.mean().backward()  # type: ignore[no-untyped-call]
            torch.nn.utils.clip_grad_norm_(parameters, 5.0)
            optimizer.step()
            schedule.step()
            total += float(each.detach().sum())
        with torch.no_grad():
            losses = [
                -flow.log_density(u, z) @ w
                for u, z, w in zip(*(torch.split(one, ROWS) for one in (fixed, inputs[1], weights[1])), strict=True)
            ]
        held_out = float(sum(losses)) / float(weights[1].sum())
        row = {"epoch": len(history) + 1.0, "train_loss": total / len(moved), "validation_loss": held_out}
        if not math.isfinite(total + held_out):
            raise DivergenceError(f"The loss must stay finite, however: {row}. Lower learning_rate.")
        history.append(row)
        if held_out < best:
            best, best_epoch = held_out, len(history)
            best_state = {name: tensor.clone() for name, tensor in flow.density.state_dict().items()}
        show(len(history), dict(row))
    flow.density.load_state_dict(best_state)
    return flow, history


def _spread(u: Tensor, noise: float, generator: torch.Generator) -> Tensor:
    """Return raw coordinates whose masses are spread by a normal factor."""
    moved = u.clone()
    moved[:, 6] += noise * torch.randn(len(u), generator=generator, dtype=u.dtype)
    return moved
