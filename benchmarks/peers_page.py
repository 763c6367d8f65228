"""The report of `peers.py` as a page of tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from players import OURS
from summary import table

Row = Mapping[str, Any]


def page(report: Row) -> str:
    """Return the report as Markdown."""
    facts = report["environment"]
    threads = facts["threads"]
    parts = [f"# Peers, {facts['date'][:10]}, {threads} {'thread' if threads == 1 else 'threads'}", preface(report)]
    if report["targets"]:
        parts += ["## Targets", target_table(report["targets"])]
    parts += ["## Training step", train_table(report["rows"], threads > 1)]
    parts += ["## Inference", infer_table(report["rows"], threads > 1)]
    parts += ["## Our network against itself", *variants(report)]
    if report["not_run"] or report["skipped"]:
        parts += ["## Not run", *left_out(report)]
    return "\n\n".join(parts) + "\n"


def preface(report: Row) -> str:
    """Return machine, versions and how to read the numbers."""
    facts = report["environment"]
    versions = ", ".join(f"{name} {version}" for name, version in facts["versions"].items())
    lines = [
        f"{facts['machine']}, {facts['cores']} cores, load {facts['load']:.1f} at the start, kernel "
        f"`{facts['instruction_set']}`, {facts['rounds']} interleaved rounds, CPU time; {versions}.",
        "",
        f"Ratios are time of the peer / time of `{OURS}` (above 1: we are faster), median [least, most] over rounds.",
        "Every torch network trains with Adam, `fused=True`. `dense` is the algorithm of efficient-kan, written here.",
        "`system` is the share of system time (page faults) in a training step, `saved` what is kept for backward,",
        "`peak` how far resident memory rises in a training step, `first step` includes compilation.",
    ]
    if facts["threads"] > 1:
        lines.append("CPU time adds up all threads; `by the clock` is the ratio of elapsed times.")
    return "\n".join(lines)


def target_table(targets: Sequence[Row]) -> str:
    """Return what was wanted and what was measured."""
    words = {True: "met", False: "**not met**", None: "not measured"}
    lines = [
        [t["target"], t["wanted"], "" if t["measured"] is None else f"{t['measured']:.2f}", words[t["met"]]]
        for t in targets
    ]
    return table(["target", "wanted", "measured", ""], lines)


def train_table(rows: Sequence[Row], clock: bool) -> str:
    """Return time and memory of the training steps."""
    head = ["case", "peer", "ms", "ratio", *(["by the clock"] if clock else []), "system"]
    lines = []
    for r in rows:
        if "train_ms" not in r:
            continue
        line = [r["case"], r["peer"], f"{r['train_ms']:.2f}", spread(r, "train")]
        line += [f"{r['train_wall_ratio']:.2f}"] if clock else []
        line += [f"{r['train_system_share']:.0%}", number(r["saved_bytes_per_event"], 1.0, ".0f")]
        lines.append([*line, number(r["peak_bytes"], 1e6, ".1f"), f"{r['first_call_seconds']:.2f}"])
    return table([*head, "saved B/event", "peak MB", "first step s"], lines)


def infer_table(rows: Sequence[Row], clock: bool) -> str:
    """Return the times of inference."""
    head = ["case", "peer", "ms", "ratio", *(["by the clock"] if clock else []), "system"]
    lines = []
    for r in rows:
        line = [r["case"], r["peer"], f"{r['infer_ms']:.3f}", spread(r, "infer")]
        line += [f"{r['infer_wall_ratio']:.2f}"] if clock else []
        lines.append([*line, f"{r['infer_system_share']:.0%}"])
    return table(head, lines)


def variants(report: Row) -> list[str]:
    """Return the tables of finer grids, degrees and knots, and threads."""
    head = ["train ms", "train ratio", "inference ms", "inference ratio"]
    parts = []
    if report["finer_grids"]:
        parts.append(f"Ratios to {report['finer_grids'][0]['against']}, below 1 is faster:")
        parts.append(table(["grid", *head], [[f"G={r['grid']}", *times(r)] for r in report["finer_grids"]]))
    if report["adaptive"]:
        parts.append("Ratios to the cubic network with even knots, below 1 is faster:")
        lines = [[r["case"], f"{r['degree']}", r["knots"], *times(r)] for r in report["adaptive"]]
        parts.append(table(["case", "degree", "knots", *head], lines))
    if report["second_thread"]:
        parts.append(
            "Two threads against one, by the clock, median [least, most]; above 1 is faster. `CPU time` is that of two "
            "threads over that of one, `waiting` time by the clock over CPU time with one thread: 1 on an idle machine."
        )
        lines = [
            [r["case"], spread(r, "train", "speedup"), f"{r['train_cpu_ratio']:.2f}", f"{r['train_wait_ratio']:.2f}"]
            + [spread(r, "infer", "speedup")]
            for r in report["second_thread"]
        ]
        parts.append(table(["case", "training step", "CPU time", "waiting", "inference"], lines))
    return parts


def times(r: Row) -> list[str]:
    """Return times and ratios of training step and inference."""
    return [f"{r['train_ms']:.2f}", spread(r, "train"), f"{r['infer_ms']:.3f}", spread(r, "infer")]


def left_out(report: Row) -> list[str]:
    """Return which peers were left out, in all cases or in some, and why."""
    everywhere = [f"- {r['peer']}: {r['reason']}." for r in report["not_run"]]
    cases: dict[tuple[str, str], list[str]] = {}
    for r in report["skipped"]:
        cases.setdefault((r["peer"], r["reason"]), []).append(r["case"])
    some = [f"- {peer} in {', '.join(names)}: {reason}." for (peer, reason), names in cases.items()]
    return ["\n".join(everywhere + some)]


def spread(r: Row, kind: str, what: str = "ratio") -> str:
    """Return a median with its extremes."""
    low, high = r[f"{kind}_{what}_range"]
    return f"{r[f'{kind}_{what}']:.2f} [{low:.2f}, {high:.2f}]"


def number(value: float | None, unit: float, form: str) -> str:
    """Return a number in a unit, nothing when it was not measured."""
    return "" if value is None else format(value / unit, form)
