"""TorchScript: raw features in, predictions out, for `torch.jit.load` of Python and libtorch, and what builds on them.

The file has a network of its own: the same sums over clipped powers as the ONNX file, which PyTorch evaluates several
times as fast as the B-splines they equal. Its numbers are buffers, so `.cuda()` and `.double()` move them all.
"""

from __future__ import annotations

import copy
import io
import json
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor, nn

import hepkan
from hepkan.errors import DataError
from hepkan.export.pieces import Floats, cells_of, check_network, start_of
from hepkan.export.verification import Export, check_events, compare, float32_tolerance, reference, writing
from hepkan.nn.layers import KANLayer
from hepkan.nn.networks import KAN, Network

EXTRA = "hepkan.json"


def torchscript(
    model: Network,
    path: str | Path,
    X: ArrayLike | Tensor | None = None,
    *,
    link: bool = True,
    tolerance: float | None = None,
) -> Export:
    """Write a network as TorchScript: `(batch, features)` of any floating type in, `(batch, outputs)` in float32 out.

    `torch.jit.load(path)` of Python or libtorch gives a module that needs nothing of this package; coffea's
    `torch_wrapper` takes the path. The extra file `hepkan.json` in it has the names of the features and the link. The
    file is read back and compared with the network in float64 before it is written.

    Arguments:
        model: a KAN or MLP.
        path: the file; replaced only by one that agrees with the network.
        X: events for the comparison `(n, features)`, best real ones; others are drawn in any case.
        link: whether predictions come out, as from `predict`; otherwise logits, as from the network itself.
        tolerance: largest difference allowed, in units of the output's spread; as in `hepkan.export.onnx`.

    Raises:
        UsageError: the model is no network of this package, X does not fit, or its splines are of degree 0.
        DataError: the file would differ from the network, or cannot be written.
    """
    network = check_network(model)
    target = Path(path)
    events = check_events(network, X)
    content = _traced(network, link, events[:2])
    found, expected = _run(content, events), reference(network, events, link)
    if tolerance is None:
        tolerance = float32_tolerance(network, events, link, expected)
    precision = float(np.finfo(np.float32).eps)
    done = compare("The TorchScript file", target, found, expected, tolerance, precision)
    with writing(target) as temporary:
        temporary.write_bytes(content)
    return done


class Layer(nn.Module):
    """A layer of a KAN as sums over clipped powers; `(batch, in)` to `(batch, out)`."""

    origin: Tensor
    low: Tensor
    high: Tensor
    scale: Tensor
    first: Tensor
    last: Tensor
    slope_below: Tensor
    slope_above: Tensor
    bias: Tensor
    base_weight: Tensor | None

    def __init__(self, layer: KANLayer) -> None:
        super().__init__()
        cells = cells_of(layer)
        self.base, self.products, self.alone = layer.base, layer.products, layer.out_features - layer.products
        scale = np.where(cells.filled, 1.0 / np.where(cells.filled, cells.width, 1.0), 0.0)
        numbers: Mapping[str, Floats | None] = {
            "origin": cells.origin,
            "low": cells.knots[:, :-1] - cells.origin,
            "high": cells.knots[:, 1:] - cells.origin,
            "scale": scale,
            "first": cells.knots[:, 0],
            "last": cells.knots[:, -1],
            "slope_below": cells.slope[0],
            "slope_above": cells.slope[1],
            "bias": cells.bias + start_of(cells, "TorchScript"),
            "base_weight": cells.base_weight,
        }
        for name, values in numbers.items():
            self.register_buffer(name, None if values is None else _single(values))
        powers = cells.power.transpose(2, 0, 1, 3)[1:]
        for p, power in enumerate(powers, 1):
            self.register_buffer(f"power{p}", _single(power.reshape(-1, power.shape[-1])))
        self.degree = len(powers)

    def forward(self, x: Tensor) -> Tensor:
        """Evaluate the layer."""
        inside = torch.clamp(x.unsqueeze(-1) - self.origin, self.low, self.high)
        u = (inside * self.scale).flatten(1)
        y = self.bias + torch.clamp(x - self.first, max=0.0) @ self.slope_below
        y = y + torch.clamp(x - self.last, min=0.0) @ self.slope_above
        raised = u
        for p in range(1, self.degree + 1):
            raised = raised if p == 1 else raised * u
            y = y + raised @ getattr(self, f"power{p}")
        if self.base_weight is not None:
            y = y + (nn.functional.silu(x) if self.base == "silu" else x) @ self.base_weight
        if self.products == 0:
            return y
        factors = y[:, self.alone :]
        return torch.cat([y[:, : self.alone], factors[:, ::2] * factors[:, 1::2]], dim=1)


class Prediction(nn.Module):
    """A whole network, from raw features to predictions, in float32."""

    selected: Tensor | None

    def __init__(self, model: Network, link: bool) -> None:
        super().__init__()
        self.register_buffer("selected", model.selected)
        self.input_map = model.input_map
        self.layers = _layers(model)
        self.output_map = model.output_map
        self.link = model.link if link else "identity"

    def forward(self, features: Tensor) -> Tensor:
        """Return predictions; `(batch, features)` to `(batch, outputs)`."""
        x = features.float()
        if self.selected is not None:
            x = x.index_select(1, self.selected)
        y: Tensor = self.output_map(self.layers(self.input_map(x)))
        if self.link == "sigmoid":
            return torch.sigmoid(y)
        return torch.softmax(y, dim=1) if self.link == "softmax" else y


def _layers(model: Network) -> nn.Module:
    """Return the layers between input and output map."""
    if not isinstance(model, KAN):
        return model.layers  # type: ignore[return-value]
    return nn.Sequential(*(Layer(layer) for layer in model.layers if isinstance(layer, KANLayer)))


def _single(values: Floats) -> Tensor:
    """Return numbers in float32."""
    with np.errstate(over="ignore"):
        numbers = np.ascontiguousarray(values, dtype=np.float32)
    if not np.isfinite(numbers).all():
        raise DataError("TorchScript needs numbers within the range of float, however the network has larger ones.")
    return torch.from_numpy(numbers)


def _traced(model: Network, link: bool, example: NDArray[np.float32]) -> bytes:
    """Return the file's content; the first one in a process has the same bytes every time."""
    module = Prediction(copy.deepcopy(model).cpu(), link).float().eval()
    facts = {
        "feature_names": model.feature_names,
        "link": model.link if link else "identity",
        "class": type(model).__name__,
        "version": hepkan.__version__,
    }
    buffer = io.BytesIO()  # the name of a file would become part of its content
    with warnings.catch_warnings():  # PyTorch announces the end of TorchScript, which is what is asked for
        warnings.simplefilter("ignore", DeprecationWarning)
        script = torch.jit.trace(module, torch.from_numpy(example), check_trace=False)  # type: ignore[no-untyped-call]
        torch.jit.save(script, buffer, _extra_files={EXTRA: json.dumps(facts, sort_keys=True)})
    return buffer.getvalue()


@torch.no_grad()
def _run(content: bytes, events: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the predictions of the file."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        module: Any = torch.jit.load(io.BytesIO(content), map_location="cpu")  # type: ignore[no-untyped-call]
    parts = [module(part) for part in torch.split(torch.from_numpy(events), 16384)]
    return np.asarray(torch.cat(parts).numpy())
