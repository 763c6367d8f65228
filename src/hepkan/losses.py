"""Weighted losses on logits or physical targets, and penalties on the edges of a KAN."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

from hepkan.errors import DataError, UsageError, unknown
from hepkan.nn.layers import KANLayer

Loss = Callable[[Tensor, Tensor, Tensor], Tensor]


def cross_entropy(output: Tensor, target: Tensor, weight: Tensor) -> Tensor:
    r"""Weighted mean cross-entropy of logits, stable for any logit.

    .. math:: L = \sum_n w_n \left[ \log(1 + e^{z_n}) - y_n z_n \right] / \sum_n w_n

    for one logit, :math:`-\log \text{softmax}` of the true class for several.

    **Shape** output: `(n, 1)` or `(n, classes)`, target: `(n,)` integers, weight: `(n,)`.
    """
    if output.shape[1] == 1:
        logit = output[:, 0]
        losses = functional.softplus(logit) - target.to(output.dtype) * logit
    else:
        losses = functional.cross_entropy(output, target.long(), reduction="none")
    return _mean(losses, weight)


def mse(output: Tensor, target: Tensor, weight: Tensor) -> Tensor:
    """Weighted mean squared error over events and targets; output and target: `(n, targets)`."""
    return _mean((output - target).square().mean(dim=1), weight)


def mae(output: Tensor, target: Tensor, weight: Tensor) -> Tensor:
    """Weighted mean absolute error over events and targets; output and target: `(n, targets)`."""
    return _mean((output - target).abs().mean(dim=1), weight)


def huber(output: Tensor, target: Tensor, weight: Tensor) -> Tensor:
    """Weighted mean Huber loss (quadratic up to 1, then linear); output and target: `(n, targets)`."""
    return _mean(functional.huber_loss(output, target, reduction="none").mean(dim=1), weight)


LOSSES: dict[str, Loss] = {"cross_entropy": cross_entropy, "mse": mse, "mae": mae, "huber": huber}


def get_loss(name: str) -> Loss:
    """Return a loss by name.

    Raises:
        UsageError: the name is unknown.
    """
    if name not in LOSSES:
        raise unknown("loss", name, LOSSES)
    return LOSSES[name]


def link_of(loss: str, outputs: int) -> str:
    """Return what turns outputs trained with a loss into predictions."""
    if loss != "cross_entropy":
        return "identity"
    return "sigmoid" if outputs == 1 else "softmax"


def check_target(loss: str, target: Tensor, outputs: int) -> None:
    """Refuse targets that a loss would turn into nonsense or NaN.

    Raises:
        DataError: NaN or infinite targets, or labels outside the classes.
        UsageError: targets and outputs have different numbers of columns.
    """
    if not bool(torch.isfinite(target.double()).all()):
        raise DataError("Targets must be finite, however some are NaN or infinite. Remove these events.")
    if loss == "cross_entropy":
        classes = max(outputs, 2)
        if target.dim() != 1 or bool(((target < 0) | (target >= classes) | (target != target.round())).any()):
            seen = torch.unique(target)[:10].tolist()
            raise DataError(
                f"With {outputs} output(s) labels must be whole numbers from 0 to {classes - 1}, however: {seen}."
            )
    elif target.dim() != 2 or target.shape[1] != outputs:
        raise UsageError(f"Targets need the shape (n, {outputs}), however they have {tuple(target.shape)}.")


def l1(layer: KANLayer) -> Tensor:
    """Mean absolute coefficient of the edges, a stand-in for the size of their activations."""
    size = layer.coef.abs().mean(dim=1)
    return (size if layer.base_weight is None else size + layer.base_weight.abs()).mean()


def entropy(layer: KANLayer) -> Tensor:
    """Entropy of the edges' shares of the layer's size; low when few edges carry all."""
    size = layer.coef.abs().mean(dim=1)
    if layer.base_weight is not None:
        size = size + layer.base_weight.abs()
    share = size / (size.sum() + 1e-12)
    return -(share * torch.log(share + 1e-12)).sum()


def curvature(layer: KANLayer) -> Tensor:
    """Mean squared second difference of the coefficients: rough edge functions cost more."""
    if layer.coef.shape[1] < 3:
        return layer.coef.new_zeros(())
    return layer.coef.diff(n=2, dim=1).square().mean()


REGULARISERS: dict[str, Callable[[KANLayer], Tensor]] = {"l1": l1, "entropy": entropy, "curvature": curvature}


def penalty(model: torch.nn.Module, strengths: dict[str, float]) -> Tensor | float:
    """Return the sum over KAN layers of the named penalties times their strengths.

    Raises:
        UsageError: a name is unknown.
    """
    total: Tensor | float = 0.0
    for name, strength in strengths.items():
        if name not in REGULARISERS:
            raise unknown("regulariser", name, REGULARISERS)
        for layer in model.modules():
            if isinstance(layer, KANLayer) and strength != 0.0:
                total = total + strength * REGULARISERS[name](layer)
    return total


def _mean(losses: Tensor, weight: Tensor) -> Tensor:
    return (weight * losses).sum() / weight.sum()
