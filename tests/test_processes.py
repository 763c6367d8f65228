"""Process cards: every one complete, with a source, and refused when wrong."""

import itertools

import pytest

from hepkan.errors import UsageError
from hepkan.physics.generate import PROCESSES, normalisation, recipe_of, row_counts
from hepkan.physics.processes import get_process, parse_card, process_cards


@pytest.mark.parametrize("card", process_cards().values(), ids=lambda card: card.name)
def test_every_card_states_its_normalisation_and_source(card) -> None:
    section = card.cross_section
    assert section.order and section.reference
    assert normalisation(card, 100.0) > 0
    assert len({piece.name for piece in card.slices}) == len(card.slices)
    assert sum(piece.share for piece in card.slices) == pytest.approx(1.0)
    assert all((piece.flavour is not None) == (card.generator in ("multijet", "jets")) for piece in card.slices)


@pytest.mark.parametrize("name", ["multijet", "jet_electron"])
def test_strata_cover_every_flavour_from_50_gev_without_overlap(name: str) -> None:
    ranges: dict[str, list[tuple[float, float]]] = {}
    for piece in get_process(name).slices:
        settings = dict(line.split(" = ") for line in piece.pythia if line.startswith("PhaseSpace"))
        low = float(settings["PhaseSpace:pTHatMin"])
        ranges.setdefault(piece.flavour, []).append((low, float(settings.get("PhaseSpace:pTHatMax", "inf"))))
    assert set(ranges) == {"b", "c", "light"}
    for intervals in ranges.values():
        edges = sorted(intervals)
        assert edges[0][0] == 50.0 and edges[-1][1] == float("inf")
        assert all(a[1] == b[0] for a, b in itertools.pairwise(edges))


def test_rows_of_a_sample_add_up_and_classes_are_equal() -> None:
    for task, names in PROCESSES.items():
        counts = row_counts(task, 2001)
        assert sum(counts.values()) == 2001 and set(counts) == set(names)
        rows = {get_process(name).label: 0 for name in names}
        for name, count in counts.items():
            rows[get_process(name).label] += count
        assert max(rows.values()) - min(rows.values()) <= len(names)


def test_recipe_hash_depends_on_the_request_only() -> None:
    one = recipe_of("multijet", row_counts("multijet", 100), 1)["recipe_hash"]
    assert one == recipe_of("multijet", row_counts("multijet", 100), 1)["recipe_hash"]
    assert one != recipe_of("multijet", row_counts("multijet", 100), 2)["recipe_hash"]
    assert one != recipe_of("multijet", row_counts("multijet", 101), 1)["recipe_hash"]


def test_wrong_requests_say_what_to_do() -> None:
    with pytest.raises(UsageError, match="Did you mean 'ttbar'"):
        get_process("ttbr")
    with pytest.raises(UsageError, match="Did you mean 'multijet'"):
        row_counts("multijets", 100)
    with pytest.raises(UsageError, match="at least 4"):
        row_counts("multijet", 3)
    with pytest.raises(UsageError, match=r"mine\.yaml.*'colour'"):
        parse_card({**get_process("ttbar").model_dump(), "colour": "red"}, "mine.yaml")
