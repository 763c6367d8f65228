"""Equal functions before times: every check that has to pass before anything is timed.

Values and all gradients of the compiled kernel, of one layer and of a whole network, are compared with the float64
reference: degrees 1 to 5, uneven knots, points outside the grid. The dense layers are compared with the reference
inside the grid, where all agree on what a spline layer is, and the MLP of onnxruntime with that of torch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import torch
from dense import DenseLayer
from outside import onnx_session
from rivals import mlp
from torch import Tensor

from hepkan.nn import KAN
from hepkan.splines.basis import kan_layer_reference
from hepkan.splines.ops import kan_layer

TOLERANCE = 1e-5  # of the largest value
SHAPES = [(43, 30, 5), (30, 1, 5), (24, 30, 50), (7, 100, 20), (5, 8, 4), (3, 33, 1)]
DEGREES = range(1, 6)


def gate(rivals: Iterable[str]) -> list[str]:
    """Return what is wrong, nothing when all is well."""
    generator = torch.Generator().manual_seed(1)
    failures = [text for degree in DEGREES for shape in SHAPES for text in check_kernel(shape, degree, generator)]
    failures += [text for degree in DEGREES for text in check_network(degree, generator)]
    checks: dict[str, Callable[[], list[str]]] = {
        "dense": lambda: check_dense(generator),
        "efficient-kan": lambda: check_efficient_kan(generator),
        "onnxruntime MLP 2x100": check_onnxruntime,
    }
    return failures + [text for name in rivals if name in checks for text in checks[name]()]


def check_kernel(shape: tuple[int, int, int], degree: int, generator: torch.Generator) -> list[str]:
    """Compare the kernel on uneven knots, an even grid moved by random steps and one that is random altogether."""
    inputs, outputs, grid = shape
    count = grid + 2 * degree + 1
    steps = 2.0 / grid
    even = (torch.arange(count) - degree) * steps - 1.0
    jittered = even + steps * 0.8 * (torch.rand(inputs, count, generator=generator) - 0.5)
    wild = torch.rand(inputs, count, generator=generator).mul(3).sub(1.5).sort(dim=1).values
    failures = []
    for kind, knots in {"even": even.repeat(inputs, 1), "uneven": jittered, "random": wild}.items():
        x = torch.randn(500, inputs, generator=generator)
        coef, weight, dy = layer_tensors(inputs, grid + degree, outputs, generator)
        found = value_and_gradients(lambda *t: kan_layer(*t, degree, "silu", "cpu"), x, knots, coef, weight, dy)
        name = f"{inputs}->{outputs} G={grid} degree {degree} {kind} knots"
        failures += differences(name, found, reference(x, knots, coef, weight, dy, degree))
    return failures


def check_network(degree: int, generator: torch.Generator) -> list[str]:
    """Compare a network that runs in the kernel with the same one in float64 by the reference."""
    exact, ours = (
        KAN((24, 30, 30, 8), degree=degree, input_map="none", grid_range=(-1.0, 1.0), backend=backend)
        for backend in ("torch", "cpu")
    )
    for name, knots in exact.named_buffers():
        if name.endswith("knots"):
            knots += 0.1 * torch.rand(knots.shape, generator=generator)
    ours.load_state_dict(exact.state_dict())
    x, dy = (torch.randn(500, width, generator=generator) for width in (24, 8))
    results = []
    for model, kind in ((ours, torch.float32), (exact.double(), torch.float64)):
        leaf = x.to(kind, copy=True).requires_grad_()
        y = model(leaf)
        weights = [p for p in model.parameters() if p.requires_grad]
        results.append([y.detach(), *torch.autograd.grad(y, [leaf, *weights], dy.to(kind))])
    names = ["y", "dx", *(f"d{name}" for name, p in ours.named_parameters() if p.requires_grad)]
    return differences(f"network 24-30-30-8 degree {degree}", *results, names)


def check_dense(generator: torch.Generator) -> list[str]:
    """Compare the dense layer with the reference inside the grid."""
    failures = []
    for inputs, outputs, grid in SHAPES:
        layer = DenseLayer(inputs, outputs, grid)
        x = torch.rand(500, inputs, generator=generator) * 1.98 - 0.99
        coef, weight, dy = layer_tensors(inputs, grid + 3, outputs, generator)
        layer.load(coef, weight)
        leaf = x.clone().requires_grad_()
        y = layer(leaf)
        dx, dspline, dbase = torch.autograd.grad(y, [leaf, layer.spline.weight, layer.base.weight], dy)
        found = [y.detach(), dx, dspline.T.reshape(coef.shape), dbase.T]
        exact = reference(x, layer.knots, coef, weight, dy, 3)
        failures += differences(f"dense {inputs}->{outputs} G={grid}", found, exact)
    return failures


def check_efficient_kan(generator: torch.Generator) -> list[str]:
    """Compare values of efficient-kan's layer with the reference inside the grid."""
    from efficient_kan import KANLinear

    failures = []
    for inputs, outputs, grid in SHAPES:
        layer = KANLinear(inputs, outputs, grid_size=grid)
        x = torch.rand(500, inputs, generator=generator) * 1.98 - 0.99
        with torch.no_grad():
            coef, weight = layer.scaled_spline_weight.permute(1, 2, 0), layer.base_weight.T
            found = layer(x)
            exact = kan_layer_reference(x.double(), layer.grid.double(), coef.double(), weight.double(), 3, "silu")
        failures += differences(f"efficient-kan {inputs}->{outputs} G={grid}", [found], [exact])
    return failures


