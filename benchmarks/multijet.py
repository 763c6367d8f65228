"""The numbers of README's multijet table: five seeds of every model on the full sample, and what moves them.

    python benchmarks/multijet.py --data samples/multijet-full.parquet --test samples/multijet-test.parquet
                                  [--jets samples/jet-electron.parquet]

1. `hepkan run multijet` with the tuned settings of the card (`tuning.py` chose them on validation events), judged on a
   sample of its own that no choice has seen.
2. `hepkan scan` over hidden sizes of the KAN and of the MLP, three seeds each.
3. The same trained models judged on other compositions of both classes.

Writes results/multijet.json and the marked parts of README.md. Everything is resumable: folders in runs/ and scans/.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from summary import ROOT, facts, insert, provenance, result_table, table, verdicts

from hepkan.baselines import load_model
from hepkan.files import write_text
from hepkan.metrics import evaluate
from hepkan.report.words import title, with_error
from hepkan.studies.members import split
from hepkan.studies.options import load_card
from hepkan.studies.run import prepare, run
from hepkan.studies.scan import scan
from hepkan.tasks import get_task

RESULT = Path(__file__).parent / "results" / "multijet.json"
RUN = ROOT / "runs" / "multijet-full"
SIZES = {
    "kan": "model.hidden=5,10,20,30,50,100",
    "mlp": "model.hidden=[5,5],[10,10],[20,20],[30,30],[50,50],[100,100]",
}
SCAN_SEEDS = 3
JUDGED = ("kan", "gam", "mlp", "bdt")


def show(step: Any) -> None:
    """Print a line when a training ends."""
    if step.state == "done":
        print(step.member, step.text, flush=True)


def compositions(data_path: Path, test_path: Path, jets: Path | None) -> dict[str, dict[str, tuple[float, float]]]:
    """Return the AUC of the trained models on test events of other compositions, without training anew."""
    frame = pq.read_table(RUN / "predictions.parquet")
    columns = {name: frame[name].to_numpy(zero_copy_only=False) for name in frame.column_names}
    process, weight = columns["process"], columns["weight"]
    published = get_task("multijet").table(path=data_path, mix={})
    true_pb = {name: published.weight[published.extra["process"] == name].sum() for name in np.unique(process)}
    yields = np.ones(len(weight))
    for name, value in true_pb.items():
        yields[process == name] = value / weight[process == name].sum()
    only_top = np.where(np.isin(process, ["single_top_tchannel", "multijet"]), 1.0, 0.0)
    factors = {"the task's mix": np.ones(len(weight)), "published cross-sections": yields, "only single top": only_top}
    found: dict[str, dict[str, tuple[float, float]]] = {name: {} for name in factors}
    for kind in JUDGED:
        for name, factor in factors.items():
            kept = factor > 0
            values = [
                evaluate(columns["target"][kept], columns[f"{kind}-seed{k}"][kept], (weight * factor)[kept],
                         columns["group"][kept])["auc"]
                for k in range(seeds_of(frame.column_names, kind))
            ]  # fmt: skip
            found[name][kind] = mean(values)
    if jets is not None:
        found["jet electrons as multijet"] = jet_electrons(columns, data_path, test_path, jets)
    return found


def jet_electrons(
    columns: Mapping[str, Any], data_path: Path, test_path: Path, jets: Path
) -> dict[str, tuple[float, float]]:
    """Return the AUC of prompt test events against jets that play electrons, which no model has seen."""
    data = prepare(load_card("multijet", data=data_path, test=test_path))
    test = split(data, 0)[2]
    prompt = columns["target"] == 1
    background = pq.read_table(jets)
    X = np.column_stack([background[name].to_numpy() for name in test.names])
    assert np.array_equal(test.id, columns["id"])
    y = np.append(np.ones(prompt.sum()), np.zeros(len(X))).astype(int)
    w = np.append(columns["weight"][prompt], background["weight"].to_numpy())
    group = np.append(columns["group"][prompt], background["group"].to_numpy())
    found = {}
    for kind in JUDGED:
        values = []
        for k in range(seeds_of(columns, kind)):
            score = load_model(RUN / "members" / f"{kind}-seed{k}").predict(X)
            values.append(evaluate(y, np.append(columns[f"{kind}-seed{k}"][prompt], score), w, group)["auc"])
        found[kind] = mean(values)
    return found


def seeds_of(names: Any, kind: str) -> int:
    """Return the number of seeds of a model among columns."""
    return sum(name.startswith(f"{kind}-seed") for name in names)


def mean(values: list[tuple[float, float]]) -> tuple[float, float]:
    """Return the mean over seeds and its error: seeds and test events."""
    numbers = np.array([value for value, _ in values])
    seeds = numbers.std(ddof=1) / np.sqrt(len(numbers)) if len(numbers) > 1 else 0.0
    return float(numbers.mean()), float(np.hypot(seeds, np.mean([error for _, error in values])))


def readme_parts(content: Mapping[str, Any]) -> dict[str, str]:
    """Return the text of each marked part of README from the content of the result file."""
    report = content["report"]
    verdict = verdicts(report, content["main"], content["reference"])
    rows = [
        [name, *(with_error(*values[kind]) for kind in JUDGED)] for name, values in content["compositions"].items()
    ]
    return {
        "results": f"{result_table(report)}\n\n{verdict}\n\n{facts(report)}",
        "compositions": table(["test events", *map(title, JUDGED)], rows),
        "hidden": size_table(content["hidden"]),
    }


def size_table(scans: Mapping[str, Mapping[str, Any]]) -> str:
    """Return validation loss and AUC of both networks against hidden size as Markdown."""
    rows = []
    for kind, report in scans.items():
        for trial in report["trials"]:
            mine = {row["metric"]: row for row in report["rows"] if row["settings"] == trial["settings"]}
            hidden = trial["values"]["model.hidden"]
            size = " x ".join(map(str, hidden)) if isinstance(hidden, list) else str(hidden)
            cells = [with_error(mine[m]["value"], mine[m]["error"]) for m in ("validation_loss", "auc")]
            rows.append([title(kind), size, *cells, str(trial["parameters"])])
    return table(["network", "hidden nodes", "validation loss", "test AUC", "parameters"], rows)


def main() -> None:
    """Make everything."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--test", type=Path, required=True, help="a sample for the test part alone")
    parser.add_argument("--jets", type=Path, help="a sample made by `hepkan generate multijet --rows jet_electron=N`")
    parser.add_argument("--workers", type=int, default=2)
    arguments = parser.parse_args()
    common = {"resume": True, "workers": arguments.workers, "progress": show}
    files = {"data": arguments.data, "test": arguments.test}
    card = load_card("multijet", **files)
    command = f"hepkan run multijet --data {arguments.data} --test {arguments.test} -o {RUN.relative_to(ROOT)}"
    report = run(card, output=RUN, command=command, **common).report
    scans = {}
    for kind, values in SIZES.items():
        varied = load_card("multijet", **files, models=[kind], seeds=SCAN_SEEDS)
        scans[kind] = scan(varied, [values], output=ROOT / "scans" / f"multijet-{kind}-hidden", **common).report
    other = compositions(arguments.data, arguments.test, arguments.jets)
    content = {
        **provenance(prepare(card)),
        "report": {key: value for key, value in report.items() if key not in ("roc", "features")},
        "main": card.main,
        "reference": card.reference,
        "hidden": {kind: {key: one[key] for key in ("trials", "rows")} for kind, one in scans.items()},
        "compositions": other,
    }
    write_text(RESULT, json.dumps(content, indent=1) + "\n")
    for name, text in readme_parts(content).items():
        insert(text, name)


if __name__ == "__main__":
    main()
