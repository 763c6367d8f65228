"""What a page is made of: sections of pictures and tables, and those that every kind of study has."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from matplotlib.figure import Figure

from hepkan.report import edge_plots, edges, plots
from hepkan.report.edges import Data, Edges
from hepkan.report.reading import Feature, Run
from hepkan.report.style import svg
from hepkan.report.tables import Table
from hepkan.report.words import title

SHOWN_EDGES = 12
MOST_EDGES = 16


@dataclass(frozen=True)
class Plot:
    """One picture.

    Attributes:
        name: file name without its ending.
        svg: the picture.
        alt: what it shows, in words.
        width: its natural width in CSS pixels.
    """

    name: str
    svg: bytes
    alt: str
    width: int


@dataclass(frozen=True)
class Section:
    """Tables, a formula and pictures under one heading; the pictures of `more` are folded away at first."""

    anchor: str
    heading: str
    text: str
    plots: list[Plot]
    more: list[Plot] = field(default_factory=list)
    more_heading: str = ""
    tables: list[Table] = field(default_factory=list)
    markup: str = ""


def draw(name: str, figure: Figure, alt: str) -> Plot:
    """Draw a figure."""
    safe = "".join(letter if letter.isalnum() or letter in "-_" else "-" for letter in name)
    return Plot(safe, svg(figure), alt, round(96 * figure.get_figwidth()))


def folded(section: Section, shown: int) -> Section:
    """Fold away all but the first pictures."""
    if len(section.plots) <= shown + 2:
        return section
    rest = section.plots[shown:]
    heading = f"{len(rest)} more inputs"
    return Section(section.anchor, section.heading, section.text, section.plots[:shown], rest, heading)


def learned_by(run: Run, data: Data) -> dict[str, Edges]:
    """Return the first-layer functions of every KAN of a run."""
    learned = {}
    for model in run.models:
        networks = edges.load_kans(run.members.get(model, {}), len(run.features))
        if networks:
            learned[model] = edges.edges_of(networks, data)
    return learned


def edge_section(model: str, found: Edges, data: Data) -> Section:
    """First-layer functions of a network with hidden layers."""
    name = title(model)
    pictures = []
    for place in found.order[:MOST_EDGES]:
        feature = data.features[place].name
        share = f"{100 * found.importance[0, place].sum():.1f} % of the variation"
        alt = f"Functions that the first layer of the {name} applies to {feature} ({share})."
        pictures.append(draw(f"edges-{model}-{feature}", edge_plots.edge_panel(found, data, place), alt))
    below = f"{data.classes[1]} filled and {data.classes[0]} as a line. " if data.classes else "filled. "
    text = (
        "Every edge of the first layer is a function of one input. One panel per input, by importance; in "
        "each, every line is one edge to a node (first seed), the three strongest with their node and "
        f"share in the variation of the output. Below: the data, {below}"
        "Nodes of different seeds do not correspond, so there is no band "
        "over seeds here; the shares per input have one."
    )
    return folded(Section(f"edges-{model}", f"What the {name} learned: its first layer", text, pictures), SHOWN_EDGES)


def importance_section(learned: dict[str, Edges], features: tuple[Feature, ...]) -> Section:
    """Share of each input."""
    names = " and ".join(f"the {title(model)}" for model in learned)
    alt = f"Share of each input in the output of {names}."
    plot = draw("importance", edge_plots.importance(learned, features), alt)
    text = (
        "Share of each input in the variation of the output, handed back from the output to the inputs in "
        "proportion to the deviation of each edge over the data (arXiv:2408.10205). With several seeds: mean "
        "and standard deviation over them."
    )
    return Section("importance", "Which inputs matter", text, [plot])


def history_section(run: Run) -> Section:
    """Training curves of the models that have any."""
    pictures = []
    for model in dict.fromkeys(run.history["model"].tolist()):
        if len(np.unique(run.history["epoch"][run.history["model"] == model])) < 2 and run.targets:
            continue
        alt = f"Training and validation loss of the {title(model)}."
        pictures.append(draw(f"history-{model}", plots.history(run.history, model), alt))
    text = "Loss per epoch: median over seeds in a band from the least to the largest. The best epoch is kept."
    return Section("history", "Training", text, pictures)


def scored(run: Run) -> list[str]:
    """Return the models with scores of training and test events, in the order of the result table."""
    return [model for model in run.models if model in run.test and model in run.train]
