"""Weighted losses on network outputs, and penalties on the edges of a KAN."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from hepkan.errors import DataError, UsageError, unknown

HUBER_DELTA = 1.0
"""Where the Huber loss passes from quadratic to linear; in `fit` in standard deviations of the target."""


@dataclass(frozen=True)
class Loss:
    r"""A loss per event and its weighted mean.

    .. math:: L = \sum_n w_n \, \ell(f_n, y_n) \, / \sum_n w_n

    **Shape** output: `(n, outputs)`, target: `(n,)` labels or `(n, outputs)`, weight: `(n,)`, result: scalar.

    Arguments:
        name: as in `LOSSES`.
        each: the loss of every event, `(n,)`, from output and target.
        classification: whether targets are class labels.
    """

    name: str
    each: Callable[[Tensor, Tensor], Tensor]
    classification: bool

    def __call__(self, output: Tensor, target: Tensor, weight: Tensor | None = None) -> Tensor:
        """Return the weighted mean; negative weights count as they are.

        Raises:
            DataError: the weights do not add up to something positive.
        """
        values = self.each(output, target)
        if weight is None:
            return values.mean()
        total = weight.sum()
        if not float(total) > 0.0:
            raise DataError(f"A weighted loss needs a positive sum of weights, however: {float(total):g}.")
        return (weight * values).sum() / total


def cross_entropy(output: Tensor, target: Tensor) -> Tensor:
    r"""Cross-entropy of every event from logits, stable for any logit.

    .. math:: \ell = \log(1 + e^f) - y f \quad \text{(one logit)}, \qquad
              \ell = \log \sum_k e^{f_k} - f_y \quad (K \text{ logits})

    **Shape** output: `(n, 1)` or `(n, K)`, target: `(n,)` labels, result: `(n,)`.
    """
    if output.shape[1] == 1:
        logit = output[:, 0]
        return functional.binary_cross_entropy_with_logits(logit, target.to(logit), reduction="none")
    return functional.cross_entropy(output, target.long(), reduction="none")


def soft_cross_entropy(output: Tensor, target: Tensor) -> Tensor:
    r"""Cross-entropy of every event from logits and the probabilities of the classes in place of labels.

    .. math:: \ell = \log(1 + e^f) - p f \quad \text{(one logit)}, \qquad
              \ell = \log \sum_k e^{f_k} - \sum_k p_k f_k \quad (K \text{ logits})

    **Shape** output, target: `(n, 1)` or `(n, K)`, result: `(n,)`.
    """
    if output.shape[1] == 1:
        return functional.binary_cross_entropy_with_logits(output, target.to(output), reduction="none")[:, 0]
    return functional.cross_entropy(output, target.to(output), reduction="none")


def mse(output: Tensor, target: Tensor) -> Tensor:
    """Squared error of every event, mean over targets; `(n, t)` to `(n,)`."""
    return (output - target).square().mean(dim=1)


def mae(output: Tensor, target: Tensor) -> Tensor:
    """Absolute error of every event, mean over targets; `(n, t)` to `(n,)`."""
    return (output - target).abs().mean(dim=1)


def huber(output: Tensor, target: Tensor) -> Tensor:
    r"""Huber loss of every event, mean over targets; `(n, t)` to `(n,)`.

    .. math:: \ell(r) = r^2 / 2 \text{ for } |r| \le \delta, \quad \delta (|r| - \delta / 2) \text{ beyond}
    """
    return functional.huber_loss(output, target, reduction="none", delta=HUBER_DELTA).mean(dim=1)


LOSSES: dict[str, Loss] = {
    "cross_entropy": Loss("cross_entropy", cross_entropy, classification=True),
    "soft_cross_entropy": Loss("soft_cross_entropy", soft_cross_entropy, classification=True),
    "mse": Loss("mse", mse, classification=False),
    "mae": Loss("mae", mae, classification=False),
    "huber": Loss("huber", huber, classification=False),
}


def get_loss(name: str) -> Loss:
    """Return a loss by name.

    Raises:
        UsageError: the name is unknown.
    """
    if name not in LOSSES:
        raise unknown("loss", name, LOSSES)
    return LOSSES[name]


def link_of(loss: str, n_outputs: int) -> str:
    """Return what turns an output trained with a loss into a prediction: identity, sigmoid or softmax."""
    if not get_loss(loss).classification:
        return "identity"
    return "sigmoid" if n_outputs == 1 else "softmax"


def check_target(loss: str, target: Tensor, n_outputs: int) -> Tensor:
    """Return targets as a loss takes them: int64 labels `(n,)`, or float64 `(n, n_outputs)`.

    Raises:
        UsageError: the shape does not fit the outputs.
        DataError: NaN or infinite targets, labels that are not 0 to K-1, or probabilities that are none.
    """
    bad = int((~torch.isfinite(target.double())).reshape(len(target), target[:1].numel()).any(dim=1).sum())
    if bad:
        raise DataError(
            f"Targets must be finite, however {bad} of {len(target)} events have NaN or infinity. Remove these events."
        )
    if get_loss(loss).classification and loss != "soft_cross_entropy":
        return _check_labels(target, n_outputs)
    values = target.double().unsqueeze(1) if target.dim() == 1 else target.double()
    if values.dim() != 2 or values.shape[1] != n_outputs:
        raise UsageError(
            f"Targets of {n_outputs} outputs need the shape (n, {n_outputs}), however: {tuple(target.shape)}."
        )
    if loss == "soft_cross_entropy":
        wrong = (values < 0.0).any(dim=1) | (values > 1.0).any(dim=1)
        if n_outputs > 1:
            wrong |= (values.sum(dim=1) - 1.0).abs() > 1e-3
        if bool(wrong.any()):
            raise DataError(
                "Probabilities must be between 0 and 1 and those of several classes add up to 1, however "
                f"{int(wrong.sum())} of {len(values)} events have others."
            )
    return values


def _check_labels(target: Tensor, n_outputs: int) -> Tensor:
    """Return int64 labels `(n,)` between 0 and the number of classes minus one."""
    if target.dim() == 2 and target.shape[1] == 1:
        target = target[:, 0]
    if target.dim() != 1:
        raise UsageError(f"Class labels need the shape (n,), however: {tuple(target.shape)}.")
    labels = target.long()
    classes = max(n_outputs, 2)
    wrong = (labels < 0) | (labels >= classes) | (labels.double() != target.double())
    if bool(wrong.any()):
        seen = torch.unique(target[wrong])[:5].tolist()
        raise DataError(
            f"Labels for {n_outputs} output(s) must be the integers 0 to {classes - 1}, however "
            f"{int(wrong.sum())} of {len(target)} events have others: {seen}. Renumber the classes, or give "
            "the network more outputs."
        )
    return labels


def l1(layer: Any, x: Tensor) -> Tensor:
    r"""Sum over edges of the mean absolute activation; pushes edges to zero.

    .. math:: \sum_{io} \langle |\phi_{io}(x_i)| \rangle

    **Shape** x: `(batch, in)` inputs of the layer, result: scalar.
    """
    return _edge_sizes(layer, x).sum()


def entropy(layer: Any, x: Tensor) -> Tensor:
    r"""Entropy of the edges' shares; pushes the activation of a layer into few edges.

    .. math:: - \sum_{io} p_{io} \log p_{io}, \quad
              p_{io} = \langle |\phi_{io}| \rangle / \sum_{io} \langle |\phi_{io}| \rangle

    **Shape** as `l1`.

    References:
        "KAN: Kolmogorov-Arnold Networks" (Liu et al., 2024), arXiv:2404.19756, section 2.5.
    """
    sizes = _edge_sizes(layer, x)
    floor = torch.finfo(sizes.dtype).eps ** 2  # keeps the gradient of a layer that is zero everywhere finite
    share = sizes / sizes.sum().clamp(min=floor)
    return -(share * share.clamp(min=floor).log()).sum()


def curvature(layer: Any, x: Tensor) -> Tensor:
    r"""Bound on the integrated squared second derivative of the splines; pushes them to straight lines.

    .. math:: \int \phi''^2 \, dx \le \sum_{io} \sum_m (C''_{imo})^2 \frac{t_{m+k-1} - t_m}{k - 1}

    with C'' the B-spline coefficients of the second derivative (degree k-2), without the base function.

    **Shape** as `l1`; the inputs are not used.

    Raises:
        UsageError: the degree is below 2.
    """
    degree = int(layer.degree)
    if degree < 2:
        raise UsageError(f"The curvature of splines needs a degree of at least 2, however it is {degree}.")
    coef: Tensor = layer.coef
    with torch.no_grad():
        second, support = _second_derivatives(layer.knots, degree, coef.shape[1])
    return (torch.bmm(second, coef).square() * support.unsqueeze(-1)).sum()


def _second_derivatives(knots: Tensor, degree: int, splines: int) -> tuple[Tensor, Tensor]:
    """Return what makes coefficients those of the second derivative, and the widths of its B-splines.

    **Shape** knots: `(in, splines + degree + 1)`, results: `(in, splines - 2, splines)` and `(in, splines - 2)`.
    """
    rows = torch.eye(splines, dtype=knots.dtype, device=knots.device).expand(len(knots), -1, -1)
    for k in (degree, degree - 1):
        knots = knots[:, 1:-1]
        width = knots[:, k:] - knots[:, :-k]
        inverse = torch.where(width > 0, k / torch.where(width > 0, width, 1.0), 0.0)
        rows = (rows[:, 1:] - rows[:, :-1]) * inverse.unsqueeze(-1)
    return rows, (knots[:, degree - 1 :] - knots[:, : 1 - degree]) / (degree - 1)


def gates(layer: Any, x: Tensor) -> Tensor:
    """Expected number of open gates of a layer that has gates, see `hepkan.interpret.sparsify`; others have none.

    **Shape** as `l1`; the inputs are not used.
    """
    return layer.open_gates() if hasattr(layer, "open_gates") else x.new_zeros(())  # type: ignore[no-any-return]


REGULARISERS: dict[str, Callable[[Any, Tensor], Tensor]] = {
    "l1": l1,
    "entropy": entropy,
    "curvature": curvature,
    "gates": gates,
}
"""Penalties of one KAN layer given its inputs."""
WITHOUT_INPUTS = ("curvature", "gates")
"""Those that depend on the parameters only."""


def penalty(model: Any, z: Tensor, strengths: Mapping[str, float]) -> Tensor:
    """Return the penalties of a KAN, summed over layers; z: `(batch, inputs)` after the input map.

    Raises:
        UsageError: unknown penalty, the model has no KAN layers, or `gates` of a model without gates.
    """
    for name in strengths:
        if name not in REGULARISERS:
            raise unknown("regulariser", name, REGULARISERS)
    layers = list(getattr(model, "layers", ()))
    if not layers or not all(hasattr(layer, "edge_functions") for layer in layers):
        raise UsageError(f"Penalties on edges need a KAN, however the model is a {type(model).__name__}.")
    if strengths.get("gates") and not any(hasattr(layer, "open_gates") for layer in layers):
        raise UsageError("The penalty 'gates' needs layers with gates, however there are none. Use interpret.sparsify.")
    total = z.new_zeros(())
    chosen = {name: strength for name, strength in strengths.items() if strength != 0.0}
    look = any(name not in WITHOUT_INPUTS for name in chosen)
    for place, layer in enumerate(layers):
        for name, strength in chosen.items():
            total = total + strength * REGULARISERS[name](layer, z)
        if look and place < len(layers) - 1:
            z = layer(z)
    return total


def _edge_sizes(layer: Any, x: Tensor) -> Tensor:
    """Return the mean absolute activation of every edge, `(in, out)`."""
    activation: Tensor = layer.edge_functions(x)
    return activation.abs().mean(dim=0)
