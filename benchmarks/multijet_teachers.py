"""What a KAN and an MLP learn from the same teachers on the multijet task.

    python benchmarks/multijet_teachers.py --judge --data samples/multijet-full.parquet \\
        --test samples/multijet-judge.parquet samples/multijet-formula.parquet

For every seed four KANs and four MLPs are trained with the settings of the card. Their mean probabilities are what a
KAN and an MLP of the same shapes then learn (`hepkan.distil`), for many epochs and with little decay, because targets
without scatter are hardly overfitted (`STUDENT`, chosen on validation events of seed 0 among the settings of `TRIED`).
Test events are looked at once, at the end; the mean over test samples is taken, which are independent.

Writes results/multijet_teachers.json and its tables in docs/notebook.md; trained networks are kept in
runs/multijet-teachers.
"""

from __future__ import annotations

import argparse
import itertools
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from pruning import arrays, mean, validation_auc
from summary import ROOT, count, insert, provenance, table

import hepkan
from hepkan.baselines import train_model
from hepkan.files import write_text
from hepkan.metrics import compare, evaluate
from hepkan.model_io import read_metadata
from hepkan.nn import Network
from hepkan.report.words import seconds, title, with_error
from hepkan.studies.members import split
from hepkan.studies.options import load_card
from hepkan.studies.record import full_weight
from hepkan.studies.run import prepare

RESULT = Path(__file__).parent / "results" / "multijet_teachers.json"
KEPT = ROOT / "runs" / "multijet-teachers"
SEEDS, OF_EACH = 5, 4
KINDS = ("kan", "mlp")
FREELY = {"batch": 1024, "average": 0.999, "learning_rate": 0.008, "weight_decay": 0.03}
STUDENT: dict[str, dict[str, Any]] = {
    "kan": {**FREELY, "epochs": 60, "patience": 60},
    "mlp": {**FREELY, "epochs": 120, "patience": 120},
}
TRIED: dict[str, list[dict[str, Any]]] = {
    "kan": [{}, {"epochs": 120}, {"learning_rate": 0.016}, {"weight_decay": 0.003}],
    "mlp": [
        {},
        {"epochs": 60},
        {"epochs": 240},
        {"epochs": 60, "learning_rate": 0.003},
        {"epochs": 60, "learning_rate": 0.016},
        {"epochs": 60, "batch": 256, "learning_rate": 0.004},
        {"weight_decay": 0.001},
    ],
}
"""What differed from `STUDENT` in the trials."""
PAIRS = (
    ("kan", "mlp"),
    ("kan taught", "mlp"),
    ("kan taught", "mlp taught"),
    ("kan taught", "kan"),
    ("mlp taught", "mlp"),
    ("kan taught", "teachers"),
)
WORDS = {
    **{kind: f"{title(kind)} as tuned" for kind in KINDS},
    **{f"{kind} taught": f"{title(kind)}, taught" for kind in KINDS},
    "teachers": f"mean of the {2 * OF_EACH} teachers",
}


class Trained(NamedTuple):
    """A network and the seconds of its training."""

    network: Network
    seconds: float


