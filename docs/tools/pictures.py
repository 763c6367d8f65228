"""The pictures of the pages, drawn by the package's own code: `python docs/tools/pictures.py [FOLDER]`.

Without a folder they go to docs/pictures/. Those of `choosing` show benchmarks/results/top_dm.json and multijet.json.
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Circle, Rectangle

import hepkan
from hepkan.files import write_text
from hepkan.interpret import edge_curves
from hepkan.report.diagram import network_diagram
from hepkan.report.style import FAINT, INK, PALETTE, round_ticks, styled, svg
from hepkan.splines import bspline_basis, grids

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "docs" / "pictures"
RESULTS = ROOT / "benchmarks" / "results"
DIGESTS = "digests.json"
LOW, HIGH = -3.0, 3.0


def _axes(width: float = 6.4, height: float = 3.2, columns: int = 1) -> tuple[Figure, list[Axes]]:
    """Return a figure with panels side by side."""
    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, [figure.add_subplot(1, columns, place + 1) for place in range(columns)]


def _knots(grid: int, degree: int = 3) -> torch.Tensor:
    """Return even knots of one input over the grid's range."""
    return grids.uniform(torch.tensor([LOW]).double(), torch.tensor([HIGH]).double(), grid, degree)


def _mark_knots(axes: Axes, knots: torch.Tensor, degree: int = 3) -> None:
    """Show the knots of the grid as ticks at the bottom."""
    inner = knots[0, degree : knots.shape[1] - degree].numpy()
    low = axes.get_xaxis_transform()
    axes.plot(inner, np.zeros_like(inner), "|", color=INK, ms=9, mew=1.2, transform=low, clip_on=False)


@styled(10.0)
def bsplines() -> Figure:
    """All B-splines of a cubic grid with five intervals, one of them in colour, and their sum."""
    knots, x = _knots(5), np.linspace(LOW, HIGH, 601)
    basis = bspline_basis(torch.tensor(x).unsqueeze(1), knots, 3)[:, 0].numpy()
    figure, (axes,) = _axes()
    for m, values in enumerate(basis.T):
        axes.plot(x, values, color=PALETTE[0] if m == 3 else FAINT, lw=2.4 if m == 3 else 1.2)
    axes.plot(x, basis.sum(1), "--", color=PALETTE[1], lw=1.4)
    axes.text(HIGH - 0.1, 1.04, "their sum", ha="right", color=PALETTE[1])
    axes.text(-0.6, 0.72, "$B_3$", ha="center", color=PALETTE[0])
    _mark_knots(axes, knots)
    axes.set(xlim=(LOW, HIGH), ylim=(0, 1.18), xlabel="input $x$ (network coordinate)", ylabel="$B_m(x)$")
    return figure


@styled(10.0)
def edge() -> Figure:
    """One edge function: its B-splines times their coefficients, the base function, and the sum."""
    layer = hepkan.KANLayer(1, 1, grid=5).double()
    with torch.no_grad():
        layer.coef[0, :, 0] = torch.tensor([0.9, 0.2, -0.9, -0.5, 0.8, 1.0, -0.2, -0.9], dtype=torch.float64)
        layer.base_weight[0, 0] = 0.35  # type: ignore[index]
        x = torch.linspace(LOW, HIGH, 601).double().unsqueeze(1)
        parts = (bspline_basis(x, layer.knots, 3)[:, 0] * layer.coef[0, :, 0]).numpy()
        total = layer.edge_functions(x)[:, 0, 0].numpy()
        base = (0.35 * torch.nn.functional.silu(x))[:, 0].numpy()
    figure, (axes,) = _axes()
    axes.plot(x[:, 0], parts, color=FAINT, lw=1.0)
    axes.plot([], [], color=FAINT, lw=1.0, label=r"$C_m\,B_m(x)$")
    axes.plot(x[:, 0], base, "-.", color=PALETTE[2], label=r"$W\,b(x)$, $b$ = silu")
    axes.plot(x[:, 0], total, color=PALETTE[0], lw=2.4, label=r"$\phi(x)$, their sum")
    axes.axhline(0.0, color=FAINT, lw=0.6)
    _mark_knots(axes, layer.knots)
    axes.set(xlim=(LOW, HIGH), xlabel="input $x$", ylabel=r"$\phi(x)$", ylim=(-1.0, 2.2))
    axes.legend(loc="upper left")
    return figure


