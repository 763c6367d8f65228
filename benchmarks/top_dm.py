"""The numbers of the top + dark matter task: who reconstructs the invisible momenta better, and why not better still.

    python benchmarks/top_dm.py --data samples/top_dm-full.parquet --test samples/top_dm-judge5.parquet \\
        --scan-test samples/top_dm-test.parquet

1. `hepkan run top_dm` with the settings of the card (`tuning.py` and `teachers.py` chose them on validation events),
   five seeds, judged on a sample of its own that no choice has seen (models that are trained already are only judged);
   boosting and a conditional normalising flow, which take long, likewise with two seeds.
2. `hepkan scan`, of KANs with a spline of its own on every edge: over grid sizes with knots that follow the data or
   stay, without any regularisation, and with a penalty on curvature; over hidden sizes of the KAN and of the MLP. Of
   the tuned KAN, without teachers, over the number of events.
3. The floor: the smallest error that any model can reach, since the sum of the two invisible transverse momenta is all
   that is seen of them. From the mean over all networks and the flow, and from the learning curve; what a model has
   above it is its excess.

Writes results/top_dm.json and the marked parts of README.md and docs/. Everything is resumable: folders in runs/ and
scans/. With `--scans` only those named are done and the others kept as they are in the result file.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import ideas
import numpy as np
import pyarrow.parquet as pq
from scipy.optimize import curve_fit
from summary import ROOT, count, facts, insert, provenance, seconds, table, verdicts

from hepkan.files import write_text
from hepkan.report.words import title, with_error
from hepkan.studies.card import Card
from hepkan.studies.evidence import Test, difference, measure
from hepkan.studies.members import judge_again
from hepkan.studies.options import load_card
from hepkan.studies.run import plan, prepare, run
from hepkan.studies.scan import scan

RESULT = Path(__file__).parent / "results" / "top_dm.json"
RUN, SLOW_RUN = ROOT / "runs" / "top_dm-full", ROOT / "runs" / "top_dm-slow"
FAST, SLOW, SLOW_SEEDS = ["kan", "mlp", "linear", "met_split", "median"], ["bdt", "flow"], 2
FLOW = ["models.flow.epochs=12", "models.flow.learning_rate=0.002", "models.flow.samples=64"]
PLAIN = [f"models.kan={json.dumps(ideas.PLAIN)}"]
GRIDS = "model.grid=3,5,8,10,20,30,50"
STAY = [*PLAIN, "models.kan.grid_updates=0"]
BARE = [*STAY, "models.kan.weight_decay=0.0", "models.kan.average=0.0"]
SMOOTH = [*STAY, "models.kan.regularisers={curvature: 0.0001}"]
SCAN_ROWS = 20_000
UNTAUGHT = [f"models.kan.{change}" for change in ("teachers=0", "weight_decay=0.05", "epochs=25")]
SIZES = "rows=10000,20000,40000,80000,160000,320000"
LAYERS = "model.hidden=[5,5],[10,10],[20,20],[30,30],[50,50],[100,100]"
SCANS: dict[str, tuple[str, str, list[str], int]] = {
    "grid": ("kan", GRIDS, PLAIN, 3),
    "grid, knots stay": ("kan", GRIDS, STAY, 3),
    "grid, not regularised": ("kan", GRIDS, BARE, 3),
    "grid, smooth": ("kan", GRIDS, SMOOTH, 3),
    "hidden": ("kan", LAYERS, PLAIN, 3),
    "hidden, MLP": ("mlp", LAYERS, [], 3),
    "events": ("kan", SIZES, UNTAUGHT, 2),
}
"""Name: model, what varies, other settings, seeds."""


ALIKE = ("linear ensemble", "met_split ensemble", "median ensemble")
"""Means of models whose seeds hardly differ: not worth a line."""
_SCANNED = ("top_dm_grid", "top_dm_hidden", "top_dm_events", "top_dm_coverage")
PAGES = dict.fromkeys(_SCANNED, ROOT / "docs" / "notebook.md")
"""Where a part stands, README by default."""


def show(step: Any) -> None:
    """Print a line when a training ends."""
    if step.state == "done":
        print(step.member, step.text, flush=True)


def judge_finished(card: Card, folder: Path) -> None:
    """Let models that are trained already predict the events of this test sample, where another one was used before."""
    if (folder / "report.json").is_file():
        before = json.loads((folder / "report.json").read_text(encoding="utf-8"))["data"].get("test_sha256")
        for member in plan(card, prepare(card), folder):
            judge_again(member, before)


def predictions(report: Mapping[str, Any]) -> tuple[dict[str, list[Any]], Test]:
    """Return the predictions `(n, targets)` of every seed of every model, and the test events of both runs."""
    columns: dict[str, Any] = {}
    for folder in (SLOW_RUN, RUN):  # the same test events in the same order
        frame = pq.read_table(folder / "predictions.parquet")
        columns |= {name: frame[name].to_numpy(zero_copy_only=False) for name in frame.column_names}
    targets = tuple(one["name"] for one in report["targets"])
    scale = np.array([one["scale"] for one in report["targets"]])

    def together(name: str) -> Any:
        return np.column_stack([columns[f"{name}.{target}"] for target in targets]).astype(np.float64)

    scores = {
        kind: [together(f"{kind}-seed{k}") for k in range(5) if f"{kind}-seed{k}.{targets[0]}" in columns]
        for kind in (*FAST, *SLOW)
    }
    return scores, Test(together("target"), columns["weight"], columns["group"], targets, scale)


def floor(scores: Mapping[str, Sequence[Any]], test: Test, card: Card, scans: Mapping[str, Any]) -> dict[str, Any]:
    """Return estimates of the smallest mean absolute error that can be reached, in standard deviations.

    From above: the mean prediction of all seeds of KAN, MLP and flow, on the test events. By extrapolation: the limit
    a of a + b n^-c through the learning curve of the KAN without teachers, on the same test events.
    """

    def error(*kinds: str) -> float:
        every = [score for kind in kinds for score in scores[kind]]
        return measure([np.mean(every, axis=0)], test, card).value("mae")

    found: dict[str, Any] = {kind: error(kind) for kind in ("kan", "mlp", "flow")}
    found["all"] = error("kan", "mlp", "flow")
    events, errors = zip(*learning_curve(scans["events"]), strict=True)
    start, ends = (min(errors) - 0.005, 0.01, 0.5), ((0.0, 0.0, 0.1), (1.0, 1.0, 2.0))
    limit = curve_fit(lambda n, a, b, c: a + b * (n / 1e5) ** -c, events, errors, p0=start, bounds=ends)[0]
    return {**found, "limit of the learning curve": float(limit[0]), "power": float(limit[2])}


def source(content: Mapping[str, Any]) -> dict[str, Any]:
    """Return the part of a result that says where it comes from."""
    return {key: content[key] for key in ("date", "machine", "versions", "sample", "sha256")}


def kept_scan(name: str) -> dict[str, Any]:
    """Return a scan as the result file has it, with where it comes from."""
    before = json.loads(RESULT.read_text(encoding="utf-8"))
    return {**source(before), **before["scans"][name]}


def learning_curve(scan: Mapping[str, Any]) -> list[tuple[float, float]]:
    """Return number of events and test error of every trial."""
    return [(float(trial["values"]["rows"]), trial["results"]["mae"]["value"]) for trial in scan["trials"]]


def result_table(report: Mapping[str, Any]) -> str:
    """Return the result of the run as Markdown: the error over all targets, and of each in GeV."""
    targets = report["targets"]
    head = ["model", "MAE", *(f"{one['label']}" for one in targets), "parameters", "training"]
    lines = []
    for model in dict.fromkeys(row["model"] for row in report["rows"]):
        if model in ALIKE:
            continue
        rows = {row["metric"]: row for row in report["rows"] if row["model"] == model}
        cells = [f"{rows['mae_' + one['name']]['value']:.1f}" for one in targets]
        first = rows["mae"]
        cost = [count(first["parameters"]), seconds(first["train_seconds"])]
        lines.append([title(model), with_error(first["value"], first["error"]), *cells, *cost])
    return table(head, lines)


def scan_table(content: Mapping[str, Any], names: Sequence[str]) -> str:
    """Return training, validation and test error of scans as Markdown."""
    lines = []
    for name in names:
        for trial in content["scans"][name]["trials"]:
            value = next(iter(trial["values"].values()))
            text = " x ".join(map(str, value)) if isinstance(value, list) else str(value)
            seeds = trial["seeds"]
            cells = [with_error(*mean_error(seeds[key])) for key in ("train_loss", "validation_loss")]
            test = with_error(trial["results"]["mae"]["value"], trial["results"]["mae"]["error"])
            cost = [count(trial["parameters"]), seconds(trial["train_seconds"])]
            lines.append([name, text, *cells, test, *cost])
    return table(["scan", "value", "training MAE", "validation MAE", "test MAE", "parameters", "training"], lines)


def mean_error(values: Sequence[float]) -> tuple[float, float]:
    """Return the mean over seeds and its standard error."""
    numbers = np.array(values)
    return float(numbers.mean()), float(numbers.std(ddof=1) / np.sqrt(len(numbers))) if len(numbers) > 1 else 0.0


def excess(content: Mapping[str, Any]) -> dict[str, Any]:
    """Return what KAN and MLP have above the floor, for each estimate of the floor, and the ratio of both."""
    rows = {row["model"]: row["value"] for row in content["report"]["rows"] if row["metric"] == "mae"}
    found = {}
    for name in ("flow", "all", "limit of the learning curve"):
        above = {kind: rows[kind] - content["floor"][name] for kind in ("kan", "mlp")}
        found[name] = {"floor": content["floor"][name], **above, "ratio": above["kan"] / above["mlp"]}
    return found


def floor_table(content: Mapping[str, Any]) -> str:
    """Return the excess over each estimate of the floor as Markdown."""
    words = {"flow": "median of the flows", "all": "mean of all KANs, MLPs and flows"}
    lines = [
        [words.get(name, name), *(f"{one[key]:.4f}" for key in ("floor", "kan", "mlp")), f"{one['ratio']:.2f}"]
        for name, one in excess(content).items()
    ]
    return table(["floor", "MAE", "KAN above it", "MLP above it", "ratio"], lines)


def coverage_table(content: Mapping[str, Any]) -> str:
    """Return the coverage of the flow's central intervals, and its CRPS, as Markdown."""
    flow = content["conditional"]["flow"]
    lines = [
        [name, *map(with_error, one["coverage"], one["error"]), with_error(*one["crps"])]
        for name, one in flow["targets"].items()
    ]
    return table(["target", *(f"{100 * level:g} %" for level in flow["levels"]), "CRPS in GeV"], lines)