class Trainer:
    """Trains the networks of one seed; what is kept with the same settings is not trained again."""

    def __init__(self, data: Any, models: Mapping[str, Any], seed: int) -> None:
        self.train, self.validation, _ = split(data, seed)
        self.models, self.seed = models, seed

    def teachers(self) -> dict[str, list[Trained]]:
        """Return networks as tuned, of each kind."""
        numbers = range(self.seed * OF_EACH, (self.seed + 1) * OF_EACH)
        return {kind: [self._teacher(kind, number) for number in numbers] for kind in KINDS}

    def student(self, kind: str, teachers: Mapping[str, list[Trained]], change: Mapping[str, Any]) -> Trained:
        """Return a network that has learned the mean of all teachers."""
        settings = {**STUDENT[kind], **change}
        settings["patience"] = settings["epochs"]

        def learn() -> Trained:
            network = self._fresh(kind)
            every = [one.network for some in teachers.values() for one in some]
            result = hepkan.distil(network, every, self.train, self.validation, **settings, seed=self.seed)
            return Trained(network, result.seconds)

        name = "-".join(["taught", *(f"{key}-{value}" for key, value in change.items())])
        return self._kept(f"{kind}-{name}", settings, learn)

    def auc(self, one: Trained) -> float:
        """Return the AUC on validation events."""
        return validation_auc(one.network, arrays(self.validation))

    def _teacher(self, kind: str, number: int) -> Trained:
        settings = dict(self.models[kind])

        def learn() -> Trained:
            member = train_model(kind, self.train, self.validation, settings, seed=number)
            return Trained(member.predictor, member.seconds)

        return self._kept(f"{kind}-{number}", settings, learn)

    def _fresh(self, kind: str) -> Network:
        own, inputs = self.models[kind], len(self.train.names)
        if kind == "kan":
            return hepkan.KAN([inputs, *own["hidden"], 1], grid=own["grid"], seed=self.seed)
        return hepkan.MLP([inputs, 100, 100, 1], activation=own["activation"], seed=self.seed)

    def _kept(self, name: str, settings: Mapping[str, Any], learn: Callable[[], Trained]) -> Trained:
        path = KEPT / f"seed{self.seed}-{name}.hepkan"
        if not path.is_file() or read_metadata(path)["extra"].get("settings") != dict(settings):
            path.parent.mkdir(parents=True, exist_ok=True)
            found = learn()
            hepkan.save(found.network, path, {"settings": dict(settings), "seconds": found.seconds})
        return Trained(hepkan.load(path), read_metadata(path)["extra"]["seconds"])


def networks_of(trainer: Trainer) -> dict[str, list[Trained]]:
    """Return the networks that are compared: as tuned, which are the teachers, and taught."""
    teachers = trainer.teachers()
    return {**teachers, **{f"{kind} taught": [trainer.student(kind, teachers, {})] for kind in KINDS}}


def judged(data: Any, seed: int, found: Mapping[str, list[Trained]]) -> dict[str, Any]:
    """Return the AUC of the networks of a seed, and of the pairs the differences, on one test sample.

    Of several alike the mean is taken; their errors are of the same test events and do not shrink.
    """
    _, _, test = split(data, seed)
    weight = full_weight(data, test)
    scores = {name: [one.network.predict(test.X).reshape(-1) for one in some] for name, some in found.items()}
    scores["teachers"] = [np.mean([score for kind in KINDS for score in scores[kind]], axis=0)]
    auc = {name: [evaluate(test.y, one, weight, test.group)["auc"] for one in some] for name, some in scores.items()}
    gaps = {
        f"{a} - {b}": [
            compare(test.y, one, other, weight, test.group)["auc"] for one, other in pairs(scores[a], scores[b])
        ]
        for a, b in PAIRS
    }
    averages = {name: alike(values) for name, values in auc.items()}
    return {"auc": averages, "differences": {name: alike(values) for name, values in gaps.items()}}


def pairs(first: list[Any], second: list[Any]) -> list[tuple[Any, Any]]:
    """Return pairs of two lists; one alone goes with all of the other."""
    number = max(len(first), len(second))
    return list(zip(itertools.islice(itertools.cycle(first), number), itertools.cycle(second), strict=False))


def alike(values: list[tuple[float, float]]) -> tuple[float, float]:
    """Return the mean of values and of their errors."""
    return tuple(np.mean(values, axis=0).tolist())  # type: ignore[return-value]


def pooled(samples: list[tuple[float, float]]) -> tuple[float, float]:
    """Return the mean over independent samples and its error."""
    values, errors = np.array(samples).T
    return float(values.mean()), float(np.sqrt(np.square(errors).sum()) / len(errors))


