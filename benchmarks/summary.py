"""What every result file says about where it comes from, and how results get into README."""

from __future__ import annotations

import datetime
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hepkan.files import write_text
from hepkan.physics.io import read_sample
from hepkan.report.words import count, difference, headline, rounded, seconds, title, verdict, with_error
from hepkan.studies.environment import cpu, versions
from hepkan.studies.members import Data

ROOT = Path(__file__).parent.parent
FIRST_NETWORK = ("dense compiled", "jaxkan", "MLP 3x500", "onnxruntime MLP 2x100")  # in the speed table
METRICS = ("auc", "rejection_50", "rejection_70", "rejection_90", "asimov_z")


def provenance(data: Data) -> dict[str, Any]:
    """Return date, machine, versions and the sample of a result."""
    recipe = read_sample(data.path, ["label"]).metadata
    sample = {name: recipe[name] for name in ("recipe_hash", "rows", "seed")}
    date = datetime.datetime.now(datetime.UTC).date().isoformat()
    return {"date": date, "machine": cpu(), "versions": versions(), "sample": sample, "sha256": data.sha256}


def result_table(report: Mapping[str, Any]) -> str:
    """Return the result of a run as Markdown: every model, every number with its error."""
    head = ["model", "AUC", *(f"rejection at {m[10:]} %" for m in METRICS[1:4]), "Asimov Z", "parameters", "training"]
    lines = []
    for model in dict.fromkeys(row["model"] for row in report["rows"]):
        rows = {row["metric"]: row for row in report["rows"] if row["model"] == model}
        first = rows["auc"]
        numbers = [with_error(rows[m]["value"], rows[m]["error"]) for m in METRICS]
        trained = first["seeds"] > 0
        cost = [count(first["parameters"]), seconds(first["train_seconds"])] if trained else ["", ""]
        lines.append([title(model), *numbers, *cost])
    return table(head, lines)


def main_metric(report: Mapping[str, Any]) -> str:
    """Return the measure that ranks the models of a run."""
    return "auc" if any(row["metric"] == "auc" for row in report["rows"]) else "mae"


def facts(report: Mapping[str, Any]) -> str:
    """Return one paragraph about the events, seeds and machine behind a run."""
    data, yields = report["data"], report["data"]["yields"]
    parts = [
        f"{one['process'].replace('_', ' ')} {count(one['rows'])} rows ({rounded(one['effective'])} effective)"
        for one in yields
    ]
    seeds = max(row["seeds"] for row in report["rows"])
    meanings = (
        "Rejection is 1 / background efficiency at a signal efficiency; Z is the largest Asimov significance at "
        f"{report['luminosity_fb']:g}/fb."
        if main_metric(report) == "auc"
        else "MAE: mean absolute error over the eight targets in units of their deviations; single targets in GeV."
    )
    apart = "of another sample " if data.get("test_source") else ""
    return (
        f"{'; '.join(parts)}; copies of one collision count as one effective event. "
        f"{count(data['n_train'])} events train, {count(data['n_validation'])} validate, "
        f"{count(data['n_test'])} {apart}test. Mean over {seeds} seeds; errors add seeds and a bootstrap of test "
        f"events by group. {meanings} {report['environment']['cpu']}, one thread per training, "
        f"{report['created'][:10]}."
    )


def verdicts(report: Mapping[str, Any], main: str, reference: str) -> str:
    """Return who wins, as a list of sentences: one training each, then the mean score of all seeds."""
    metric = main_metric(report)
    pairs = [item for item in report["comparisons"] if item["metric"] == metric and item["model"] == f"{main} ensemble"]
    words = (f"{verdict(one)} {metric.upper()} {difference(one)}." for one in pairs)
    lines = [*headline(report, main, reference), *words]
    return "\n".join(f"- {line}" for line in lines)


def speed_table(report: Mapping[str, Any], batch: int = 1024) -> str:
    """Return time of each peer over ours at one batch size, and memory kept for backward, as Markdown.

    Further networks than the first show only the peers that most people use.
    """
    rows = [row for row in report["rows"] if row["case"].endswith(f" batch {batch}")]
    ours = {row["case"]: row for row in rows if row["peer"] == "hepkan cpu"}
    usual = usual_peers({row["peer"] for row in rows})
    lines = []
    for one in rows:
        shown = FIRST_NETWORK if one["case"] == rows[0]["case"] else ()
        if one["peer"] in (*usual, *shown):
            ratios = [times(one.get(key)) for key in ("train_ratio", "infer_ratio")]
            kept, own = (r["saved_bytes_per_event"] for r in (one, ours[one["case"]]))
            lines.append([one["case"].rpartition(" batch ")[0], one["peer"], *ratios, times(kept and kept / own)])
    return table(["network", "against", "training step", "inference", "memory for backward"], lines)


def usual_peers(names: set[str]) -> tuple[str, ...]:
    """Return the peers of every network: efficient-kan, or in its absence the same algorithm written here."""
    return ("MLP 2x100", "efficient-kan" if "efficient-kan" in names else "dense", "pykan fast")


def times(ratio: float | None) -> str:
    """Return a ratio in words, nothing when it was not measured."""
    return "" if ratio is None else f"{ratio:.1f} x"


def insert(text: str, name: str, path: Path = ROOT / "README.md") -> None:
    """Put text between the markers `<!-- name -->` and `<!-- /name -->` of a page."""
    page = path.read_text(encoding="utf-8")
    pattern = re.compile(rf"(<!-- {name} -->\n).*?(<!-- /{name} -->)", re.DOTALL)
    if not pattern.search(page):
        raise SystemExit(f"{path} needs the markers <!-- {name} --> and <!-- /{name} -->.")
    write_text(path, pattern.sub(lambda found: f"{found[1]}{text}\n{found[2]}", page))


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a Markdown table."""
    return "\n".join(f"| {' | '.join(line)} |" for line in (head, ["---"] * len(head), *rows))