def check_onnxruntime() -> list[str]:
    """Compare the MLP in onnxruntime with the one in torch."""
    model = mlp((43, 1), 100, 2)
    x = torch.rand(500, 43) * 2 - 1
    found = torch.from_numpy(onnx_session(model, 1).run(None, {"x": x.numpy()})[0])
    with torch.no_grad():
        exact = model.double()(x.double())
    return differences("onnxruntime MLP 2x100", [found], [exact])


def layer_tensors(inputs: int, splines: int, outputs: int, generator: torch.Generator) -> tuple[Tensor, ...]:
    """Return coefficients, base weights and an upstream gradient."""
    shapes = [(inputs, splines, outputs), (inputs, outputs), (500, outputs)]
    return tuple(torch.randn(shape, generator=generator) for shape in shapes)


def reference(x: Tensor, knots: Tensor, coef: Tensor, weight: Tensor, dy: Tensor, degree: int) -> list[Tensor]:
    """Return value and gradients of the reference in float64."""
    doubles = [t.double() for t in (x, knots, coef, weight, dy)]
    return value_and_gradients(lambda *t: kan_layer_reference(*t, degree, "silu"), *doubles)


def value_and_gradients(
    layer: Callable[..., Tensor], x: Tensor, knots: Tensor, coef: Tensor, weight: Tensor, dy: Tensor
) -> list[Tensor]:
    """Return y and the gradients with respect to inputs, coefficients and base weights."""
    leaves = [t.clone().requires_grad_() for t in (x, coef, weight)]
    y = layer(leaves[0], knots, leaves[1], leaves[2])
    return [y.detach(), *torch.autograd.grad(y, leaves, dy)]


def differences(
    name: str,
    found: Sequence[Tensor],
    exact: Sequence[Tensor],
    parts: Sequence[str] = ("y", "dx", "dcoef", "dbase"),
) -> list[str]:
    """Return what differs, relative to the largest value; a NaN differs from everything."""
    failures = []
    for part, one, other in zip(parts, found, exact, strict=False):
        error = ((one.double() - other).abs().max() / other.abs().max()).item()
        if not error < TOLERANCE:
            failures.append(f"{name}: {part} off by {error:.1e}")
    return failures
