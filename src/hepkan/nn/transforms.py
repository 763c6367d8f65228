"""Maps between physical quantities and network coordinates, learned from training data and saved with the model."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from hepkan.errors import DataError


class Identity(nn.Module):
    """No change."""

    def __init__(self, features: int) -> None:
        super().__init__()
        self.features = features

    def fit(self, x: Tensor, weight: Tensor | None = None) -> None:
        """Learn nothing."""

    def part(self, features: Sequence[int]) -> Identity:
        """Return the map of some features."""
        return Identity(len(features))

    def forward(self, x: Tensor) -> Tensor:
        """Return the input."""
        return x


class Standard(nn.Module):
    r"""Shift and scale to mean 0 and variance 1.

    .. math:: z = (x - \mu) / \sigma

    A constant feature becomes 0. **Shape** `(batch, features)`.
    """

    mean: Tensor
    scale: Tensor

    def __init__(self, features: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(features))
        self.register_buffer("scale", torch.ones(features))

    @torch.no_grad()
    def fit(self, x: Tensor, weight: Tensor | None = None) -> None:
        """Learn mean and deviation in float64, one feature at a time."""
        kept, w = _finite(x, weight)
        moments = torch.stack([self._column(x[:, i].detach()[kept].double(), w) for i in range(x.shape[1])])
        mean, deviation = moments.unbind(1)
        constant = deviation <= 1e-12 * torch.clamp(mean.abs(), min=1.0)
        self.mean = mean.to(self.mean)
        self.scale = torch.where(constant, 1.0, deviation).to(self.scale)

    def part(self, features: Sequence[int]) -> Standard:
        """Return the map of some features."""
        some = Standard(len(features))
        some.mean, some.scale = self.mean[list(features)], self.scale[list(features)]
        return some

    @staticmethod
    def _column(values: Tensor, weight: Tensor) -> Tensor:
        """Return mean and deviation of one feature."""
        mean = (weight * values).sum() / weight.sum()
        return torch.stack([mean, ((weight * (values - mean) ** 2).sum() / weight.sum()).sqrt()])

    def forward(self, x: Tensor) -> Tensor:
        """Return network coordinates."""
        return (x - self.mean) / self.scale


class QuantileNormal(nn.Module):
    r"""Map each feature monotonically to a standard normal, clipped at `limit`.

    .. math:: z = \Phi^{-1}(F(x)), \quad |z| \le \text{limit}

    with F the weighted distribution function of the training data, interpolated between up to `nodes` of its quantiles.
    Tails of pt and mass are tamed, discrete features keep their order, a constant one becomes 0, NaN stays NaN.

    **Shape** `(batch, features)`.
    """

    x_nodes: Tensor
    z_nodes: Tensor

    def __init__(self, features: int, limit: float = 3.0, nodes: int = 129) -> None:
        super().__init__()
        self.limit, self.nodes = limit, nodes
        self.register_buffer("x_nodes", torch.linspace(-limit, limit, nodes).repeat(features, 1))
        self.register_buffer("z_nodes", torch.linspace(-limit, limit, nodes).repeat(features, 1))

    @torch.no_grad()
    def fit(self, x: Tensor, weight: Tensor | None = None) -> None:
        """Learn the quantiles in float64, one feature at a time."""
        kept, w = _finite(x, weight)
        columns = (self._column(x[:, i].detach()[kept], w) for i in range(x.shape[1]))
        x_rows, z_rows = zip(*columns, strict=True)
        self.x_nodes = torch.stack(x_rows).to(self.x_nodes)
        self.z_nodes = torch.stack(z_rows).to(self.z_nodes)

    def part(self, features: Sequence[int]) -> QuantileNormal:
        """Return the map of some features."""
        some = QuantileNormal(len(features), self.limit, self.nodes)
        some.x_nodes, some.z_nodes = self.x_nodes[list(features)], self.z_nodes[list(features)]
        return some

    def _column(self, values: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
        """Return the nodes of one feature: raw values, increasing, and their normal scores."""
        unique, position = torch.unique(values.float().double(), return_inverse=True)
        mass = torch.zeros_like(unique).index_add_(0, position, weight)
        middle = (torch.cumsum(mass, 0) - 0.5 * mass) / mass.sum()
        if len(unique) > self.nodes:
            # Equal steps in the normal score: dense in the bulk and still resolved in the tails.
            scores = torch.linspace(-self.limit, self.limit, self.nodes, dtype=torch.float64, device=values.device)
            levels = torch.special.ndtr(scores)
            kept = torch.unique(torch.searchsorted(middle, levels).clamp(max=len(unique) - 1))
            unique, middle = unique[kept], middle[kept]
        scores = torch.special.ndtri(middle.clamp(1e-12, 1.0 - 1e-12)).clamp(-self.limit, self.limit)
        missing = self.nodes - len(unique)
        numbers = torch.arange(1, missing + 1, dtype=torch.float64, device=values.device)
        step = torch.clamp(unique[-1].abs(), min=1.0) * numbers
        return torch.cat([unique, unique[-1] + step]), torch.cat([scores, scores[-1:].expand(missing)])

    def forward(self, x: Tensor) -> Tensor:
        """Return network coordinates."""
        rows = x.T.contiguous()
        right = torch.searchsorted(self.x_nodes, rows.detach()).clamp(1, self.nodes - 1)
        x0, x1 = self.x_nodes.gather(1, right - 1), self.x_nodes.gather(1, right)
        z0, z1 = self.z_nodes.gather(1, right - 1), self.z_nodes.gather(1, right)
        fraction = ((rows - x0) / (x1 - x0)).clamp(0.0, 1.0)
        return (z0 + fraction * (z1 - z0)).T


class Affine(nn.Module):
    r"""Bring standardised outputs back to physical units: :math:`y = \mu + \sigma z`. **Shape** `(batch, targets)`."""

    mean: Tensor
    scale: Tensor

    def __init__(self, targets: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(targets))
        self.register_buffer("scale", torch.ones(targets))

    @torch.no_grad()
    def fit(self, y: Tensor, weight: Tensor | None = None) -> None:
        """Learn mean and deviation of the targets in float64."""
        standard = Standard(y.shape[1])
        standard.fit(y, weight)
        self.mean, self.scale = standard.mean.to(self.mean), standard.scale.to(self.scale)

    def forward(self, z: Tensor) -> Tensor:
        """Return physical targets."""
        return self.mean + self.scale * z


INPUT_MAPS: dict[str, type[nn.Module]] = {"quantile": QuantileNormal, "standard": Standard, "none": Identity}


def finite_rows(x: Tensor) -> Tensor:
    """Return which rows have neither NaN nor infinity, in little memory; `(n, d)` to `(n,)`."""
    return torch.cat([torch.isfinite(part).all(dim=1) for part in torch.split(x, 65536)])


def _finite(x: Tensor, weight: Tensor | None) -> tuple[Tensor, Tensor]:
    """Return which events have no NaN or infinity `(n,)`, and the size of their weights in float64."""
    w = torch.ones(len(x), dtype=torch.float64, device=x.device)
    if weight is not None:
        w = weight.detach().to(w).abs()
    kept = finite_rows(x) & (w > 0)
    if not bool(kept.any()):
        raise DataError("A map needs events with finite features and non-zero weights, however there are none.")
    return kept, w[kept]
