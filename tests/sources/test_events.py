"""Labels in time: which class covers a window, against a loop over moments; tables of events; sets that have them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import edfio
import numpy as np
import pytest

from medssl.config import SignalIngest
from medssl.ingest.build import build
from medssl.sources import events, list_records
from medssl.sources.record import BadRecord, Record, SourceError

CLASSES = {"a": ("state", "rest"), "b": ("state", "work"), "bb": ("state", "work"), "x": ("other", "yes")}


def record(path: Path | None, **more: object) -> Record:
    return replace(Record(Path("x.edf"), "edf", "p", "t", events=path, event_labels=CLASSES), **more)  # type: ignore[arg-type]


def table(path: Path, rows: list[tuple[object, object, str]]) -> Path:
    lines = ["onset\tduration\ttrial_type", *(f"{on}\t{long}\t{text}" for on, long, text in rows)]
    path.write_text("\n".join(lines) + "\n")
    return path


def write_edf(path: Path, seconds: int, stages: list[tuple[float, float, str]], rate: int = 20) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = 20 * np.random.default_rng(0).standard_normal(seconds * rate)
    signals = [edfio.EdfSignal(noise, rate, label="EEG Fpz-Cz", physical_dimension="uV", physical_range=(-300, 300))]
    notes = [edfio.EdfAnnotation(on, long, text) for on, long, text in stages]
    edfio.Edf(signals, annotations=notes).write(path)


@pytest.mark.parametrize("seed", range(8))
def test_a_window_has_the_class_that_covers_most_of_it(tmp_path: Path, seed: int) -> None:
    draw = np.random.default_rng(seed)
    rows, at = [], 0
    for _ in range(40):  # whole seconds, so that moments in the middle of each tell all
        at = max(0, at + int(draw.integers(-4, 3)))  # some overlap
        long = int(draw.integers(0, 9))
        rows.append((at, long, str(draw.choice(["a", "b", "bb", "unknown", "x"]))))
        at += long
    starts = np.arange(0.0, at + 10, float(draw.integers(1, 5)))
    window_s = float(draw.integers(2, 12))
    found = events.labels_of(record(table(tmp_path / "e.tsv", rows)), starts, window_s)
    assert found.keys() == {"other", "state"}
    for task, classes in found.items():
        for start, label in zip(starts, classes, strict=True):
            counts: dict[str, int] = {}
            for moment in np.arange(start, start + window_s) + 0.5:
                now = {CLASSES.get(text, ("", "")) for on, long, text in rows if on <= moment < on + long}
                for of, name in now:
                    if of == task:
                        counts[name] = counts.get(name, 0) + 1
            most = max(counts.values(), default=0)
            if label is None:
                assert most < window_s / 2
            else:
                assert counts[label] == most >= window_s / 2


def test_time_that_two_readers_mark_counts_once(tmp_path: Path) -> None:
    rows = [(0.0, 3.0, "b"), (0.0, 3.0, "b"), (1.0, 2.5, "bb"), (3.5, 5.0, "a")]
    found = events.labels_of(record(table(tmp_path / "e.tsv", rows)), np.zeros(1), 10.0)
    assert found["state"] == ["rest"]  # 5 s against 3.5 s


def test_without_events_there_are_no_tasks(tmp_path: Path) -> None:
    assert events.labels_of(record(None), np.zeros(1), 1) == {}
    path = table(tmp_path / "e.tsv", [(0, 1, "a")])
    assert events.labels_of(record(path, event_labels={}), np.zeros(1), 1) == {}
    assert events.labels_of(record(path), np.zeros(0), 1) == {"other": [], "state": []}


def test_tables_of_events(tmp_path: Path) -> None:
    path = table(tmp_path / "e.tsv", [(5.5, "n/a", "b"), (1, 2, " a "), ("n/a", 1, "a"), (7, -3, "a")])
    assert [(e.onset_s, e.duration_s, e.text) for e in events.read(path)] == [(1, 2, "a"), (5.5, 0, "b"), (7, 0, "a")]


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("none.tsv", None, "missing_file"),
        ("e.tsv", "onset\tduration\n1\t2\n", "unreadable"),
        ("e.json", "{}", "unsupported"),
        ("e.edf", "Doe, Jane", "unreadable"),
    ],
)
def test_files_of_events_that_cannot_be_read(tmp_path: Path, name: str, content: str | None, reason: str) -> None:
    if content is not None:
        (tmp_path / name).write_text(content)
    with pytest.raises(BadRecord) as caught:
        events.read(tmp_path / name)
    assert caught.value.reason == reason
    with pytest.raises(BadRecord, match="bad_events") as caught:
        events.labels_of(record(tmp_path / name), np.zeros(1), 1)
    assert "Doe" not in str(caught.value) and "none" not in str(caught.value)


def test_stages_of_sleep_reach_the_samples(tmp_path: Path) -> None:
    night = tmp_path / "raw/sleep-cassette"
    scored = [
        (0, 60, "Sleep stage W"),
        (60, 30, "Sleep stage 1"),
        (90, 60, "Sleep stage 4"),
        (150, 30, "Movement time"),
    ]
    write_edf(night / "SC4001E0-PSG.edf", 210, [])
    write_edf(night / "SC4001EC-Hypnogram.edf", 1, [*scored, (180, 30, "Sleep stage R"), (180, 30, "Doe, Jane")])
    write_edf(night / "SC4011E0-PSG.edf", 60, [])
    records = list_records("sleep_edf", tmp_path / "raw")
    assert [r.events is not None for r in records] == [True, False]
    params = SignalIngest(rate_hz=20, channels=("Fpz-Cz",), unit="uV", window_s=30)
    made = build(records, tmp_path / "store", key="eeg", params=params, secret=b"0" * 32, progress=False)
    one = made.table[made.table["label_night"].notna() & (made.table["trial"] == made.table["trial"][0])]
    assert [None if s != s else s for s in one["label_stage"]] == ["wake", "wake", "n1", "n3", "n3", None, "rem"]
    assert made.table["label_stage"].notna().sum() == 6
    assert "Jane" not in made.table.to_json()


def test_a_night_with_damaged_stages_is_refused_and_the_next_is_not(tmp_path: Path) -> None:
    night = tmp_path / "raw/sleep-cassette"
    write_edf(night / "SC4001E0-PSG.edf", 60, [])
    (night / "SC4001EC-Hypnogram.edf").write_bytes(b"0" * 500)
    write_edf(night / "SC4011E0-PSG.edf", 60, [])
    params = SignalIngest(rate_hz=20, channels=("Fpz-Cz",), unit="uV", window_s=30)
    records = list_records("sleep_edf", tmp_path / "raw")
    made = build(records, tmp_path / "store", key="eeg", params=params, secret=b"0" * 32, progress=False)
    assert (len(made), made.rejects["reason"].tolist()) == (2, ["bad_events"])


@pytest.mark.parametrize(("run", "second"), [("03", "left_fist"), ("06", "both_fists"), ("01", None)])
def test_movements_of_eegmmidb(tmp_path: Path, run: str, second: str | None) -> None:
    path = tmp_path / f"S001/S001R{run}.edf"
    write_edf(path, 12, [(0, 4, "T0"), (4, 4, "T1"), (8, 4, "T2")])
    [found] = list_records("eegmmidb", tmp_path)
    labels = events.labels_of(found, np.array([0.0, 4, 6, 8]), 4)
    if second is None:
        assert labels == {}
    else:
        assert labels["movement"][:2] == ["rest", second]
        assert labels["movement"][2] in (second, labels["movement"][3])  # half and half


def test_manifest_names_events(tmp_path: Path) -> None:
    write_edf(tmp_path / "a.edf", 4, [])
    table(tmp_path / "a.tsv", [(0, 2, "go"), (2, 2, "no")])
    (tmp_path / "manifest.csv").write_text("path,patient,trial,events\na.edf,p,t,a.tsv\na.edf,p,u,\n")
    refused, plain = list_records("manifest", tmp_path)
    assert refused.hints["refused"][0] == "bad_events"
    assert "refused" not in plain.hints
    (tmp_path / "event_labels.csv").write_text("text,task,class\n,,\ngo,label_hand,moved\n")
    found, plain = list_records("manifest", tmp_path)
    assert events.labels_of(found, np.array([0.0, 2.0]), 2) == {"hand": ["moved", None]}
    assert plain.events is None and not plain.event_labels
    (tmp_path / "event_labels.csv").write_text("text,task,class\ngo,hand,moved\n,,\ngo,foot,moved\n")
    with pytest.raises(SourceError, match="one text is there twice, in rows 1 and 3"):
        list_records("manifest", tmp_path)
    (tmp_path / "event_labels.csv").write_text("text,task,class\n,,\ngo,label_,moved\n")
    with pytest.raises(SourceError, match="row 2 lacks its text, task or class"):
        list_records("manifest", tmp_path)
    (tmp_path / "event_labels.csv").write_text("text,class\ngo,moved\n")
    with pytest.raises(SourceError, match="task"):
        list_records("manifest", tmp_path)


def test_events_outside_the_folder_are_refused(tmp_path: Path) -> None:
    (inner := tmp_path / "inner").mkdir()
    table(tmp_path / "a.tsv", [(0, 2, "go")])
    (inner / "event_labels.csv").write_text("text,task,class\ngo,hand,moved\n")
    (inner / "manifest.csv").write_text("path,patient,trial,events\na.edf,p,t,../a.tsv\n")
    [found] = list_records("manifest", inner)
    assert found.hints["refused"][0] == "outside_folder"


def test_bids_events_need_the_table_of_classes(tmp_path: Path) -> None:
    eeg = tmp_path / "sub-1/eeg"
    write_edf(eeg / "sub-1_task-a_eeg.edf", 4, [])
    table(eeg / "sub-1_task-a_events.tsv", [(0, 2, "go"), (2, 2, "Doe, Jane")])
    [found] = list_records("bids", tmp_path)
    assert found.events is None
    (tmp_path / "event_labels.csv").write_text("text,task,class\ngo,hand,moved\n")
    [found] = list_records("bids", tmp_path)
    assert events.labels_of(found, np.array([0.0, 2.0]), 2) == {"hand": ["moved", None]}
