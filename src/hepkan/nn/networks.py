"""Networks that take raw physical features: the input map is learned from training data and part of the model."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor, nn

from hepkan.errors import UsageError, unknown
from hepkan.nn.layers import KANLayer
from hepkan.nn.transforms import INPUT_MAPS, Affine
from hepkan.splines.ops import kan_stack, kan_step

LINKS = ("identity", "sigmoid", "softmax")
ACTIVATIONS: dict[str, type[nn.Module]] = {"relu": nn.ReLU, "silu": nn.SiLU, "tanh": nn.Tanh, "gelu": nn.GELU}


class Network(nn.Module):
    """Common part of all networks: input map, output map, link, prediction and description.

    Attributes:
        widths: numbers of features, hidden nodes and outputs.
        link: what turns an output into a prediction: `identity`, `sigmoid` or `softmax`; set by training.
        feature_names: names of the inputs, when known.
    """

    def __init__(self, widths: Sequence[int], input_map: str, seed: int, **settings: Any) -> None:
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
        self.output_map: nn.Module = Affine(sizes[-1])
        self._settings = {"widths": sizes, "input_map": input_map, "seed": seed, **settings}

    def fit_inputs(self, X: ArrayLike | Tensor, weight: ArrayLike | Tensor | None = None) -> None:
        """Learn the input map from training data; X: `(n, features)`, weight: `(n,)` or None."""
        self.input_map.fit(as_tensor(X), None if weight is None else as_tensor(weight))  # type: ignore[operator]

    def fit_outputs(self, Y: ArrayLike | Tensor, weight: ArrayLike | Tensor | None = None) -> None:
        """Learn the scale of regression targets; Y: `(n, targets)`, weight: `(n,)` or None."""
        self.output_map.fit(as_tensor(Y), None if weight is None else as_tensor(weight))  # type: ignore[operator]

    def forward(self, x: Tensor) -> Tensor:
        """Return logits or physical targets from raw features; `(n, features)` to `(n, outputs)`."""
        return self.output_map(self.body(self.input_map(x)))  # type: ignore[no-any-return]

    def body(self, z: Tensor) -> Tensor:
        """Return standardised outputs from network coordinates."""
        raise NotImplementedError

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
        if x.dim() != 2 or x.shape[1] != self.widths[0]:
            raise UsageError(f"X needs the shape (n, {self.widths[0]}), however it has {tuple(x.shape)}.")
        was_training = self.training
        self.eval()
        parts = [self(part) for part in torch.split(x, batch)] if len(x) else [torch.zeros(0, self.widths[-1])]
        self.train(was_training)
        y = torch.cat(parts)
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
        """Return optimiser groups in which weights decay and biases do not; a `rate` scales a group's learning rate."""
        biases = [p for name, p in self.named_parameters() if name.endswith("bias")]
        weights = [p for name, p in self.named_parameters() if not name.endswith("bias")]
        groups = [{"params": weights, "weight_decay": weight_decay}, {"params": biases, "weight_decay": 0.0}]
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
        products: how many nodes are products of two sums: in each hidden layer, or a list that names layer by layer,
            the outputs included.
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
        products: int | Sequence[int] = 0,
        backend: str = "auto",
        seed: int = 0,
    ) -> None:
        settings = {"grid": grid, "degree": degree, "base": base, "grid_range": list(grid_range), "backend": backend}
        depth = max(1, len(widths) - 1)
        counts = [products] * (depth - 1) + [0] if isinstance(products, int) else list(products)
        if len(counts) != depth:
            raise UsageError(f"products needs one number for each of the {depth} layers, however: {list(counts)}.")
        settings["products"] = counts
        super().__init__(widths, input_map, seed, **settings)
        generator = torch.Generator().manual_seed(seed)
        self.layers = nn.ModuleList(
            KANLayer(
                n_in,
                n_out,
                grid=grid,
                degree=degree,
                base=base,
                grid_range=(float(grid_range[0]), float(grid_range[1])),
                products=count,
                backend=backend,
                generator=generator,
            )
            for n_in, n_out, count in zip(self.widths[:-1], self.widths[1:], counts, strict=True)
        )

    @classmethod
    def shallow(cls, n: int, **settings: Any) -> KAN:
        """Return the shape of Kolmogorov's theorem, `[n, 2n+1, 1]`."""
        return cls([n, 2 * n + 1, 1], **settings)

    def body(self, z: Tensor) -> Tensor:
        """Apply the layers, as many as possible in one call of the kernel."""
        for stack in self._stacks():
            numbers = [layer.numbers() for layer in stack]
            z = stack[-1].multiply(kan_stack(z, numbers, stack[-1].degree, stack[-1].base, stack[-1].backend))
        return z

    def step(self, z: Tensor) -> tuple[Tensor, Callable[[], None]]:
        """As `Network.step`; the compiled kernel writes the gradients unless nodes are products."""
        first, *others = self._stacks()
        if others or first[-1].products:
            return super().step(z)
        numbers = [layer.numbers() for layer in first]
        step = kan_step(z, numbers, first[-1].degree, first[-1].base, first[-1].backend)
        return super().step(z) if step is None else (step.y, step.backward)

    def _stacks(self) -> list[list[KANLayer]]:
        """Return runs of layers, each but the last ending with products."""
        stacks: list[list[KANLayer]] = [[]]
        for layer in self.layers:
            assert isinstance(layer, KANLayer)
            stacks[-1].append(layer)
            if layer.products:
                stacks.append([])
        return [stack for stack in stacks if stack]

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
        seed: int = 0,
    ) -> None:
        super().__init__(widths, input_map, seed, activation=activation, dropout=dropout)
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


def _linear(n_in: int, n_out: int, generator: torch.Generator) -> nn.Linear:
    """Return a linear layer with He's uniform values from its own generator, PyTorch's default scale."""
    layer: nn.Linear = nn.utils.skip_init(nn.Linear, n_in, n_out)  # type: ignore[no-untyped-call]
    bound = n_in**-0.5
    with torch.no_grad():
        layer.weight.uniform_(-bound, bound, generator=generator)
        layer.bias.uniform_(-bound, bound, generator=generator)
    return layer
