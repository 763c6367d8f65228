"""Networks that take raw physical features: the input map is learned from training data and part of the model."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor, nn

from hepkan.errors import UsageError, unknown
from hepkan.nn.heads import Head
from hepkan.nn.layers import KANLayer
from hepkan.nn.low_rank import LowRankLayer
from hepkan.nn.transforms import INPUT_MAPS, Affine
from hepkan.splines.ops import kan_stack, kan_step

LINKS = ("identity", "sigmoid", "softmax")
GATE_RATE = 10.0
"""Gates learn so much faster than weights: their log odds have a long way to go."""
ACTIVATIONS: dict[str, type[nn.Module]] = {"relu": nn.ReLU, "silu": nn.SiLU, "tanh": nn.Tanh, "gelu": nn.GELU}


class Network(nn.Module):
    """Common part of all networks: input map, output map, link, prediction and description.

    A network takes raw features `(n, n_features)`. With `columns` it uses these of them only, and its input map and
    layers know no others; without, all.

    Attributes:
        widths: numbers of inputs (features used), hidden nodes and outputs.
        n_features: number of raw features expected.
        head: what turns the outputs into targets that obey constraints, None for outputs that are targets.
        link: what turns an output into a prediction: `identity`, `sigmoid` or `softmax`; set by training.
        feature_names: names of the raw features, when known.
    """

    selected: Tensor | None

    def __init__(
        self,
        widths: Sequence[int],
        input_map: str,
        seed: int,
        columns: Sequence[int] | None = None,
        n_features: int | None = None,
        head: Mapping[str, Any] | None = None,
        **settings: Any,
    ) -> None:
        super().__init__()
        sizes = [int(width) for width in widths]
        if len(sizes) < 2 or min(sizes) < 1:
            raise UsageError(f"widths needs inputs and outputs of at least 1, however: widths={list(widths)}.")
        if input_map not in INPUT_MAPS:
            raise unknown("input map", input_map, INPUT_MAPS)
        self.widths = sizes
        self.link = "identity"
        self.feature_names: list[str] | None = None
        self.input_map = INPUT_MAPS[input_map](sizes[0])
        self._settings = {"widths": sizes, "input_map": input_map, "seed": seed, **settings}
        self.n_features = _check_columns(sizes[0], columns, n_features)
        self.head = None if head is None else _make_head(head, self.n_features, sizes[-1])
        if self.head is not None:
            self._settings |= {"head": self.head.describe()}
        self.output_map: nn.Module = Affine(self.n_targets)
        places = None if columns is None else torch.tensor([int(column) for column in columns])
        self.register_buffer("selected", places, persistent=False)
        if columns is not None:
            self._settings |= {"columns": [int(column) for column in columns], "n_features": self.n_features}

    @property
    def n_targets(self) -> int:
        """Number of columns of a prediction: of the outputs, or of what the head makes of them."""
        return self.widths[-1] if self.head is None else self.head.targets

    @property
    def columns(self) -> tuple[int, ...] | None:
        """The columns of the raw features that are used, None for all."""
        return None if self.selected is None else tuple(self.selected.tolist())

    @property
    def input_names(self) -> list[str]:
        """Names of the inputs, `widths[0]` of them: those of the features used, `x0`, `x1`, ... when unknown."""
        columns = range(self.n_features) if self.columns is None else self.columns
        return [f"x{i}" if self.feature_names is None else self.feature_names[i] for i in columns]

    def select(self, x: Tensor) -> Tensor:
        """Return the features used; `(n, n_features)` to `(n, widths[0])`."""
        return x if self.selected is None else x.index_select(1, self.selected)

    def coordinates(self, x: Tensor) -> Tensor:
        """Return network coordinates from raw features; `(n, n_features)` to `(n, widths[0])`."""
        return self.input_map(self.select(x))  # type: ignore[no-any-return]

    def fit_inputs(self, X: ArrayLike | Tensor, weight: ArrayLike | Tensor | None = None) -> None:
        """Learn the input map from training data; X: `(n, features)`, weight: `(n,)` or None."""
        events = self.select(as_tensor(X))
        self.input_map.fit(events, None if weight is None else as_tensor(weight))  # type: ignore[operator]

    def fit_outputs(self, Y: ArrayLike | Tensor, weight: ArrayLike | Tensor | None = None) -> None:
        """Learn the scale of regression targets; Y: `(n, targets)`, weight: `(n,)` or None."""
        events = None if weight is None else as_tensor(weight)
        self.output_map.fit(as_tensor(Y), events)  # type: ignore[operator]
        if self.head is not None:
            self.head.fit(as_tensor(Y), events)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits or physical targets from raw features; `(n, features)` to `(n, outputs)`."""
        y = self.body(self.coordinates(x))
        return self.output_map(y) if self.head is None else self.head(y, self.head.context(x))  # type: ignore[no-any-return]

    def body(self, z: Tensor) -> Tensor:
        """Return standardised outputs from network coordinates."""
        raise NotImplementedError

    def standardised(self, y: Tensor, context: Tensor | None) -> Tensor:
        """Return standardised targets from the outputs of `body` and the head's context."""
        if self.head is None:
            return y
        return (self.head(y, context) - self.output_map.mean) / self.output_map.scale  # type: ignore[operator, no-any-return]

    def step(self, z: Tensor) -> tuple[Tensor, Callable[[], None]]:
        """Return `body(z)` for one training step, and what to call after `backward` for all gradients to be there.

        A network may write them itself, faster than autograd.
        """
        return self.body(z), lambda: None

    @torch.no_grad()
    def predict(self, X: ArrayLike | Tensor, batch: int = 65536) -> np.ndarray:
        """Return predictions: probabilities after the link, `(n,)` for one output, else `(n, outputs)`.

        Raises:
            UsageError: X does not have the model's number of features.
        """
        x = as_tensor(X)
        if x.dim() != 2 or x.shape[1] != self.n_features:
            raise UsageError(f"X needs the shape (n, {self.n_features}), however it has {tuple(x.shape)}.")
        was_training = self.training
        self.eval()
        whole = self if self.head is None else lambda part: self.body(self.coordinates(part))
        parts = [whole(part) for part in torch.split(x, batch)] if len(x) else [torch.zeros(0, self.widths[-1])]
        self.train(was_training)
        y = torch.cat(parts)
        if self.head is not None:  # in float64, in which mass shells and sums of momenta hold
            y = self.head(y.double(), self.head.context(X))
        if self.link == "sigmoid":
            y = torch.sigmoid(y)
        elif self.link == "softmax":
            y = torch.softmax(y, dim=1)
        values: np.ndarray = y.cpu().numpy()
        return values[:, 0] if values.shape[1] == 1 else values

    @property
    def n_parameters(self) -> int:
        """Number of trained numbers."""
        return sum(parameter.numel() for parameter in self.parameters())

    def describe(self) -> dict[str, Any]:
        """Return the constructor's arguments as plain data."""
        return copy.deepcopy(self._settings)

    def parameter_groups(self, weight_decay: float) -> list[dict[str, Any]]:
        """Return optimiser groups in which weights decay, biases and gates do not; a `rate` scales steps."""
        named = list(self.named_parameters())
        biases = [p for name, p in named if name.endswith("bias")]
        gates = [p for name, p in named if name.endswith("gate")]
        weights = [p for name, p in named if not name.endswith(("bias", "gate"))]
        groups = [{"params": weights, "weight_decay": weight_decay}, {"params": biases, "weight_decay": 0.0}]
        groups.append({"params": gates, "weight_decay": 0.0, "rate": GATE_RATE})
        return [group for group in groups if group["params"]]

    def extra_repr(self) -> str:
        return f"widths={self.widths}, link={self.link}"


