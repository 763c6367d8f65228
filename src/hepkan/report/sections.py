"""What a page is made of: sections of pictures and tables, and those that every kind of study has."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

import numpy as np
from matplotlib.figure import Figure

from hepkan.report import edge_plots, edges, plots
from hepkan.report.edges import Data, Edges
from hepkan.report.reading import Feature, Run
from hepkan.report.style import svg
from hepkan.report.tables import Table
from hepkan.report.words import title

MOST_EDGES = 12


@dataclass(frozen=True)
class Sketch:
    """One picture that is to be drawn.

    Attributes:
        name: file name without its ending.
        make: returns the figure; it goes to another process, so it is a function of a module with its arguments.
        alt: what it shows, in words.
        here: whether this process draws it, since another one would take seconds to import what it needs.
    """

    name: str
    make: Callable[[], Figure]
    alt: str
    here: bool = False


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


Picture = Sketch | Plot


@dataclass(frozen=True)
class Section:
    """Tables, a formula and pictures under one heading; the pictures of `more` are folded away at first."""

    anchor: str
    heading: str
    text: str
    plots: list[Picture]
    more: list[Picture] = field(default_factory=list)
    more_heading: str = ""
    tables: list[Table] = field(default_factory=list)
    markup: str = ""

    @property
    def drawn(self) -> list[Plot]:
        """All pictures that have been drawn."""
        return [one for one in (*self.plots, *self.more) if isinstance(one, Plot)]


def draw(name: str, make: Callable[[], Figure], alt: str, *, here: bool = False) -> Sketch:
    """Order a picture."""
    safe = "".join(letter if letter.isalnum() or letter in "-_" else "-" for letter in name)
    return Sketch(safe, make, alt, here)


def plot(name: str, figure: Figure, alt: str) -> Plot:
    """Draw a figure."""
    return Plot(name, svg(figure), alt, round(96 * figure.get_figwidth()))


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
    pictures: list[Picture] = []
    for place in found.order[:MOST_EDGES]:
        feature = data.features[place].name
        share = f"{100 * found.importance[0, place].sum():.1f} % of the variation"
        alt = f"Functions that the first layer of the {name} applies to {feature} ({share})."
        pictures.append(draw(f"edges-{model}-{feature}", partial(edge_plots.edge_panel, found, data, place), alt))
    below = f"{data.classes[1]} filled and {data.classes[0]} as a line. " if data.classes else "filled. "
    text = (
        "Every edge of the first layer is a function of one input. One panel for each of the inputs that matter most "
        f"(at most {MOST_EDGES}); in each, every line is one edge to a node (first seed), the three strongest with "
        f"their node and share in the variation of the output. Below: the data, {below}"
        "Nodes of different seeds do not correspond, so there is no band over seeds; the shares per input have one."
    )
    return Section(f"edges-{model}", f"What the {name} learned: its first layer", text, pictures)


def importance_section(learned: dict[str, Edges], features: tuple[Feature, ...]) -> Section:
    """Share of each input."""
    names = " and ".join(f"the {title(model)}" for model in learned)
    alt = f"Share of each input in the output of {names}."
    picture = draw("importance", partial(edge_plots.importance, learned, features), alt)
    text = (
        "Share of each input in the variation of the output, handed back from the output to the inputs in "
        "proportion to the deviation of each edge over the data (arXiv:2408.10205). With several seeds: mean "
        "and standard deviation over them."
    )
    return Section("importance", "Which inputs matter", text, [picture])


def history_section(run: Run) -> Section:
    """Training curves of the models that have any."""
    pictures: list[Picture] = []
    for model in dict.fromkeys(run.history["model"].tolist()):
        if len(np.unique(run.history["epoch"][run.history["model"] == model])) < 2 and run.targets:
            continue
        alt = f"Training and validation loss of the {title(model)}."
        pictures.append(draw(f"history-{model}", partial(plots.history, run.history, model), alt))
    text = "Loss per epoch: median over seeds in a band from the least to the largest. The best epoch is kept."
    return Section("history", "Training", text, pictures)


def scored(run: Run) -> list[str]:
    """Return the models with scores of training and test events, in the order of the result table."""
    return [model for model in run.models if model in run.test and model in run.train]
