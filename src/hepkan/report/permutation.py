"""How much worse a model gets when one input is shuffled among the events.

References:
    "Random Forests" (Breiman, 2001), Machine Learning 45, 5.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from matplotlib.figure import Figure

from hepkan.errors import DataError, MissingExtra
from hepkan.metrics import auc
from hepkan.report.reading import Feature, Run
from hepkan.report.sections import Section, draw
from hepkan.report.statistics import Floats, Values
from hepkan.report.style import axis_label, colour, styled
from hepkan.report.words import title

if TYPE_CHECKING:
    from hepkan.trained import Predictor

EVENTS, REPEATS, MOST = 3000, 3, 20


class Loss(NamedTuple):
    """Loss of AUC by shuffling each input: mean and deviation over repetitions, `(features,)` each."""

    mean: Floats
    deviation: Floats


def permutation_section(run: Run) -> Section | None:
    """Return the loss of the main and the reference model; None where neither is stored in a form to be read."""
    found = {model: loss for model in dict.fromkeys((run.main, run.reference)) if (loss := losses(run, model))}
    if not found:
        return None
    names = " and ".join(f"the {title(model)}" for model in found)
    alt = f"Loss of AUC of {names} when an input is shuffled."
    text = (
        f"Loss of AUC of {names} (seed 0) when the values of one input are shuffled among {EVENTS} test events; mean "
        f"and deviation of {REPEATS} repetitions. An input whose information others have as well loses little."
    )
    figure = partial(drawn, found, run.features)
    return Section("permutation", "What a missing input costs", text, [draw("permutation", figure, alt)])


def losses(run: Run, model: str) -> Loss | None:
    """Return the loss of AUC of a model's first seed by input; None where the model is not stored."""
    from hepkan.trained import load_model

    folder = run.folder / "members" / f"{model}-seed0"
    if not folder.is_dir():
        return None
    try:
        predictor = load_model(folder).predictor
    except (DataError, MissingExtra):  # the page does without what was not kept, or cannot be read here
        return None
    target, weight = run.inputs["target"][:EVENTS], run.inputs["weight"][:EVENTS]
    X = np.column_stack([run.inputs[one.name][:EVENTS] for one in run.features]).astype(np.float32)
    if not all(_measurable(target, weight, label) for label in np.unique(target)):
        return None
    predictor, X = _behind_map(predictor, X)
    whole = measure(predictor, X, target, weight)
    generator = np.random.default_rng(0)
    lost = np.empty((REPEATS, X.shape[1]))
    for repeat in range(REPEATS):
        order = generator.permutation(len(X))
        for i in range(X.shape[1]):
            shuffled = X.copy()
            shuffled[:, i] = X[order, i]
            lost[repeat, i] = whole - measure(predictor, shuffled, target, weight)
    return Loss(lost.mean(axis=0), lost.std(axis=0, ddof=1))


def _behind_map(predictor: Predictor, X: Values) -> tuple[Predictor, Values]:
    """Return a network of coordinates with the coordinates of X, which need not be found for every shuffle then."""
    import torch

    from hepkan.nn import Network
    from hepkan.nn.transforms import INPUT_MAPS

    if not isinstance(predictor, Network) or predictor.columns is not None or predictor.head is not None:
        return predictor, X
    with torch.no_grad():
        coordinates = predictor.coordinates(torch.as_tensor(X)).numpy()
    body = copy.deepcopy(predictor)
    body.input_map = INPUT_MAPS["none"](X.shape[1])
    return body, coordinates


def _measurable(target: Values, weight: Values, label: int) -> bool:
    """Return whether a class and the others have weight."""
    mine = target == label
    return bool(weight[mine].sum() > 0.0 and weight[~mine].sum() > 0.0)


def measure(predictor: Predictor, X: Values, target: Values, weight: Values) -> float:
    """Return the AUC; of several classes the mean of one against the rest."""
    score = np.asarray(predictor.predict(X))
    if score.ndim == 1:
        return auc(target, score, weight)
    return float(np.mean([auc((target == k).astype(int), score[:, k], weight) for k in np.unique(target)]))


@styled()
def drawn(found: Mapping[str, Loss], inputs: Sequence[Feature]) -> Figure:
    """Loss of AUC by input, the most important ones on top."""
    mean = np.mean([loss.mean for loss in found.values()], axis=0)
    order = np.argsort(-mean, kind="stable")[:MOST]
    features = [inputs[i] for i in order]
    labels = [axis_label(one.label, "", one.name) for one in features]
    figure = Figure(figsize=(6.0, 0.9 + 0.27 * len(order)))
    left = min(0.46, 0.06 + 0.014 * max(len(label) for label in labels))
    axes = figure.add_axes((left, 0.62 / figure.get_figheight(), 0.96 - left, 1 - 0.72 / figure.get_figheight()))
    for place, (model, loss) in enumerate(found.items()):
        rows = np.arange(len(order)) + 0.22 * (place - 0.5 * (len(found) - 1))
        form: dict[str, Any] = {"fmt": "osD^v"[place % 5], "color": colour(model, place), "label": title(model)}
        axes.errorbar(loss.mean[order], rows, xerr=loss.deviation[order], **form)
    axes.set_yticks(range(len(order)), labels)
    axes.tick_params(axis="y", which="both", length=0)
    axes.minorticks_off()
    axes.set(ylim=(len(order) - 0.5, -0.5), xlabel="loss of AUC")
    axes.grid(axis="y", color="#e4e6ea", linewidth=0.8)
    axes.legend(loc="lower right")
    return figure