class KAN(Network):
    """A Kolmogorov-Arnold network.

    Hidden values are not normalised, so that every edge stays a function of one variable; where they leave the grid the
    splines continue linearly.

    **Shape** input: `(n, widths[0])` raw features, output: `(n, widths[-1])`.

    Arguments:
        widths: numbers of inputs, hidden nodes and outputs, `[43, 10, 1]`.
        grid: intervals of every grid.
        degree: degree of the splines.
        base: base function `silu`, `linear` or `none`.
        input_map: `quantile` (to a clipped normal), `standard` or `none`.
        grid_range: ends of every grid in network coordinates.
        rank: how many learned functions the edges of one input share, see `LowRankLayer`; None for a spline of its own
            on every edge.
        products: how many nodes are products of two sums: in each hidden layer, or a list that names layer by layer,
            the outputs included.
        columns: the raw features used, as many as the first width; None for all.
        n_features: number of raw features, needed with `columns`.
        head: arguments of `hepkan.nn.heads.Head`, whose number of outputs is the last width; None for none.
        edge_masks: for each layer None or a mask of its edges, see `KANLayer`; None for all edges.
        backend: kernel, see `hepkan.splines.ops`.
        seed: of the initial values.

    Raises:
        UsageError: a size or name is impossible.

    References:
        "KAN: Kolmogorov-Arnold Networks" (Liu et al., 2024), arXiv:2404.19756.
    """

    def __init__(
        self,
        widths: Sequence[int],
        grid: int = 5,
        degree: int = 3,
        *,
        base: str = "silu",
        input_map: str = "quantile",
        grid_range: tuple[float, float] = (-3.0, 3.0),
        rank: int | None = None,
        products: int | Sequence[int] = 0,
        columns: Sequence[int] | None = None,
        n_features: int | None = None,
        edge_masks: Sequence[ArrayLike | Tensor | None] | None = None,
        head: Mapping[str, Any] | None = None,
        backend: str = "auto",
        seed: int = 0,
    ) -> None:
        settings = {"grid": grid, "degree": degree, "base": base, "grid_range": list(grid_range), "backend": backend}
        depth = max(1, len(widths) - 1)
        counts = [products] * (depth - 1) + [0] if isinstance(products, int) else list(products)
        if len(counts) != depth:
            raise UsageError(f"products needs one number for each of the {depth} layers, however: {list(counts)}.")
        masks = [None] * depth if edge_masks is None else list(edge_masks)
        if len(masks) != depth:
            raise UsageError(f"edge_masks needs one mask or None for each of {depth} layers, however: {len(masks)}.")
        settings["products"] = counts
        if rank is not None:
            settings["rank"] = rank
        super().__init__(widths, input_map, seed, columns, n_features, head, **settings)
        generator = torch.Generator().manual_seed(seed)
        make = KANLayer if rank is None else partial(LowRankLayer, rank=rank)
        self.layers = nn.ModuleList(
            make(
                n_in,
                n_out,
                grid=grid,
                degree=degree,
                base=base,
                grid_range=(float(grid_range[0]), float(grid_range[1])),
                products=count,
                edge_mask=mask,
                backend=backend,
                generator=generator,
            )
            for n_in, n_out, count, mask in zip(self.widths[:-1], self.widths[1:], counts, masks, strict=True)
        )

    @classmethod
    def shallow(cls, n: int, **settings: Any) -> KAN:
        """Return the shape of Kolmogorov's theorem, `[n, 2n+1, 1]`."""
        return cls([n, 2 * n + 1, 1], **settings)

    def body(self, z: Tensor) -> Tensor:
        """Apply the layers, as many as possible in one call of the kernel."""
        for stack in self._stacks():
            numbers = [layer.factors() for layer in stack]
            z = stack[-1].multiply(kan_stack(z, numbers, stack[-1].degree, stack[-1].base, stack[-1].backend))
        return z

    def step(self, z: Tensor) -> tuple[Tensor, Callable[[], None]]:
        """As `Network.step`; the compiled kernel writes the gradients unless there are product nodes or gates."""
        first, *others = self._stacks()
        if others or first[-1].products or any(type(layer) not in (KANLayer, LowRankLayer) for layer in first):
            return super().step(z)
        numbers = [layer.writable() for layer in first]
        step = kan_step(z, numbers, first[-1].degree, first[-1].base, first[-1].backend)
        if step is None:
            return super().step(z)

        def finish() -> None:
            step.backward()
            for layer, written in zip(first, numbers, strict=True):
                layer.collect(written)

        return step.y, finish

    def describe(self) -> dict[str, Any]:
        """Return the constructor's arguments as plain data."""
        settings = super().describe()
        masks = [layer.edge_mask for layer in self.layers]
        if any(mask is not None for mask in masks):
            settings["edge_masks"] = [None if mask is None else mask.int().tolist() for mask in masks]  # type: ignore[operator,union-attr]
        return settings

    @property
    def n_parameters(self) -> int:
        """Number of trained numbers; masked edges have none."""
        missing = 0
        for layer in self.layers:
            assert isinstance(layer, KANLayer)
            if layer.edge_mask is not None:
                missing += layer.edge_parameters * int((layer.edge_mask == 0).sum())
        return super().n_parameters - missing

    def _stacks(self) -> list[list[KANLayer]]:
        """Return runs of layers, each but the last ending with products."""
        stacks: list[list[KANLayer]] = [[]]
        for layer in self.layers:
            assert isinstance(layer, KANLayer)
            stacks[-1].append(layer)
            if layer.products:
                stacks.append([])
        return [stack for stack in stacks if stack]

    def rewired(self, layers: Sequence[KANLayer], inputs: Sequence[int]) -> KAN:
        """Return a KAN of the layers given that takes some of this one's inputs, from the same raw features.

        Maps, link and names are copies of this one's; the layers become part of the new network, those of low rank
        with a spline on every edge.
        """
        own = range(self.n_features) if self.columns is None else self.columns
        layers = [layer.full() if isinstance(layer, LowRankLayer) else layer for layer in layers]
        settings = self.describe() | {"widths": [len(inputs), *(layer.out_features for layer in layers)]}
        settings.pop("edge_masks", None)
        settings.pop("rank", None)
        settings |= {"products": [layer.products for layer in layers], "grid": layers[0].grid}
        if self.columns is not None or list(inputs) != list(own):
            settings |= {"columns": [own[i] for i in inputs], "n_features": self.n_features}
        small = KAN(**settings)
        small.layers = nn.ModuleList(layers)
        small.input_map = self.input_map.part(inputs)  # type: ignore[operator]
        small.output_map, small.head = copy.deepcopy(self.output_map), copy.deepcopy(self.head)
        small.link, small.feature_names = self.link, copy.copy(self.feature_names)
        return small.to(next(self.parameters()).device).train(self.training)

    def refined(self, grid: int) -> KAN:
        """Return a copy with finer grids and the same functions."""
        finer = copy.deepcopy(self)
        for layer in finer.layers:
            layer.refine(grid)  # type: ignore[operator]
        finer._settings["grid"] = grid
        return finer