def parts(content: Mapping[str, Any]) -> dict[str, str]:
    """Return the text of each marked part of the pages."""
    report = content["report"]
    worth = [one for one in report["comparisons"] if one["reference"] not in ALIKE]
    verdict = verdicts({**report, "comparisons": worth}, content["main"], content["reference"])
    return {
        "top_dm": f"{result_table(report)}\n\n{verdict}\n\n{facts(report)}",
        "top_dm_floor": floor_table(content),
        "top_dm_grid": scan_table(content, [name for name in SCANS if name.startswith("grid")]),
        "top_dm_coverage": coverage_table(content),
        "top_dm_hidden": scan_table(content, ["hidden", "hidden, MLP"]),
        "top_dm_events": scan_table(content, ["events"]),
    }


def main() -> None:
    """Make everything."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--test", type=Path, required=True, help="a sample for the test part alone")
    parser.add_argument("--scan-test", type=Path, required=True, help="a sample for the test errors of scans")
    parser.add_argument("--scans", type=lambda text: text.split(","), default=list(SCANS), help="names of scans to do")
    parser.add_argument("--workers", type=int, default=2)
    arguments = parser.parse_args()
    common = {"resume": True, "workers": arguments.workers, "progress": show}
    files = {"data": arguments.data, "test": arguments.test}
    card = load_card("top_dm", **files, models=FAST)
    judge_finished(card, RUN)
    command = f"hepkan run top_dm --model {','.join(FAST)} --data {arguments.data} --test {arguments.test}"
    report = run(card, output=RUN, command=command, **common).report
    slow_card = load_card("top_dm", **files, models=SLOW, seeds=SLOW_SEEDS, overrides=FLOW)
    judge_finished(slow_card, SLOW_RUN)
    slow = run(slow_card, output=SLOW_RUN, command="", **common).report
    report["rows"] += [row for row in slow["rows"] if row["model"] in SLOW]
    scores, test = predictions(report)
    ours = measure(scores["kan"][:SLOW_SEEDS], test, card)  # the same seeds: the same partitions
    report["comparisons"] += [
        {"model": "kan", "reference": kind, "metric": "mae"}
        | difference(ours, measure(scores[kind], test, card), "mae")
        for kind in SLOW
    ]
    scans = {name: kept_scan(name) for name in SCANS if name not in arguments.scans}
    for name, (kind, values, changes, seeds) in SCANS.items():
        if name in scans:
            continue
        limited = changes if values == SIZES else [*changes, f"rows={SCAN_ROWS}"]
        seen = {**files, "test": arguments.test if values == SIZES else arguments.scan_test}
        varied = load_card("top_dm", **seen, models=[kind], seeds=seeds, overrides=limited)
        folder = ROOT / "scans" / f"top_dm-{name.replace(', ', '-').replace(' ', '_')}"
        done = scan(varied, [values], output=folder, **common).report
        found = {key: done[key] for key in ("trials", "vary", "comparisons")}
        scans[name] = {**source(provenance(prepare(varied))), **found}
    content = {
        **provenance(prepare(card)),
        "report": {key: value for key, value in report.items() if key not in ("roc", "features")},
        "main": card.main,
        "reference": card.reference,
        "scans": {name: scans[name] for name in SCANS},
        "floor": floor(scores, test, card, scans),
        "conditional": slow["conditional"],
    }
    content["excess"] = excess(content)
    write_text(RESULT, json.dumps(content, indent=1) + "\n")
    for name, text in parts(content).items():
        insert(text, name, PAGES.get(name, ROOT / "README.md"))


if __name__ == "__main__":
    main()
