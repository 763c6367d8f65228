"""The cards in examples/ on public data, with small settings."""

from pathlib import Path

import numpy as np
import pytest

from hepkan.errors import DataError
from hepkan.studies.members import load_table
from hepkan.studies.options import load_card
from hepkan.studies.predict import predict
from hepkan.studies.run import prepare, run

EXAMPLES = Path(__file__).parent.parent / "examples"
SHARED = EXAMPLES.parents[1] / "shared" / "data"
CARDS = sorted(path.name for path in EXAMPLES.glob("*.yaml"))

needs_data = pytest.mark.skipif(not SHARED.is_dir(), reason=f"the public data sets are not at {SHARED}")


def test_there_is_a_card_for_every_data_set() -> None:
    names = {"atlas_higgsml", "higgs_lightgbm", "cms_single_top", "nanoaod", "fair_universe"}
    assert names <= {name.removesuffix(".yaml") for name in CARDS}


@needs_data
@pytest.mark.parametrize(
    ("name", "events", "inputs"),
    [
        ("atlas_higgsml.yaml", 9998, 30),
        ("higgs_lightgbm.yaml", 7000, 28),
        ("cms_single_top.yaml", 1404 + 109, 43),
        ("nanoaod.yaml", None, 11),
        ("fair_universe.yaml", 1000, 23),
    ],
)
def test_cards_read_their_events(name: str, events: int | None, inputs: int) -> None:
    card = load_card(str(EXAMPLES / name))
    table = load_table(prepare(card))
    assert len(card.features) == inputs
    assert events is None or len(table) == events
    assert np.isfinite(table.X).all()
    assert set(table.extra["fold"]) == set(range(card.folds or 0))


@needs_data
def test_observables_of_collections_are_those_of_the_library() -> None:
    from hepkan.physics.cms import read_cms_single_top
    from hepkan.physics.observables import compute
    from hepkan.physics.selection import Selection

    table = load_table(prepare(load_card(str(EXAMPLES / "cms_single_top.yaml"))))
    objects = read_cms_single_top(SHARED / "cms_single_top" / "ww.root", Selection(jet_pt_min=30.0), btag_min=0.5)
    for name, values in compute(objects).items():
        np.testing.assert_allclose(table.column(name)[table.y == 0], values.astype(np.float32), rtol=1e-6)


@needs_data
def test_nanoaod_gives_the_43_observables() -> None:
    from hepkan.physics.nanoaod import read_nanoaod
    from hepkan.physics.observables import compute

    objects = read_nanoaod(SHARED / "nanoaod" / "nano_tt_v12.root")
    found = compute(objects)
    assert len(found) == 43
    assert all(np.isfinite(values).all() for values in found.values())
    assert len(objects["id"]) == 13
    assert set(objects["lep_flavour"]) <= {11, 13}
    assert (objects["lep_pt"] > 26).all()
    assert (abs(objects["bjet_eta"]) < 2.4).all()
    with pytest.raises(DataError, match="none of 40"):
        read_nanoaod(SHARED / "nanoaod" / "nano_dimuon.root")


@needs_data
@pytest.mark.slow
@pytest.mark.parametrize("name", CARDS)
def test_cards_run_and_score(name: str, tmp_path: Path) -> None:
    card = load_card(str(EXAMPLES / name), quick=True, models=["kan", "bdt"])
    done = run(card, output=tmp_path / "run")
    auc = {row["model"]: row["value"] for row in done.report["rows"] if row["metric"] == "auc"}
    assert min(auc.values()) > 0.6
    source = card.data[-1]
    name = source.files[0] if source.tree is None else f"{source.files[0]}:{source.tree}"
    counters = predict(done.folder, name, tmp_path / "scores.root")
    assert counters.scored > 0
    assert (tmp_path / "scores.root").stat().st_size > 1000
