"""Mutated cards and files: one paragraph and an exit code, never a traceback, never a partial file."""

import copy
import random
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from typer.testing import CliRunner

from hepkan.cli import app
from hepkan.errors import DataError, MissingExtra, UsageError
from hepkan.studies.card import build_card
from hepkan.studies.options import load_card
from hepkan.studies.predict import predict
from hepkan.studies.run import prepare, run
from ntuple_cases import FORMATS, card, dump, events, make, write

SAID = (UsageError, DataError, MissingExtra, OSError)
HOSTILE: list[Any] = [None, "", " ", "\0", "x" * 5000, -1, 0, 1, 2, 3.5, 1e308, -1e-308, float("nan"), float("inf")]
HOSTILE += [10**30, True, [], [[]], {}, {"a": 1}, ["pt"], ["pt", "pt"], [None], "pt", "mass", "process", "pt *"]
HOSTILE += ["__import__('os')", "9 ** 9 ** 9 ** 9", "../..", "/", "/dev/null", "*.parquet", "nowhere.root", "a:b:c"]
HOSTILE += ["é→", "identity", "flag", "sig", {"name": "pt", "expr": "1/0"}, {"sentinel": [1, "a"]}, "2024-01-01"]
HOSTILE += [["event", "njet"], {"kind": "nanoaod"}, "((((", "[", "col('pt')", "pt[0]"]


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make(tmp_path_factory.mktemp("events"), n=150)