@styled(10.0)
def refinement() -> Figure:
    """A fit with 3 intervals, the same function on 12, and the fit that the finer grid allows."""
    x = np.linspace(LOW, HIGH, 601)

    def target(z: np.ndarray) -> np.ndarray:
        return np.asarray(np.tanh(2.5 * z) + 0.35 * np.sin(5 * z))

    coarse, fine = _knots(3), _knots(12)
    bases = [bspline_basis(torch.tensor(x).unsqueeze(1), knots, 3)[:, 0].numpy() for knots in (coarse, fine)]
    fits = [np.linalg.lstsq(basis, target(x)[:, None], rcond=None)[0] for basis in bases]
    moved = grids.refit(torch.tensor(fits[0]).unsqueeze(0), coarse, fine, 3)[0].numpy()
    before, same, after = ((bases[i] @ one)[:, 0] for i, one in ((0, fits[0]), (1, moved), (1, fits[1])))
    figure, panels = _axes(8.0, 3.0, 3)
    titles = ("3 intervals, fitted", "12 intervals, same function", "12 intervals, fitted")
    for axes, values_, knots, title in zip(panels, (before, same, after), (coarse, fine, fine), titles, strict=True):
        axes.plot(x, target(x), color=FAINT, lw=3.0)
        axes.plot(x, values_, color=PALETTE[0])
        _mark_knots(axes, knots)
        axes.set_title(title, fontsize=9.5)
        axes.set(xlim=(LOW, HIGH), ylim=(-1.6, 1.6), xlabel="$x$")
    return figure


@styled(10.0)
def outside() -> Figure:
    """What a spline does outside of its grid: ours, and the decay to zero of plain B-splines."""
    layer = hepkan.KANLayer(1, 1, grid=5, base="none").double()
    knots, x = layer.knots, torch.linspace(-6.0, 6.0, 1201).double().unsqueeze(1)
    with torch.no_grad():
        layer.coef[0, :, 0] = torch.tensor([-1.0, -0.8, -0.7, 0.1, 0.4, 0.9, 1.0, 1.2], dtype=torch.float64)
        ours = layer.edge_functions(x)[:, 0, 0].numpy()
    from scipy.interpolate import BSpline

    plain = BSpline(knots[0].numpy(), layer.coef[0, :, 0].detach().numpy(), 3, extrapolate=False)
    full = [BSpline.basis_element(knots[0, m : m + 5].numpy(), extrapolate=False)(x[:, 0].numpy()) for m in range(8)]
    decays = np.nan_to_num(np.array(full)).T @ layer.coef[0, :, 0].detach().numpy()
    assert np.nanmax(np.abs(plain(x[:, 0].numpy()) - ours)[500:700]) < 1e-9
    figure, (axes,) = _axes()
    axes.axvspan(LOW, HIGH, color=PALETTE[0], alpha=0.08, lw=0)
    axes.plot(x[:, 0], decays, "--", color=PALETTE[1], label="plain B-splines: decay to zero")
    axes.plot(x[:, 0], ours, color=PALETTE[0], lw=2.2, label="hepkan: linear, value and slope kept")
    axes.axhline(0.0, color=FAINT, lw=0.6)
    _mark_knots(axes, knots)
    axes.text(0.0, 2.35, "grid", ha="center", color=PALETTE[0])
    axes.set(xlim=(-6, 6), ylim=(-2.7, 2.7), xlabel="input $x$", ylabel=r"$\phi(x)$")
    axes.legend(loc="lower right")
    return figure


