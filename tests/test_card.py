"""Cards: every mistake is named by its path, and a card written out is the same card again."""

from pathlib import Path

import pytest

from hepkan.errors import UsageError
from hepkan.studies.card import Card, build_card, check_runnable, check_settings, dump_card
from hepkan.studies.options import load_card, parse_override, parse_values

KNOWN = {
    "kan": ("hidden", "grid", "degree", "optimizer", "epochs"),
    "gam": ("grid", "optimizer", "epochs"),
    "mlp": ("hidden", "optimizer", "epochs"),
    "bdt": ("leaves",),
    "logistic": ("penalty",),
}
SMALL = {"data": [{"name": "all", "files": ["a.parquet"]}], "features": ["lep_pt", {"name": "w_mt", "unit": "GeV"}]}


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("modl.grid=3", "Unknown setting 'modl'. Did you mean 'model'"),
        ("split.tran=0.3", "Did you mean 'split.train'"),
        ("split.train=0.3", "fractions must add up to 1, however they add up to 0.7"),
        ("seeds=many", "Setting seeds"),
        ("seeds=0", "Setting seeds"),
        ("mix.ttbar=-1", "ttbar = -1"),
        ("task=clustering", "Setting task"),
        ("seeds.more=1", "seeds has no settings below it"),
        ("model.grid", "written key=value"),
        ("model..grid=1", "written key=value"),
        ("model.grid=[1", "not valid YAML"),
        ("quick.seed=3", "Did you mean 'quick.seeds'"),
    ],
)
def test_wrong_override_is_named(override: str, message: str) -> None:
    with pytest.raises(UsageError) as error:
        load_card("multijet", overrides=[override])
    assert message in str(error.value)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("model.gird=10", "Unknown setting 'model.gird'. Did you mean 'model.grid'"),
        ("models.mlp.hiden=[10]", "Did you mean 'models.mlp.hidden'"),
        ("models.mpl.hidden=[10]", "Unknown model 'mpl'. Did you mean 'mlp'"),
        ("train.epoch=3", "Did you mean 'train.epochs'"),
        ("model.kind=kam", "Unknown model 'kam'"),
    ],
)
def test_unknown_model_setting_is_named(override: str, message: str) -> None:
    raw = load_card("multijet", overrides=["model.kind=kan"]).model_dump()
    card = build_card({**raw, "models": {kind: {} for kind in KNOWN}, "train": {}, "quick": {}})
    check_settings(card, KNOWN)
    override_path, value = parse_override(override)
    changed = card.model_dump()
    place = changed
    for key in override_path[:-1]:
        place = place.setdefault(key, {})
    place[override_path[-1]] = value
    with pytest.raises(UsageError) as error:
        check_settings(build_card(changed), KNOWN)
    assert message in str(error.value)


def test_card_survives_writing(tmp_path: Path) -> None:
    card = load_card("multijet", overrides=["model.grid=10", "mix.ttbar=1.1"], quick=True, seeds=3)
    path = tmp_path / "card.yaml"
    path.write_text(dump_card(card), encoding="utf-8")
    again = load_card(str(path))
    assert again == card
    assert again.identity() == card.identity()


def test_identity_follows_settings_not_words() -> None:
    card = build_card(SMALL)
    assert build_card({**SMALL, "title": "other"}).identity() == card.identity()
    assert build_card({**SMALL, "seeds": 6}).identity() != card.identity()


def test_override_values_are_yaml() -> None:
    assert parse_override("train.learning_rate=1e-3") == (["train", "learning_rate"], 0.001)
    assert parse_override("model.hidden=[30, 30]") == (["model", "hidden"], [30, 30])
    assert parse_override("model.adaptive=true") == (["model", "adaptive"], True)
    assert parse_values("model.hidden=5,10,[30,30]") == ("model.hidden", [5, 10, [30, 30]])
    with pytest.raises(UsageError, match="key=a,b,c"):
        parse_values("model.hidden=")


def test_settings_precede_each_other() -> None:
    card = build_card(
        {
            **SMALL,
            "train": {"epochs": 50},
            "model": {"kind": "kan", "grid": 10},
            "models": {"kan": {"grid": 5, "degree": 2}, "mlp": {"hidden": 7, "epochs": 3}},
        }
    )
    assert card.settings("kan", KNOWN["kan"]) == {"epochs": 50, "grid": 10, "degree": 2}
    assert card.settings("mlp", KNOWN["mlp"]) == {"epochs": 3, "hidden": [7]}
    assert card.settings("bdt", KNOWN["bdt"]) == {}


def test_model_means_the_first_chosen_model() -> None:
    card = load_card("multijet", models=["mlp"], overrides=["model.hidden=5"])
    assert card.kinds == ["mlp"]
    assert card.settings("mlp", ["hidden"])["hidden"] == [5]


def test_quick_is_part_of_the_card_and_yields_to_options() -> None:
    full, quick = load_card("multijet"), load_card("multijet", quick=True)
    assert quick.seeds < full.seeds
    assert quick.bootstrap < full.bootstrap
    assert load_card("multijet", quick=True, overrides=["seeds=4"]).seeds == 4
    assert load_card("multijet", quick=True, seeds=2).seeds == 2


def test_built_in_card_lists_43_inputs_and_five_models() -> None:
    card = load_card("multijet")
    assert len(card.feature_names) == len(set(card.feature_names)) == 43
    assert card.kinds == ["kan", "gam", "mlp", "bdt", "logistic"]
    assert card.seeds == 5


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("multijets", "Did you mean 'multijet'"),
        ("nowhere.yaml", "There is no card"),
        ("folder/file.json", "A card ends in .yaml"),
    ],
)
def test_unknown_task_or_card(name: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        load_card(name)


@pytest.mark.parametrize(("text", "message"), [("a: [", "not valid YAML"), ("[1, 2]", "must be a mapping")])
def test_broken_card_file(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "card.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(UsageError, match=message):
        load_card(str(path))


@pytest.mark.parametrize(
    "change",
    [
        {"task": "regression", "target": ["nu_px"], "classes": ["a", "b"]},
        {"data": [{"name": "a", "files": ["a.root"], "label": 2}, {"name": "b", "files": ["b.root"], "label": 0}]},
        {"missing": {"sentinel": -999, "policy": "flag"}},
        {"features": [{"name": "w_mt", "transform": "log"}]},
    ],
)
def test_schema_accepts_what_cannot_be_run(change: dict[str, object]) -> None:
    card = build_card({**SMALL, **change})
    assert isinstance(card, Card)
    with pytest.raises(UsageError):
        check_runnable(card)
