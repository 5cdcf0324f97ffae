"""A file of factors becomes a params file with a run for each level; what cannot be is a cell with the reason."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from medssl import config
from medssl.ablate import factors
from medssl.ablate.factors import Ablation, Cell, Plan
from medssl.pretrain.recipes import RECIPES

ROOT = Path(__file__).parents[2]
INGEST = {"rate_hz": 100, "channels": ["I"], "unit": "mV", "window_s": 2}
COHORT = {"source": {"root": "data/raw/ecg"}, "ingest": INGEST, "dedup": {}, "split": {"folds": 2}}
ENCODER = {"name": "resnet1d", "widths": [4, 4, 8, 8], "depth": 1}
RUNS: dict[str, Any] = {
    "one": {"modality": "ecg", "recipe": "simclr", "encoder": ENCODER, "evaluate": {"labels": ["other"]}},
    "two": {
        "modality": "ecg", "recipe": "wearable", "encoder": ENCODER, "evaluate": {},
        "pretrain": {"options": {"momentum": 0.9}},
    },
    "far": {"modality": "ppg", "recipe": "simclr", "encoder": ENCODER, "evaluate": {}},
}  # fmt: skip
GIVEN: dict[str, Any] = {"seed": 7, "modalities": {"ecg": COHORT}, "runs": RUNS, "folds": {"f9": None}}


def ablation(levels: dict[str, Any], runs: dict[str, Any] | None = None, **more: Any) -> Ablation:
    runs = runs or {"one": ["norm", "sex"], "two": ["norm"]}
    return Ablation.model_validate(
        {"like": "params.yaml", "factors": {"toy": {"question": "?", "runs": runs, "levels": levels}}} | more
    )


def expanded(levels: dict[str, Any], runs: dict[str, Any] | None = None, **more: Any) -> list[Plan]:
    made = ablation(levels, runs, **more)
    plans = [factors.expand(made, GIVEN, base) for base in factors.bases(made, GIVEN)[0]]
    for plan in plans:
        config.parse(factors.text(plan))
    return plans


def test_a_run_for_each_level_and_base_run() -> None:
    one, two = expanded({"mild": {"pretrain.views": "mild"}, "wide": {"encoder.widths": [8, 8, 8, 8], "seeds": 3}})
    assert list(one.params["runs"]) == ["one", "one--toy--mild", "one--toy--wide"]
    assert list(two.params["runs"]) == ["two", "two--toy--mild", "two--toy--wide"]
    assert two.cells[0] == Cell("toy", "mild", "two", "two--toy--mild", "probe", ("norm",))
    base = two.params["runs"]["two"]
    assert base["evaluate"] == {"labels": ["norm"], "finetune_labels": []}
    assert two.params["runs"]["two--toy--mild"] == base | {"pretrain": base["pretrain"] | {"views": "mild"}}
    wide = one.params["runs"]["one--toy--wide"]
    assert (wide["encoder"]["widths"], wide["seeds"]) == ([8, 8, 8, 8], 3)
    assert one.params["folds"] == {"f0": None, "f1": None}
    assert one.params["modalities"] == {"ecg": COHORT}


def test_how_it_is_computed_is_the_files_own() -> None:
    given = GIVEN | {"compute": {"workers": 2, "precision": "32-true"}}
    for asked, precision in (({}, "32-true"), ({"precision": "bf16-mixed"}, "bf16-mixed")):
        made = ablation({"mild": {"pretrain.views": "mild"}}, compute=asked)
        plan = factors.expand(made, given, "one")
        assert config.parse(factors.text(plan)).compute == config.Compute(workers=2, precision=precision)  # type: ignore[arg-type]


def test_what_a_base_run_starts_from_is_trained_too() -> None:
    started = {"second": RUNS["one"] | {"start": "first"}, "third": RUNS["one"] | {"start": "second"}}
    levels = {"mild": {"pretrain.views": "mild"}, "rate": {"cohort.ingest.rate_hz": 50}}
    given = GIVEN | {"runs": {"first": RUNS["one"], **started}}
    plan = factors.expand(ablation(levels, {"third": ["norm"]}), given, "third")
    config.parse(factors.text(plan))
    assert plan.params["sequels"] == {"third": "second", "second": "first", "third--toy--mild": "second"}
    assert [(cell.run, cell.refused) for cell in plan.cells] == [
        ("third--toy--mild", ""),
        ("third", "starts from second, which is of cohort ecg"),
    ]
    del given["runs"]["second"]
    with pytest.raises(config.ConfigError, match=r"runs\.third\.start: no run second in params\.yaml; it has first, "):
        factors.expand(ablation(levels, {"third": ["norm"]}), given, "third")


def test_what_it_starts_from_may_be_of_another_cohort() -> None:
    started = {"first": RUNS["one"] | {"modality": "ecg-b"}, "second": RUNS["one"] | {"start": "first"}}
    cohorts = {"ecg-b": COHORT | {"source": {"root": "data/raw/ecg-b"}}, "ecg": COHORT, "ppg": COHORT}
    given = GIVEN | {"runs": started, "modalities": cohorts, "synthetic": {"ecg-b": {}, "ct": {}}}
    plan = factors.expand(ablation({"mild": {"pretrain.views": "mild"}}, {"second": ["norm"]}), given, "second")
    config.parse(factors.text(plan))
    assert set(plan.params["modalities"]) == {"ecg", "ecg-b"}
    assert list(plan.params["synthetic"]) == ["ecg-b"]


def test_levels_of_some_base_runs_have_values_of_their_own() -> None:
    plan, other = expanded({"long": {"one": {"pretrain.epochs": 9}}})
    assert [cell.run for cell in plan.cells] == ["one--toy--long"]
    assert other.cells == []
    assert plan.params["runs"]["one--toy--long"]["pretrain"] == {"epochs": 9, "options": {}}


def test_another_protocol_is_no_run() -> None:
    plan, _ = expanded({"none": {"protocol": "random_init"}, "both": {"protocol": "knn", "pretrain.epochs": 3}})
    assert [(c.run, c.protocol) for c in plan.cells] == [
        ("one", "random_init"),
        ("one--toy--both", "knn"),
    ]
    assert not any(cell.refused for cell in plan.cells)


def test_levels_that_make_the_same_run_share_it() -> None:
    (plan,) = expanded({"a": {"pretrain.epochs": 9}, "b": {"pretrain.epochs": 9}}, {"one": ["norm"]})
    assert [cell.run for cell in plan.cells] == ["one--toy--a"] * 2


def test_a_further_level_leaves_the_others_as_they_are() -> None:
    """DVC runs again what changed: with one more level that is this level alone."""
    levels: dict[str, Any] = {"mild": {"pretrain.views": "mild"}, "zscored": {"cohort.ingest.normalise": "cohort"}}
    before, after = (expanded(more)[0].params for more in (levels, levels | {"long": {"pretrain.epochs": 99}}))
    added = {"one--toy--long"}
    assert set(after["runs"]) - set(before["runs"]) == added
    assert {k: v for k, v in after["runs"].items() if k not in added} == before["runs"]
    assert {k: v for k, v in after.items() if k != "runs"} == {k: v for k, v in before.items() if k != "runs"}


def test_levels_of_a_cohort_have_a_copy_of_it_with_the_same_split() -> None:
    levels: dict[str, Any] = {
        "zscored": {"cohort.ingest.normalise": "cohort"},
        "fewer": {"cohort.dedup.method": "beats"},
    }
    plan = expanded(levels | {"both": levels["fewer"] | {"pretrain.epochs": 9}})[0]
    cohorts = plan.params["modalities"]
    assert list(cohorts) == ["ecg", "ecg--toy--zscored", "ecg--toy--fewer"]  # equal ones are one
    assert cohorts["ecg--toy--zscored"] == COHORT | {"ingest": INGEST | {"normalise": "cohort"}}
    assert cohorts["ecg--toy--fewer"] == COHORT | {"dedup": {"method": "beats"}}
    assert cohorts["ecg"] == COHORT  # left as it was
    assert {c.run: plan.params["runs"][c.run]["modality"] for c in plan.cells} == {
        "one--toy--zscored": "ecg--toy--zscored",
        "one--toy--fewer": "ecg--toy--fewer",
        "one--toy--both": "ecg--toy--fewer",
    }


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({"pretrain.epoch": 3}, r"pretrain\.epoch.*unknown key"),
        ({"pretrain.views": "wild"}, r"pretrain\.views = 'wild'"),
        ({"pretrain.positives": {"view": 0.5, "patient": 0.5}}, r"pretrain\.positives: recipe wearable has none"),
        ({"pretrain.options.prototypes": 3}, r"prototypes"),
        ({"encoder": {"name": "dilated1d"}, "encoder.pool": "stages"}, r"encoder\.pool stages: only for"),
        ({"recipe": "comet", "pretrain.options": {}}, "needs an encoder with a feature map; resnet1d has none"),
        (
            {"recipe": "comet", "pretrain.options": {}, "encoder.name": "dilated1d", "encoder.widths": None,
             "pretrain.duplicates": "mask"},
            r"pretrain\.duplicates: mask is not for recipe comet",
        ),
        ({"pretrain.options.momentum": 0.9}, "as the base run"),
        ({"cohort.dedup": {}}, "as the base run"),
        ({"protocol": "probe"}, "as the base run"),
        ({"cohort.ingest.window": 3}, r"ingest.*window.*unknown key"),
        ({"cohort.split.folds": 3}, r"cohort\.split\.folds: decides who is tested"),
        ({"cohort.source.limit": 3}, r"cohort\.source\.limit: decides who is tested"),
    ],
)  # fmt: skip
def test_what_cannot_be_says_why_and_is_not_run(values: dict[str, Any], reason: str) -> None:
    (plan,) = expanded({"x": values}, {"two": ["norm"]})
    (cell,) = plan.cells
    assert cell.run == "two"
    with pytest.raises(ValueError, match=reason):
        raise ValueError(cell.refused)
    assert list(plan.params["runs"]) == ["two"]
    assert list(plan.params["modalities"]) == ["ecg"]


def test_base_runs_without_recordings_are_left_out() -> None:
    asked = ablation({"mild": {"pretrain.views": "mild"}}, {"far": ["norm"], "one": ["norm"]})
    assert factors.bases(asked, GIVEN) == (["one"], ["far"])
    with pytest.raises(config.ConfigError, match=r"the recordings of no base run are there \(far\)"):
        expanded({"mild": {"pretrain.views": "mild"}}, {"far": ["norm"]})


def test_base_runs_may_stand_in_the_file_and_evaluate_is_of_all_runs() -> None:
    own = {"own": RUNS["one"] | {"pretrain": {"epochs": 2}}}
    given = {"runs": own, "evaluate": {"protocols": ["probe"]}}
    made = ablation({"mild": {"pretrain.views": "mild"}}, {"own": ["sex"]})
    plan = factors.expand(Ablation.model_validate(made.model_dump() | given), GIVEN, "own")
    wanted = {"labels": ["sex"], "finetune_labels": [], "protocols": ["probe"]}
    assert [run["evaluate"] for run in plan.params["runs"].values()] == [wanted] * 2
    assert plan.params["runs"]["own"]["pretrain"] == {"epochs": 2, "options": {}}


def test_what_is_refused(tmp_path: Path) -> None:
    with pytest.raises(config.ConfigError, match=r"no run gone in params\.yaml; it has one, two, far"):
        expanded({"mild": {"pretrain.views": "mild"}}, {"gone": ["norm"]})
    with pytest.raises(config.ConfigError, match=r"runs\.two: evaluate\.seeds = 0"):
        expanded({"mild": {"pretrain.views": "mild"}}, {"two": ["norm"]}, evaluate={"seeds": 0})
    for level in ("a b", "a--b", "-a", "a.b"):
        with pytest.raises(ValueError, match="factors"):
            ablation({level: {"seeds": 2}})
    with pytest.raises(config.ConfigError, match="--factors oops: not in the file; it has toy"):
        factors.bases(ablation({"mild": {"pretrain.views": "mild"}}), GIVEN, factors.Choice(["oops"]))
    with pytest.raises(config.ConfigError, match="--levels oops: not in the file; it has mild"):
        factors.bases(ablation({"mild": {"pretrain.views": "mild"}}), GIVEN, factors.Choice(levels=["mild", "oops"]))
    with pytest.raises(ValueError, match="name those of levels"):
        ablation({"mild": {"pretrain.views": "mild"}}, baselines=["knn"])
    path = tmp_path / "factors.yaml"
    for text, message in (("like: [", "not valid YAML"), ("like: x", "factors: Field required")):
        path.write_text(text)
        with pytest.raises(config.ConfigError, match=message):
            factors.read(path)


def test_a_part_of_a_file() -> None:
    made = ablation({"mild": {"pretrain.views": "mild"}, "none": {"pretrain.views": "none"}})
    assert factors.bases(made, GIVEN, factors.Choice(runs=["two"])) == (["two"], [])
    cells = factors.expand(made, GIVEN, "two").cells
    taken = {"levels": ["none"], "runs": ["two"]}, {"levels": ["none"], "runs": ["one"]}, {"factors": ["toy"]}
    assert [[c.level for c in cells if factors.Choice(**one).takes(c)] for one in taken] == [
        ["none"],
        [],
        ["mild", "none"],
    ]


def test_baselines_are_of_the_base_run_alone() -> None:
    levels: dict[str, Any] = {"mild": {"pretrain.views": "mild"}, "untrained": {"protocol": "random_init"}}
    more: dict[str, Any] = {"evaluate": {"protocols": ["probe"]}, "baselines": ["random_init", "handcrafted"]}
    (plan,) = expanded(levels | {"same": {"pretrain.epochs": 10}}, {"one": ["norm"]}, **more)
    protocols = {name: run["evaluate"]["protocols"] for name, run in plan.params["runs"].items()}
    assert protocols == {"one": ["probe", "random_init", "handcrafted"], "one--toy--mild": ["probe"]}
    assert [(c.run, c.refused) for c in plan.cells[1:]] == [("one", ""), ("one", "as the base run")]
    with pytest.raises(config.ConfigError, match=r"baselines: runs\.one: .*oops unknown"):
        expanded(levels, {"one": ["norm"]}, **more | {"baselines": ["oops"]})


def test_the_comparison_has_every_recipe() -> None:
    own = factors.read(ROOT / "params.methods.yaml")
    levels = own.factors["recipe"].levels
    lacking = "\n".join(
        f"      {name}: {{recipe: {name}, pretrain.options: {{}}}}"
        for name in RECIPES
        if name not in levels and name not in ("simclr", "coconut")
    )
    assert not lacking, f"params.methods.yaml: add to factors.recipe.levels\n{lacking}"
    for name, of in levels.items():  # of all base runs alike, or of each
        assert {values["recipe"] for values in ([of] if "recipe" in of else of.values())} == {name}
    given = factors.params_like(own, ROOT, None)
    for base in factors.bases(own, given)[0]:
        plan = factors.expand(own, given, base)
        params = config.parse(factors.text(plan))
        assert params.runs[base].recipe == "simclr"
        assert {run.seeds for run in params.runs.values()} == {2}
        assert len(params.folds) >= 3
        # Nothing of a level differs but its recipe and what that must be told.
        for name, run in params.runs.items():
            told = {"options": run.pretrain.options, "labels": run.pretrain.labels}
            alike = {"pretrain": params.runs[base].pretrain.model_copy(update=told)}
            alike |= {"recipe": run.recipe, "evaluate": run.evaluate, "start": run.start}
            assert run.start in (None, base)
            assert run == params.runs[base].model_copy(update=alike), name


def test_the_file_of_the_project() -> None:
    own = factors.read(ROOT / "params.ablation.yaml")
    given = factors.params_like(own, ROOT, None)
    plans = [factors.expand(own, given, base) for base in factors.bases(own, given)[0]]
    cells = [cell for plan in plans for cell in plan.cells]
    assert {cell.refused for cell in cells} <= {"", "as the base run"}
    assert {cell.factor for cell in cells} == set(own.factors)
    known = yaml.safe_load((ROOT / "params.real.yaml").read_text())["runs"]
    for plan in plans:
        params = config.parse(factors.text(plan))
        base = params.runs[plan.cells[0].base]
        assert base.seeds >= 3
        assert {run.evaluate.fractions for run in params.runs.values()} == {(1.0, 0.1, 0.01)}
        if plan.cells[0].base in known:
            assert set(base.evaluate.labels) <= set(known[plan.cells[0].base]["evaluate"]["labels"])
