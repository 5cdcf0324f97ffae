"""Protocols have one order and one colour each."""

from __future__ import annotations

from medssl.report import protocols


def test_groups_and_order() -> None:
    names = ["random_init", "minirocket", "stage_one", "knn", "mine", "probe", "knn"]
    assert protocols.grouped(names) == {
        "encoder": ["probe", "knn"], "baselines": ["minirocket"], "controls": ["random_init"], "other": ["mine"]
    }  # fmt: skip
    assert protocols.ordered(names) == ["probe", "knn", "minirocket", "random_init", "mine"]
    assert protocols.grouped([]) == {}


def test_colours_differ() -> None:
    colours = [facts[0] for facts in protocols.KNOWN.values()]
    assert len(set(colours)) == len(colours)
    assert protocols.colour("probe") == colours[0]
    assert protocols.colour("mine") == protocols.OTHER


def test_simple_baselines_are_baselines() -> None:
    assert set(protocols.SIMPLE) == set(protocols.GROUPS["baselines"]) - {"supervised"}
