"""One line for every mistake in params.yaml."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from medssl import config
from medssl.config.run import ASKED

SIGNAL = {"rate_hz": 100, "channels": ["I", "II"], "unit": "mV", "window_s": 2.5}
VOLUME = {"size": [32, 32, 32], "spacing_mm": [2, 2, 2]}
RUN = {"modality": "ecg", "recipe": "simclr", "encoder": {"name": "resnet1d"}, "evaluate": {"labels": ["disease"]}}


IN_ENCODERS = ["modalities.ecg.dedup", "is not in data/encoders", "copy the folder there"]


def raw(**changes: Any) -> dict[str, Any]:
    """Return a valid file; ``changes`` are ``a__b__c=value``."""
    out: dict[str, Any] = {
        "seed": 1,
        "modalities": {
            "ecg": {"source": {"root": "data/raw/ecg"}, "ingest": dict(SIGNAL)},
            "mri-x": {"source": {"root": "data/raw/mri"}, "ingest": dict(VOLUME)},
        },
        "runs": {"one": yaml.safe_load(yaml.safe_dump(RUN))},
    }
    for path, value in changes.items():
        node = out
        *parents, last = path.split("__")
        for name in parents:
            node = node.setdefault(name, {})
        node[last] = value
    return out


def parse(**changes: Any) -> config.Params:
    return config.parse(yaml.safe_dump(raw(**changes)))


def assert_refused(change: dict[str, Any], words: list[str]) -> None:
    with pytest.raises(config.ConfigError) as caught:
        parse(**change)
    text = str(caught.value)
    assert "\n" not in text
    assert text.startswith("params.yaml: ")
    for word in words:
        assert word in text, text


def test_valid() -> None:
    params = parse()
    assert isinstance(params.modalities["ecg"].ingest, config.SignalIngest)
    assert isinstance(params.modalities["mri-x"].ingest, config.VolumeIngest)
    assert params.modalities["ecg"].ingest.normalise == "sample"
    with pytest.raises(ValueError, match="frozen"):
        params.seed = 3  # type: ignore[misc]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"sede": 1}, ["sede", "unknown key"]),
        ({"seed": -1}, ["seed = -1", "greater than or equal to 0"]),
        ({"seed": "many"}, ["seed = 'many'", "integer"]),
        ({"compute__workers": 0}, ["compute.workers = 0", "greater than or equal to 1"]),
        ({"compute__executor": "slurm"}, ["compute.executor = 'slurm'", "'process' or 'dask'"]),
        ({"modalities__ecg__ingest__rate": 100}, ["modalities.ecg.ingest", "rate = 100", "unknown key"]),
        ({"modalities__ecg__ingest__rate_hz": -5}, ["modalities.ecg.ingest", "rate_hz = -5", "greater than 0"]),
        ({"modalities__ecg__ingest__overlap": 1}, ["overlap = 1", "less than 1"]),
        ({"modalities__ecg__ingest__channels": []}, ["channels", "at least 1 item"]),
        ({"modalities__ecg__ingest__band_hz": [1, 60]}, ["band_hz [1.0, 60.0]", "rate_hz/2 = 50"]),
        ({"modalities__mri-x__ingest__size": [32, 32]}, ["modalities.mri-x.ingest", "size [32, 32]", "3 numbers"]),
        ({"modalities__mri-x__ingest__spacing_mm": [1]}, ["spacing_mm [1.0]", "one per axis"]),
        ({"modalities__mri-x__ingest__hu_window": [5, 5]}, ["hu_window [5.0, 5.0]", "low < high"]),
        ({"modalities__ecg__dedup__threshold": -1}, ["modalities.ecg.dedup.threshold = -1", "0"]),
        ({"modalities__ecg__dedup": {"method": "embedding", "encoder": "data/runs/a/encoder"}}, IN_ENCODERS),
        ({"modalities__ecg__dedup": {"method": "embedding", "encoder": "/home/me/encoder"}}, IN_ENCODERS),
        ({"modalities__ecg__dedup": {"method": "embedding", "encoder": "runs:/0a1b/encoder"}}, IN_ENCODERS),
        ({"modalities__ecg__dedup": {"method": "embedding", "encoder": "data/encoders"}}, IN_ENCODERS),
        ({"modalities__ecg__dedup": {"method": "embedding", "encoder": "data/encoders/../mine"}}, IN_ENCODERS),
        ({"runs__a.b": RUN}, ["runs.'a.b'", "letters, digits, - and _"]),
        ({"synthetic__ecg two": {}}, ["synthetic.'ecg two'", "letters, digits, - and _"]),
        ({"modalities": {}}, ["modalities", "at least 1 item"]),
        ({"modalities__ecg__split__train": 0.9}, ["train + val + test = 1.3", "expected 1"]),
        ({"modalities__xray": {"source": {"root": "x"}, "ingest": VOLUME}}, ["'xray' is not a modality", "ecg, ppg"]),
        ({"runs__one__modality": "eeg"}, ["runs.one.modality 'eeg'", "allowed: ecg, mri-x"]),
        ({"runs__one__recipe": "moco"}, ["runs.one.recipe = 'moco'", "'simclr'"]),
        ({"runs__one__encoder__name": "vit"}, ["runs.one.encoder.name = 'vit'", "'dilated1d'"]),
        (
            {"runs__one__recipe": "comet", "runs__one__pretrain__options": {"levels": {"patient": 0.7}}},
            ["runs.one: pretrain.options: levels", "sum to 0.7", "expected 1"],
        ),
        ({"runs__one__pretrain__options": {"pool": "max"}}, ["pretrain.options: pool = 'max'", "unknown key"]),
        ({"runs__one__pretrain": {"decoupled": True}}, ["pretrain.decoupled: now pretrain.options.decoupled; move"]),
        ({"runs__one__pretrain": {"koleo": 0}}, ["pretrain.koleo: an option of wearable, not of simclr; remove it"]),
        (
            {"runs__one__recipe": "anatomy", "runs__one__pretrain": {"anatomy": {"measures": ["a"]}}},
            ["pretrain.anatomy: now pretrain.options; rename it"],
        ),
        ({"runs__one__pretrain": {"labels": ["sex"]}}, ["pretrain.labels ['sex']: recipe simclr reads no labels"]),
        (
            {"runs__one__recipe": "sogclr", "runs__one__pretrain": {"options": {"temperatures": [1, 0.1]}}},
            ["temperatures", "[1.0, 0.1]; expected [low, high]"],
        ),
        (
            {"runs__one__recipe": "byol", "runs__one__pretrain": {"options": {"rho": 0.2}}},
            ["rho: not of predictor: mlp; remove it"],
        ),
        ({"runs__one__pretrain": {"swav": {"crops": 2}}}, ["pretrain.swav: not of recipe simclr; remove it"]),
        ({"runs__one__pretrain": {"length": "equal_steps", "steps_per_epoch": 3}}, ["_epoch: 3", "remove one"]),
        ({"runs__one__pretrain__duplicates": "drop"}, ["duplicates = 'drop'", "'remove', 'mask' or 'weight'"]),
        ({"runs__one__pretrain__batch__patients": 1.5}, ["runs.one.pretrain.batch.patients = 1.5", "integer"]),
        ({"runs__one__evaluate__fractions": [0.0]}, ["runs.one.evaluate.fractions.0 = 0.0", "greater than 0"]),
        ({"runs__one__evaluate__protocols": ["probes"]}, ["probes unknown", "allowed: probe, naive_bayes"]),
        ({"modalities__ecg__split__folds": 3}, ["folds {}", "modalities.ecg.split", "write folds: {f0, f1, f2}"]),
        ({"folds": {"f0": None}}, ["folds {f0}", "folds x repeats = 0", "write folds: {}"]),
        (
            {"runs__one__encoder_from": "data/encoders/a"},
            ["encoder_from takes a trained encoder; remove recipe, encoder"],
        ),
        ({"runs__one": {"modality": "ecg", "evaluate": {}, "encoder_from": "/home/me/encoder"}}, IN_ENCODERS[1:]),
        (
            {"release__ecg-small": {"run": "two", "licence": "MIT"}},
            ["release.ecg-small.run 'two' is not", "allowed: one"],
        ),
        ({"release__ecg-small": {"run": "one"}}, ["release.ecg-small.licence: Field required"]),
        ({"release__ecg-small": {"run": "one", "licence": ""}}, ["release.ecg-small.licence", "at least 1 character"]),
        ({"release__runs/ecg": {"run": "one", "licence": "MIT"}}, ["release.'runs/ecg'", "letters, digits, - and _"]),
        (
            {
                "release__ecg-small": {"run": "one", "licence": "MIT"},
                "runs__one": {"modality": "ecg", "evaluate": {}, "encoder_from": "a:b"},
            },
            ["release.ecg-small.run 'one' takes a trained encoder", "name a run with a recipe"],
        ),
        (
            {
                "release__ecg-small": {"run": "one", "licence": "MIT"},
                "modalities__ecg__dedup": {"method": "beats", "scope": "global"},
            },
            ["release.ecg-small: modalities.ecg.dedup compares training patients", "take scope volume or patient"],
        ),
        ({"runs__one": {"modality": "ecg", "evaluate": {}}}, ["recipe, encoder missing; give them, or encoder_from"]),
    ],
)
def test_a_mistake_is_one_line_with_key_value_and_what_is_allowed(change: dict[str, Any], words: list[str]) -> None:
    assert_refused(change, words)


def test_an_encoder_to_hand_on_names_run_and_licence() -> None:
    assert parse().release == {}
    made = parse(**{"release__ecg-small": {"run": "one", "licence": "CC-BY-4.0"}}).release["ecg-small"]
    assert (made.run, made.licence, made.cite) == ("one", "CC-BY-4.0", "")


def test_folds_are_as_many_as_the_cohort_with_most_needs() -> None:
    made = parse(
        modalities__ecg__split__folds=2, modalities__ecg__split__repeats=2, folds={f"f{n}": None for n in range(4)}
    )
    assert list(made.folds) == ["f0", "f1", "f2", "f3"]


def test_every_protocol_that_waits_to_be_asked_for_can_be() -> None:
    assert config.evaluate_of({"protocols": ASKED}).protocols == ASKED
    assert not any(config.Evaluate().asked(name) for name in ASKED)


@pytest.mark.parametrize("reference", ["data/encoders/a", "runs:/0a1b/encoder", "models:/m@champion", "mine:network"])
def test_an_encoder_from_elsewhere_needs_no_recipe(reference: str) -> None:
    made = parse(runs__one={"modality": "ecg", "evaluate": {"labels": ["a"]}, "encoder_from": reference})
    assert (made.runs["one"].encoder_from, made.runs["one"].recipe) == (reference, "")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({}, "name at least one"),
        ({"measures": ["a"], "kernel": "local"}, "kernel: local compares regions; name them"),
        ({"measures": ["a"], "kernel": "equal", "scale": "standard"}, "remove scale: standard"),
        ({"measures": ["a", "b"], "kernel": "equal"}, "compares one code"),
        ({"measures": ["a"], "scale": "minmax"}, "scale: minmax is over the regions"),
        (
            {"measures": ["a"], "regions": ["*"], "kernel": "global", "mapping": "raw"},
            "mapping: raw would give negative",
        ),
        ({"measures": ["a"], "at_least": 2}, "at_least: 2 of 1 measures can never be known"),
        ({"measures": ["a"], "factors": [{}]}, "factors.0.measures: name at least one"),
        ({"measures": ["a"], "corrected": ["b"]}, "corrected ['b']: expected some of measures ['a']"),
    ],
)
def test_factors_of_the_anatomy_recipe(options: dict[str, Any], words: str) -> None:
    with pytest.raises(config.ConfigError) as caught:
        parse(runs__one__recipe="anatomy", runs__one__pretrain={"options": options})
    assert words in str(caught.value)


def test_options_are_those_of_the_recipe() -> None:
    options = {"measures": ["mm"], "regions": ["lh_*"], "kernel": "local", "corrected": ["mm"]}
    run = parse(runs__one__recipe="anatomy", runs__one__pretrain={"options": options}).runs["one"]
    assert isinstance(run.pretrain.options, config.Anatomy)
    assert run.reads() == ("lh_*_mm", "intracranial_mm3")
    assert run.model_dump()["pretrain"]["options"]["kernel"] == "local"
    assert parse().runs["one"].reads() == ()
    # Sections made in Python are checked by the recipe too.
    plain = config.Run(**RUN | {"recipe": "byol", "pretrain": config.Pretrain(lr=0.5)})
    assert (type(plain.pretrain.options), plain.pretrain.lr) == (config.OPTIONS["byol"], 0.5)
    with pytest.raises(ValueError, match=r"pretrain\.options: .*Byol"):
        config.Run(**RUN | {"recipe": "byol", "pretrain": config.Pretrain(options=config.OPTIONS["swav"]())})


def test_a_missing_key_is_named() -> None:
    broken = raw()
    del broken["modalities"]["ecg"]["ingest"]["unit"]
    with pytest.raises(config.ConfigError, match=r"modalities\.ecg\.ingest: unit: Field required"):
        config.parse(yaml.safe_dump(broken))


@pytest.mark.parametrize(("key", "ingest"), [("ecg", VOLUME), ("ct", SIGNAL)])
def test_ingest_of_the_other_kind_is_told_about_its_own_keys_only(key: str, ingest: dict[str, Any]) -> None:
    with pytest.raises(config.ConfigError) as caught:
        parse(**{f"modalities__{key}": {"source": {"root": "x"}, "ingest": ingest}})
    assert f"modalities.{key}.ingest" in str(caught.value)
    assert "Ingest." not in str(caught.value)


@pytest.mark.parametrize("text", ["", "- a\n- b", "3", "a: [1", "\tx: 1"])
def test_text_that_is_no_params_file(text: str) -> None:
    with pytest.raises(config.ConfigError, match=r"^here\.yaml: (not valid YAML|expected sections)") as caught:
        config.parse(text, "here.yaml")
    assert "\n" not in str(caught.value)


def test_a_key_that_stands_twice() -> None:
    for text, key in (("seed: 1\nseed: 2\n", "seed"), ("runs:\n  a: {lr: 1, lr: 2}\n", "lr"), ("{a: 1, 'a': 2}", "a")):
        with pytest.raises(config.ConfigError, match=rf"^params\.yaml: not valid YAML: key {key} stands twice"):
            config.parse(text)
    # A section that takes another as its base may replace its values, and twice the same word in two sections is none.
    text = yaml.safe_dump(raw())
    assert config.parse(f"compute: {{<<: {{devices: 3, nodes: 2}}, devices: 1}}\n{text}").compute.nodes == 2


def test_a_file_in_another_encoding(tmp_path: Path) -> None:
    path = tmp_path / "params.yaml"
    path.write_bytes("# größe\nseed: 1\n".encode("latin-1"))
    with pytest.raises(config.ConfigError, match=r"params\.yaml: byte 4 is not UTF-8; save the file as UTF-8"):
        config.load(path)


def test_keys_that_stages_name() -> None:
    stages = {
        "one": {"cmd": "x ${tracking.uri}", "params": ["seed", {"other.yaml": ["a"]}]},
        "many": {"foreach": "${runs}", "do": {"deps": ["${item.modality}/${key}"], "params": ["runs.${key}.pretrain"]}},
        "grid": {"matrix": {"a": [1, 2]}, "params": ["b"]},
        "list": {"foreach": ["a", "b"], "do": {"params": ["c"]}},
    }
    written = {"runs": {"r": {"modality": "ecg"}}}
    keys = config.stages.named(stages, written)
    assert keys == ["seed", "tracking.uri", "runs", "runs.r.pretrain", "runs.r.modality"]
    params = parse(runs__r=RUN)
    left = config.stages.left_out({"stages": stages, "vars": ["own.yaml"]}, written, params)
    assert left == [("seed", 1), ("tracking.uri", None), ("runs.r.pretrain", {})]
    assert config.stages.to_add(left) == "seed: 1; under tracking: uri: null; under runs.r: pretrain: {}"
    assert config.stages.left_out({"stages": {"a": stages["many"]}, "vars": [{"runs": {}}]}, {}, params) == []


def test_obstacles_of_a_file_that_is_no_pipeline(tmp_path: Path) -> None:
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(raw()))
    (first, *roots) = config.obstacles(tmp_path / "params.yaml")  # by the package's dvc.yaml
    assert "modalities.ecg.dedup, modalities.mri-x.dedup" in first
    assert [line.partition(":")[0] for line in roots] == ["modalities.ecg.source.root", "modalities.mri-x.source.root"]
    (tmp_path / "dvc.yaml").write_text("stages: [\n")
    with pytest.raises(config.ConfigError, match=r"dvc\.yaml: not valid YAML"):
        config.obstacles(tmp_path / "params.yaml")
    (tmp_path / "dvc.yaml").write_text("stages: {}\n")
    assert (
        config.obstacles(tmp_path / "params.yaml")[-1]
        == f"{tmp_path}/data/encoders: dvc.yaml lists this folder; make it"
    )


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(config.ConfigError, match="no such file"):
        config.load(tmp_path / "params.yaml")


def test_part() -> None:
    params = parse()
    assert config.part(params, "runs", "one").recipe == "simclr"
    with pytest.raises(config.ConfigError, match=r"runs\.two: no such entry; allowed: one"):
        config.part(params, "runs", "two")


def test_the_shipped_files_are_valid() -> None:
    root = Path(config.__file__).parents[2]
    for name in ("params.yaml", "params.real.yaml"):
        assert config.load(root / name).runs


def test_words_of_a_params_file_are_words() -> None:
    """Older YAML takes some for truth values; DVC does not."""
    read = config._mapping("{on: 1, off: 0.5, yes: [no, y], t: true, f: false}", "params.yaml")
    assert read == {"on": 1, "off": 0.5, "yes": ["no", "y"], "t": True, "f": False}
