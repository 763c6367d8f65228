"""How fluid the explorer is: time from frame to frame while a network of 2,220 edges is dragged.

    python benchmarks/frames.py

Trains a KAN 43-30-30-1 for two epochs on the embedded multijet sample, opens its page in Chromium (Debian's, or that of
the variable CHROMIUM) and moves an input and the threshold in every frame. The goal is a median below 33 ms. Refuses a
busy machine. Writes results/frames.json.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from summary import provenance

from hepkan.errors import UsageError
from hepkan.files import write_text
from hepkan.report.explorer import write_explorer
from hepkan.studies.options import load_card
from hepkan.studies.run import prepare, run

RESULT = Path(__file__).parent / "results" / "frames.json"
GOAL, ROUNDS, BUSY = 33.0, 5, 0.6
PARTS = {"an input": ".feature input", "the threshold": "#threshold"}
DRAG = """async (selector) => {
    const slider = document.querySelector(selector);
    const times = [];
    let last = 0;
    for (let step = 0; step < 60; step++) {
        slider.value = String(300 + 8 * step);
        slider.dispatchEvent(new Event("input", {bubbles: true}));
        const now = await new Promise(requestAnimationFrame);
        if (last) times.push(now - last);
        last = now;
    }
    return times;
}"""


def measured(page: Any) -> dict[str, Any]:
    """Return milliseconds from frame to frame: median of the medians, and what 95 % are below."""
    found = {}
    for words, selector in PARTS.items():
        rounds = [page.evaluate(DRAG, selector) for _ in range(ROUNDS)]
        medians = [float(np.median(one)) for one in rounds]
        below = float(np.quantile(np.concatenate(rounds), 0.95))
        found[words] = {"median": float(np.median(medians)), "medians": medians, "95 % below": below}
    return found


def main() -> None:
    """Measure."""
    from playwright.sync_api import sync_playwright

    load = os.getloadavg()[0]
    if load > BUSY:
        raise UsageError(f"Times need an idle machine, however the load is {load:.1f}. Try again later.")
    program = os.environ.get("CHROMIUM") or shutil.which("chromium")
    overrides = ["models.kan.hidden=[30,30]", "models.kan.epochs=2"]
    card = load_card("multijet", models=["kan"], seeds=1, quick=True, overrides=overrides)
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as started:
        trained = run(card, output=Path(folder) / "run")
        path = write_explorer(trained.folder)
        browser = started.chromium.launch(executable_path=program, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1440, "height": 900})
        page.goto(path.as_uri())
        page.wait_for_selector(".toolbar:not(.busy) [data-measure]")
        edges = page.evaluate("() => explorer.store.edges.length")
        content = {"edges": edges, "chromium": browser.version, "goal": GOAL, "milliseconds": measured(page)}
        content["reached"] = all(one["median"] < GOAL for one in content["milliseconds"].values())
        browser.close()
    write_text(RESULT, json.dumps({**provenance(prepare(card)), **content}, indent=1) + "\n")
    print(json.dumps(content))


if __name__ == "__main__":
    main()