def _trained() -> tuple[hepkan.KAN, np.ndarray]:
    """Return a KAN [2, 5, 1] that has learned exp(sin(pi x) + y^2), and its events."""
    generator = np.random.default_rng(0)
    X = generator.uniform(-1.0, 1.0, size=(2000, 2)).astype(np.float32)
    y = np.exp(np.sin(np.pi * X[:, 0]) + X[:, 1] ** 2)
    model = hepkan.KAN([2, 5, 1], grid=5, input_map="none", grid_range=(-1.0, 1.0), seed=1)
    settings = {"loss": "mse", "optimizer": "lbfgs", "epochs": 60, "batch": 1600, "weight_decay": 0.0}
    hepkan.fit(model, (X[:1600], y[:1600]), (X[1600:], y[1600:]), seed=0, **settings)  # type: ignore[arg-type]
    model.feature_names = ["x", "y"]
    return model, X


def diagram() -> Figure:
    """The network of the theorem for two inputs, [2, 5, 1], with the functions that it has learned."""
    model, X = _trained()
    return network_diagram(edge_curves(model, X), labels={"x": "$x$", "y": "$y$"}, outputs=["output"])


@styled(10.0)
def networks() -> Figure:
    """An MLP beside a KAN: where the numbers that are learned sit."""
    figure, panels = _axes(9.0, 3.3, 2)
    curves = {0: np.sin, 1: np.square, 2: np.tanh, 3: np.abs, 4: np.cos, 5: lambda t: -t}
    for axes, kan in zip(panels, (False, True), strict=True):
        columns = [[(0.0, y) for y in (0.7, -0.7)], [(1.6, y) for y in (1.2, 0.0, -1.2)], [(3.2, 0.0)]]
        number = 0
        for left, right in pairwise(columns):
            for start in left:
                for end in right:
                    axes.plot(*zip(start, end, strict=True), color=PALETTE[0], lw=1.2, zorder=1)
                    if kan:
                        part = (0.5, 0.7, 0.25, 0.25, 0.7, 0.5, 0.5, 0.5, 0.5)[number]  # where plots do not overlap
                        _small(axes, [a + part * (b - a) for a, b in zip(start, end, strict=True)], curves[number % 6])
                        number += 1
        for place, column in enumerate(columns):
            for x, y in column:
                axes.add_patch(Circle((x, y), 0.17, facecolor="white", edgecolor=INK, lw=1.0, zorder=5))
                text = ("Σ" if kan else "σ" if place == 1 else "Σ") if place else ""
                axes.text(x, y - 0.01, text, ha="center", va="center", zorder=6, fontsize=9)
        axes.set(xlim=(-0.4, 3.6), ylim=(-1.6, 1.6), aspect="equal")
        axes.set_axis_off()
        axes.set_title("KAN: a learned function on every edge, nodes add" if kan else
                       "MLP: a learned weight on every edge, a fixed function in nodes", fontsize=9.5)  # fmt: skip
    return figure


def _small(axes: Axes, centre: list[float], function: Callable[[Any], Any]) -> None:
    """Draw a small plot of a function on an edge."""
    t = np.linspace(-1.8, 1.8, 60)
    y = np.asarray(function(t))
    y = (y - y.min()) / (np.ptp(y) or 1.0) - 0.5
    half = 0.17
    corner = (centre[0] - half, centre[1] - half)
    axes.add_patch(Rectangle(corner, 2 * half, 2 * half, facecolor="white", edgecolor=PALETTE[0], lw=0.8, zorder=3))
    axes.plot(centre[0] + 0.85 * half * t / 1.8, centre[1] + 1.5 * half * y, color=INK, lw=1.1, zorder=4)


def _scan(name: str) -> list[dict[str, Any]]:
    """Return the trials of a scan of top + dark matter."""
    return list(json.loads((RESULTS / "top_dm.json").read_text(encoding="utf-8"))["scans"][name]["trials"])


def _points(trials: list[dict[str, Any]], metric: str) -> tuple[np.ndarray, np.ndarray]:
    """Return mean and standard error over seeds."""
    seeds = [np.array(trial["seeds"][metric]) for trial in trials]
    return np.array([one.mean() for one in seeds]), np.array([one.std(ddof=1) / len(one) ** 0.5 for one in seeds])


def _curve(axes: Axes, x: np.ndarray, points: tuple[np.ndarray, np.ndarray], label: str, line: str, place: int) -> None:
    """Draw means with their errors."""
    axes.errorbar(x, *points, ls=line, marker="o", ms=4, color=PALETTE[place], label=label, capsize=2)