@pytest.fixture(scope="module")
def study(files: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    content = card(files, features=["pt", "eta", "mass"], selection=[])
    return run(build_card(content), output=tmp_path_factory.mktemp("runs") / "small").folder


def places(content: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Return the path of every value of nested data."""
    found = [path] if path else []
    items = content.items() if isinstance(content, dict) else enumerate(content) if isinstance(content, list) else ()
    for key, value in items:
        found += places(value, (*path, key))
    return found


def mutated(content: dict[str, Any], rng: random.Random) -> dict[str, Any]:
    """Return the data with one to three values removed, replaced, renamed, doubled or swapped."""
    changed = copy.deepcopy(content)
    for _ in range(rng.choice((1, 1, 2, 3))):
        path = rng.choice(places(changed))
        parent = changed
        for key in path[:-1]:
            parent = parent[key]
        kind = rng.choice(("remove", "replace", "replace", "replace", "rename", "double", "swap"))
        if kind == "remove":
            del parent[path[-1]]
        elif kind == "replace":
            parent[path[-1]] = copy.deepcopy(rng.choice(HOSTILE))
        elif kind == "rename" and isinstance(parent, dict):
            parent[f"{path[-1]}{rng.choice('sx_')}"] = parent.pop(path[-1])
        elif kind == "double" and isinstance(parent, list):
            parent.append(copy.deepcopy(parent[path[-1]]))
        else:
            parent[path[-1]] = copy.deepcopy(content[rng.choice(list(content))])
        if not places(changed):
            break
    return changed


def check_said(error: BaseException) -> None:
    """Demand words: one paragraph that is no Python."""
    text = str(error)
    assert len(text) > 15, repr(error)
    assert "Traceback" not in text
    assert "object at 0x" not in text


def attempt(path: Path) -> bool:
    """Load and prepare a card; return whether it can run."""
    try:
        prepare(load_card(str(path)))
    except SAID as error:
        check_said(error)
        return False
    return True


@pytest.mark.parametrize("block", range(8))
def test_mutated_cards(files: Path, tmp_path: Path, block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    rng = random.Random(block)
    before = {path: path.read_bytes() for path in files.iterdir()}
    usable = 0
    for _ in range(25):
        content = card(files, suffix="parquet", quick={"seeds": 1}, classes=["bkg", "sig"], luminosity_fb=1.0)
        usable += attempt(dump(mutated(content, rng), tmp_path / "card.yaml"))
    assert usable < 25
    assert [path.name for path in tmp_path.iterdir()] == ["card.yaml"]
    assert {path: path.read_bytes() for path in files.iterdir()} == before


def test_mutated_text_of_cards(files: Path, tmp_path: Path) -> None:
    rng = random.Random(1)
    text = yaml.safe_dump(card(files), sort_keys=False)
    for _ in range(60):
        letters = list(text)
        for _ in range(rng.randint(1, 5)):
            place = rng.randrange(len(letters))
            pieces = ["", ":", "- ", "\t", "{", "'", "\n", "&a", "*a", "!!", "0", "é"]
            letters[place : place + rng.randint(0, 3)] = rng.choice(pieces)
        (tmp_path / "card.yaml").write_text("".join(letters), encoding="utf-8")
        attempt(tmp_path / "card.yaml")
    for content in (b"\xff\xfe\x00", b"", b"!!python/object/apply:os.system ['touch executed']", b"a: &a [*a]"):
        (tmp_path / "card.yaml").write_bytes(content)
        assert not attempt(tmp_path / "card.yaml")
    assert not Path("executed").exists()


@pytest.mark.parametrize("suffix", FORMATS)
def test_mutated_files(files: Path, study: Path, tmp_path: Path, suffix: str) -> None:
    rng = random.Random(len(suffix))
    columns = events(150, 9)
    whole = write(tmp_path / f"a.{suffix}", columns).read_bytes()
    written = 0
    for i in range(25):
        content = bytearray(whole)
        for _ in range(rng.choice((1, 1, 5, 50))):
            place = rng.randrange(len(content))
            content[place : place + rng.choice((0, 1, 4, 40))] = rng.randbytes(rng.choice((0, 1, 4)))
        if rng.random() < 0.3:
            del content[rng.randrange(len(content)) :]
        (tmp_path / f"a.{suffix}").write_bytes(content)
        output = tmp_path / "out" / f"{i}.parquet"
        try:
            predict(study, str(tmp_path / f"a.{suffix}"), output)
            written += 1
            assert output.is_file()
        except SAID as error:
            check_said(error)
            assert not output.exists()
    assert len(list((tmp_path / "out").iterdir()) if (tmp_path / "out").exists() else []) == written


def wrong_columns() -> list[tuple[str, dict[str, Any]]]:
    """Return columns that a run cannot score, or can: their values are strange."""
    base = events(40, 3)
    strange = {
        "text": {"pt": np.array(["a"] * 40)},
        "infinite": {"pt": np.full(40, np.inf)},
        "nan": {"eta": np.full(40, np.nan)},
        "huge": {"pt": np.full(40, 1e300)},
        "fractional ids": {"event": base["event"] + 0.5},
        "missing ids": {"event": np.full(40, np.nan)},
        "negative ids": {"event": -base["event"]},
        "same ids": {"event": base["event"] * 0},
        "big ids": {"event": base["event"].astype(np.uint64) + np.uint64(2**63)},
        "bool": {"pt": base["pt"] > 30},
        "unsigned": {"pt": base["pt"].astype(np.uint8)},
    }
    return [(name, {**base, **change}) for name, change in strange.items()]


@pytest.mark.parametrize(("name", "columns"), wrong_columns(), ids=[name for name, _ in wrong_columns()])
def test_strange_columns(study: Path, tmp_path: Path, name: str, columns: dict[str, Any]) -> None:
    write(tmp_path / "a.parquet", columns)
    output = tmp_path / "out.csv"
    try:
        counters = predict(study, str(tmp_path / "a.parquet"), output)
        assert counters.events == 40
        assert output.is_file()
        assert name not in ("text", "fractional ids", "missing ids")
    except SAID as error:
        check_said(error)
        assert not output.exists()


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["run", "nowhere.yaml"], 2),
        (["run", "card.yaml", "-o", "out", "--set", "features=[etaa]"], 2),
        (["run", "card.yaml", "-o", "out", "--set", "event_id=njet"], 1),
        (["run", "card.yaml", "-o", "out", "--set", "selection=[pt < -1]"], 1),
        (["run", "card.yaml", "-o", "/proc/none/out"], 1),
        (["predict", "nowhere", "sig.parquet", "-o", "out"], 2),
        (["predict", "STUDY", "sig.parquet", "-o", "out.xyz"], 2),
        (["predict", "STUDY", "none.parquet", "-o", "out.csv"], 1),
        (["predict", "STUDY", "sig.parquet", "-o", "/proc/none/out.csv"], 1),
        (["card", "none.parquet"], 1),
        (["card", "card.yaml"], 2),
        (["card"], 2),
        (["card", "sig.parquet", "-o", "card.yaml"], 1),
    ],
)
def test_commands_give_one_paragraph_and_a_code(
    files: Path, study: Path, tmp_path: Path, arguments: list[str], code: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("sig", "bkg"):
        shutil.copy(files / f"{name}.parquet", tmp_path)
    dump(card(tmp_path), tmp_path / "card.yaml")
    before = sorted(path.name for path in tmp_path.rglob("*"))
    done = CliRunner().invoke(app, [str(study) if one == "STUDY" else one for one in arguments])
    assert done.exit_code == code, done.output
    text = done.output + done.stderr
    assert "Traceback" not in text
    assert text.strip()
    assert sorted(path.name for path in tmp_path.rglob("*")) == before


def test_a_full_disk_leaves_nothing(study: Path, files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from hepkan.studies import predict as module

    def full(*arguments: Any) -> dict[str, Any]:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(module, "columns", full)
    for suffix in FORMATS:
        with pytest.raises(OSError, match="No space left"):
            predict(study, str(files / "sig.parquet"), tmp_path / f"out.{suffix}")
    assert not list(tmp_path.iterdir())