class MLP(Network):
    """A multilayer perceptron with the same interface; without hidden layers it is a logistic or linear regression.

    **Shape** input: `(n, widths[0])` raw features, output: `(n, widths[-1])`.

    Arguments:
        widths: numbers of inputs, hidden nodes and outputs, `[43, 100, 100, 1]`.
        activation: `relu`, `silu`, `tanh` or `gelu`.
        input_map: `quantile` (to a clipped normal), `standard` or `none`.
        dropout: probability of dropping a hidden value in training.
        columns: the raw features used, as many as the first width; None for all.
        n_features: number of raw features, needed with `columns`.
        head: arguments of `hepkan.nn.heads.Head`, whose number of outputs is the last width; None for none.
        seed: of the initial values.

    Raises:
        UsageError: a size or name is impossible.
    """

    def __init__(
        self,
        widths: Sequence[int],
        *,
        activation: str = "relu",
        input_map: str = "quantile",
        dropout: float = 0.0,
        columns: Sequence[int] | None = None,
        n_features: int | None = None,
        head: Mapping[str, Any] | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__(widths, input_map, seed, columns, n_features, head, activation=activation, dropout=dropout)
        if activation not in ACTIVATIONS:
            raise unknown("activation", activation, ACTIVATIONS)
        generator = torch.Generator().manual_seed(seed)
        modules: list[nn.Module] = []
        for i, (n_in, n_out) in enumerate(zip(self.widths[:-1], self.widths[1:], strict=True)):
            if i > 0:
                modules.append(ACTIVATIONS[activation]())
                if dropout > 0.0:
                    modules.append(nn.Dropout(dropout))
            modules.append(_linear(n_in, n_out, generator))
        self.layers = nn.Sequential(*modules)

    def body(self, z: Tensor) -> Tensor:
        """Apply the layers."""
        return self.layers(z)  # type: ignore[no-any-return]


NETWORKS: dict[str, type[Network]] = {"KAN": KAN, "MLP": MLP}


def as_tensor(values: ArrayLike | Tensor) -> Tensor:
    """Return a float tensor; float64 input keeps its type only when it is a tensor."""
    if isinstance(values, Tensor):
        return values
    return torch.from_numpy(np.ascontiguousarray(values, dtype=np.float32))


def _check_columns(width: int, columns: Sequence[int] | None, n_features: int | None) -> int:
    """Return the number of raw features."""
    if columns is None:
        if n_features not in (None, width):
            raise UsageError(f"Without columns the features are the {width} inputs, however: n_features={n_features}.")
        return width
    if len(columns) != width or len(set(columns)) != width:
        raise UsageError(f"columns needs {width} different features, one for each input, however: {list(columns)}.")
    if n_features is None or min(columns) < 0 or max(columns) >= n_features:
        raise UsageError(f"columns needs places from 0 to n_features - 1, however: {list(columns)} of {n_features}.")
    return int(n_features)


def _make_head(arguments: Mapping[str, Any], n_features: int, outputs: int) -> Head:
    """Return a head that fits the network."""
    head = Head(**{"n_features": n_features, **arguments})
    if head.n_features != n_features or head.reduced != outputs:
        raise UsageError(
            f"This head needs {head.reduced} outputs of {head.n_features} features, however the network has {outputs} "
            f"outputs of {n_features} features."
        )
    return head


class _Linear(nn.Linear):
    """A linear layer that draws no values; `skip_init` would do the same, and import SymPy for it."""

    def reset_parameters(self) -> None:
        """Leave the values to the caller."""


def _linear(n_in: int, n_out: int, generator: torch.Generator) -> nn.Linear:
    """Return a linear layer with He's uniform values from its own generator, PyTorch's default scale."""
    layer = _Linear(n_in, n_out)
    bound = n_in**-0.5
    with torch.no_grad():
        layer.weight.uniform_(-bound, bound, generator=generator)
        layer.bias.uniform_(-bound, bound, generator=generator)
    return layer