@styled(10.0)
def grid_scan() -> Figure:
    """Errors against the number of grid intervals, top + dark matter."""
    figure, (axes,) = _axes(6.4, 3.6)
    trials = _scan("grid, knots stay")
    grid = np.array([trial["values"]["model.grid"] for trial in trials])
    lines = (("train_loss", "training", "--", 0), ("validation_loss", "validation", "-", 0), ("mae", "test", "-.", 2))
    for metric, label, line, colour in lines:
        _curve(axes, grid, _points(trials, metric), label, line, colour)
    _curve(axes, grid, _points(_scan("grid"), "validation_loss"), "validation, knots follow the data", ":", 1)
    _log_axis(axes, grid, "intervals of every grid")
    axes.legend(loc="upper left")
    return figure


@styled(10.0)
def width_scan() -> Figure:
    """Validation error against the number of parameters, KAN and MLP, top + dark matter."""
    figure, (axes,) = _axes(6.4, 3.6)
    for name, label, line, colour in (("hidden", "KAN", "-", 0), ("hidden, MLP", "MLP", "--", 1)):
        trials = _scan(name)
        size = np.array([trial["parameters"] for trial in trials])
        points = _points(trials, "validation_loss")
        _curve(axes, size, points, label, line, colour)
        for x, y, trial in zip(size, points[0], trials, strict=True):
            nodes = str(trial["values"]["model.hidden"][0])
            axes.annotate(nodes, (x, y), (4, 5), textcoords="offset points", fontsize=8)
    axes.set_xscale("log")
    axes.margins(x=0.08)
    axes.set(xlabel="parameters (numbers at points: nodes of each of two hidden layers)", ylabel="validation MAE")
    axes.legend(loc="upper right")
    return figure


@styled(10.0)
def multijet_width() -> Figure:
    """Test AUC against the number of hidden nodes, multijet."""
    scans = json.loads((RESULTS / "multijet.json").read_text(encoding="utf-8"))["hidden"]
    figure, (axes,) = _axes(6.4, 3.2)
    for kind, line, colour in (("kan", "-", 0), ("mlp", "--", 1)):
        trials = scans[kind]["trials"]
        size = np.array([trial["parameters"] for trial in trials])
        _curve(axes, size, _points(trials, "auc"), kind.upper(), line, colour)
    axes.set_xscale("log")
    axes.yaxis.set_major_locator(round_ticks())
    axes.set(xlabel="parameters", ylabel="test AUC")
    axes.legend(loc="lower right")
    return figure


def _log_axis(axes: Axes, values: np.ndarray, label: str) -> None:
    """Put a logarithmic axis with ticks at the values themselves."""
    axes.set_xscale("log")
    axes.set_xticks(values, [str(value) for value in values])
    axes.minorticks_off()
    axes.yaxis.set_major_locator(round_ticks())
    axes.set(xlabel=label, ylabel="MAE (8 targets, standardised)")


PICTURES: dict[str, Callable[[], Figure]] = {
    one.__name__: one
    for one in (bsplines, edge, refinement, outside, diagram, networks, grid_scan, width_scan, multijet_width)
}


def digest(figure: Figure) -> str:
    """Return a digest of the numbers that lines show, the same for every version of matplotlib."""
    lines = [line.get_xydata() for axes in figure.axes for line in axes.lines]
    text = " ".join(f"{value:.4f}" for points in lines for value in np.asarray(points, dtype=float).ravel())
    return hashlib.sha256(text.replace("-0.0000", "0.0000").encode()).hexdigest()[:16]


def main(folder: Path = FOLDER) -> None:
    """Draw all pictures."""
    matplotlib.use("svg")
    folder.mkdir(parents=True, exist_ok=True)
    digests = {}
    for name, draw in PICTURES.items():
        figure = draw()
        digests[name] = digest(figure)
        write_text(folder / f"{name}.svg", svg(figure).decode())
    write_text(folder / DIGESTS, json.dumps(digests, indent=1) + "\n")


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:2]))
