"""Training towards few edges: gates that open and close by gradient, and are gone afterwards."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor, nn

from hepkan.errors import UsageError, unknown
from hepkan.interpret.judging import demand_kan, layers_of
from hepkan.interpret.surgery import DeadNetworkError, compact
from hepkan.interpret.trace import edges_of
from hepkan.nn import KAN, KANLayer
from hepkan.splines.basis import Layer
from hepkan.train import fit

if TYPE_CHECKING:
    from hepkan.data import ParquetStream, Table

TEMPERATURE, LOW, HIGH = 2.0 / 3.0, -0.1, 1.1
START = 1.0
"""First log odds of a gate: open with a probability of 0.93."""

Gates = Literal["edges", "inputs"]


class GatedLayer(KANLayer):
    r"""A layer whose edges are multiplied by gates between 0 and 1, sampled in training.

    .. math:: g = \min(1, \max(0, s (\zeta - \gamma) + \gamma)), \quad
              s = \sigma((\log u - \log(1 - u) + \log\alpha) / \beta), \quad u \sim U(0, 1)

    with :math:`\beta = 2/3, \gamma = -0.1, \zeta = 1.1`: a gate is exactly 0 or 1 with a probability
    that has a gradient. Outside training it is :math:`\min(1, \max(0, \sigma(\log\alpha) (\zeta - \gamma) + \gamma))`.

    **Shape** gate (the numbers :math:`\log\alpha`): `(in_features, sums)`, or `(in_features, 1)` for one per input.

    References:
        "Learning sparse neural networks through L0 regularization" (Louizos et al., 2018), arXiv:1712.01312.
    """

    def __init__(self, layer: KANLayer, per_input: bool) -> None:
        inputs, sums = layer.coef.shape[0], layer.coef.shape[2]
        bias = layer.bias is not None
        shape: dict[str, Any] = {"grid": layer.grid, "degree": layer.degree, "base": layer.base, "bias": bias}
        super().__init__(inputs, layer.out_features, products=layer.products, backend=layer.backend, **shape)
        self.to(layer.coef)
        self.load_state_dict({name: value for name, value in layer.state_dict().items() if name != "edge_mask"})
        self.mask_edges(layer.edge_mask)
        self.gate = nn.Parameter(torch.full((inputs, 1 if per_input else sums), START).to(layer.coef))

    def gates(self) -> Tensor:
        """Return the gates, drawn anew in training; shape as `gate`."""
        logits: Tensor = self.gate
        if self.training:
            u = torch.rand_like(self.gate).clamp(1e-6, 1.0 - 1e-6)
            logits = (u.log() - (-u).log1p() + self.gate) / TEMPERATURE
        return (torch.sigmoid(logits) * (HIGH - LOW) + LOW).clamp(0.0, 1.0)

    def open_gates(self) -> Tensor:
        """Return the expected number of gates that are not zero, those of masked edges left out."""
        chance = torch.sigmoid(self.gate - TEMPERATURE * math.log(-LOW / HIGH))
        return chance.sum() if self.edge_mask is None else (chance * self._exists()).sum()

    def numbers(self) -> Layer:
        """Return the numbers with gates."""
        knots, coef, base_weight, bias = super().numbers()
        gates = self.gates()
        return Layer(knots, coef * gates.unsqueeze(1), None if base_weight is None else base_weight * gates, bias)

    @torch.no_grad()
    def plain(self) -> KANLayer:
        """Return a layer without gates: closed ones are masked, half open ones are multiplied into the numbers."""
        layer = self.part(range(self.in_features), range(self.coef.shape[2]), self.products)
        gates = self.eval().gates().expand_as(layer.coef[:, 0])
        layer.coef.mul_(gates.unsqueeze(1))
        if layer.base_weight is not None:
            layer.base_weight.mul_(gates)
        layer.mask_edges((gates > 0).cpu().numpy() & edges_of(self))
        return layer

    def _exists(self) -> Tensor:
        """Return for every gate whether it belongs to an edge."""
        assert self.edge_mask is not None
        return self.edge_mask if self.gate.shape == self.edge_mask.shape else self.edge_mask.amax(dim=1, keepdim=True)


def sparsify(
    model: KAN,
    train: Table | tuple[Any, ...] | ParquetStream,
    *,
    strength: float,
    gates: Gates = "edges",
    **settings: Any,
) -> KAN:
    r"""Return a sparser KAN, trained with differentiable gates; the one given stays as it is.

    Every edge, or every input, is multiplied by a gate, and the loss of training gets a term

    .. math:: \lambda \sum_g P(g \ne 0)

    that pays for open gates. At the end the closed ones are taken away with all that they leave dead; no gate remains.
    Train again without gates, or `prune` further, to recover what the term has cost. With
    `regularisers={"l1": ..., "entropy": ...}` of `hepkan.fit`, activations are pushed to zero instead, without gates.

    Arguments:
        model: a KAN, trained for a while.
        train: data as for `hepkan.fit`.
        strength: :math:`\lambda`, the loss that one gate may cost; 1e-4 to 1e-2 is usual.
        gates: one for each of the `edges` of all layers, or one for each of the `inputs`.
        settings: of `hepkan.fit`, without validation: the last epoch counts.

    Raises:
        UsageError: no KAN, a strength that is not positive, or one that closes every path.
        DataError: as `hepkan.fit`.
    """
    demand_kan(model)
    if gates not in ("edges", "inputs"):
        raise unknown("kind of gates", gates, ("edges", "inputs"))
    if not 0.0 < strength < math.inf:
        raise UsageError(f"strength needs to be positive, however: {strength}.")
    layers: list[KANLayer] = []
    for place, layer in enumerate(layers_of(model)):
        gated = gates == "edges" or place == 0
        whole = layer.part(range(layer.in_features), range(layer.coef.shape[2]), layer.products)
        layers.append(GatedLayer(whole, gates == "inputs") if gated else whole)
    work = model.rewired(layers, range(model.widths[0]))
    regularisers = {**settings.pop("regularisers", {}), "gates": strength}
    fit(work, train, regularisers=regularisers, **{"fit_inputs": False, "loss": _loss(model), **settings})
    plain = [layer.plain() if isinstance(layer, GatedLayer) else layer for layer in layers_of(work)]
    try:
        return compact(work.rewired(plain, range(model.widths[0])))
    except DeadNetworkError as error:
        raise UsageError(f"A path must stay open, however strength={strength:g} closes all. Lower it.") from error


def _loss(model: KAN) -> str:
    """Return the loss that goes with a link."""
    return "mse" if model.link == "identity" else "cross_entropy"