def lines(content: Mapping[str, Any]) -> str:
    """Return the tables of the notebook."""
    rows = [
        [WORDS[name], count(one["parameters"]), with_error(*one["auc"]), seconds(one["seconds"])]
        for name, one in content["networks"].items()
    ]
    first = [
        table(["network", "parameters", "test AUC", "training"], rows),
        "",
        f"{count(content['test_events'])} test events of {len(content['tests'])} samples, {len(content['seeds'])} "
        "seeds; errors add seeds and a bootstrap of test events. The time of a student is without its teachers.",
        "",
    ]
    gaps = [
        [" - ".join(WORDS[one] for one in name.split(" - ")), with_error(value, error), f"{value / error:+.1f}"]
        for name, (value, error) in content["differences"].items()
    ]
    tried = [
        [title(kind), ", ".join(f"{key} {value}" for key, value in change.items()) or "as chosen", f"{auc:.5f}"]
        for kind in KINDS
        for change, auc in content["tried"][kind]
    ]
    return "\n".join(
        [
            *first,
            table(["difference of the AUC", "value", "standard errors"], gaps),
            "",
            "Settings of students that were tried, one seed, AUC on validation events:",
            "",
            table(["network", "change", "validation AUC"], tried),
            "",
        ]
    )


def options(description: str | None) -> argparse.Namespace:
    """Return what the command line asks for."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--test", type=Path, nargs="+", required=True, help="samples for the test part alone")
    parser.add_argument("--seeds", type=int, nargs="*", default=list(range(SEEDS)), help="do these only")
    parser.add_argument("--judge", action="store_true", help="look at the test events when all are trained")
    return parser.parse_args()


def main() -> None:
    """Make everything."""
    arguments = options(__doc__)
    torch.set_num_threads(1)
    cards = [load_card("multijet", data=arguments.data, test=test) for test in arguments.test]
    samples, models = [prepare(card) for card in cards], cards[0].models
    trainers = [Trainer(samples[0], models, seed) for seed in arguments.seeds]
    every = []
    for trainer in trainers:
        every.append(networks_of(trainer))
        seen = {name: np.mean([trainer.auc(one) for one in some]) for name, some in every[-1].items()}
        print(trainer.seed, {name: f"{auc:.5f}" for name, auc in seen.items()}, flush=True)
    if not arguments.judge:
        return
    teachers = trainers[0].teachers()
    tried = {
        kind: [(change, trainers[0].auc(trainers[0].student(kind, teachers, change))) for change in TRIED[kind]]
        for kind in KINDS
    }
    seeds = []
    for trainer, found in zip(trainers, every, strict=True):
        parts = [judged(data, trainer.seed, found) for data in samples]
        both = {key: {name: pooled([part[key][name] for part in parts]) for name in parts[0][key]} for key in parts[0]}
        seeds.append({"seed": trainer.seed, **both})
    sizes = {name: some[0].network.n_parameters for name, some in every[0].items()}
    times = {name: float(np.mean([one.seconds for found in every for one in found[name]])) for name in every[0]}
    for one in (sizes, times):
        one["teachers"] = OF_EACH * sum(one[kind] for kind in KINDS)
    networks = {
        name: {"parameters": sizes[name], "auc": mean([seed["auc"][name] for seed in seeds]), "seconds": times[name]}
        for name in WORDS
    }
    content = {
        **provenance(samples[0]),
        "tests": [test.name for test in arguments.test],
        "test_events": sum(len(split(data, 0)[2]) for data in samples),
        "of_each": OF_EACH,
        "student": STUDENT,
        "tried": tried,
        "networks": networks,
        "differences": {gap: mean([seed["differences"][gap] for seed in seeds]) for gap in seeds[0]["differences"]},
        "seeds": seeds,
    }
    write_text(RESULT, json.dumps(content, indent=1) + "\n")
    content = json.loads(json.dumps(content))
    insert(lines(content), "multijet_teachers", ROOT / "docs" / "notebook.md")
    insert(verdict(content), "taught")


def verdict(content: Mapping[str, Any]) -> str:
    """Return what README says."""
    auc = {name: with_error(*one["auc"]) for name, one in content["networks"].items()}

    def gap(name: str) -> str:
        value, error = content["differences"][name]
        return f"{value:+.5f} ± {error:.5f} ({value / error:.1f} standard errors)"

    each = content["of_each"]
    return (
        f"Taught by the same {2 * each} networks ({each} KANs and {each} MLPs as above), the KAN reaches an AUC of "
        f"{auc['kan taught']} and the MLP {auc['mlp taught']} on {count(content['test_events'])} other test events: "
        f"difference {gap('kan taught - mlp taught')}; to the MLP as above it is {gap('kan taught - mlp')}."
    )


if __name__ == "__main__":
    main()
