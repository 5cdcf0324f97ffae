import json
import os
import subprocess
from pathlib import Path

import pytest

from benchmarks import timing


def where(module: str) -> dict[str, object]:
    import importlib

    print("what a library prints is no answer")
    return {"file": str(importlib.import_module(module).__file__), "pid": os.getpid()}


def held(megabytes: int) -> dict[str, float]:
    import numpy as np

    work = timing.measured(lambda: np.ones(megabytes * 2**17).sum())
    return {"sum": work.result, "gigabytes": work.gigabytes}


def wrong() -> dict[str, float]:
    raise ValueError("no such size")


def test_a_process_measures_the_tree_it_is_given(tmp_path):
    (tmp_path / "medssl").mkdir()
    (tmp_path / "medssl" / "__init__.py").write_text("")
    with timing.Process(tmp_path) as earlier, timing.Process() as ours:
        first, second = earlier(where, "medssl"), ours(where, "medssl")
        assert Path(first["file"]).is_relative_to(tmp_path)
        assert Path(second["file"]).is_relative_to(timing.ROOT)
        assert earlier(where, "medssl")["pid"] == first["pid"] != second["pid"]  # imports are paid once
        with pytest.raises(timing.Failed, match="ValueError: no such size"):
            ours(wrong)
        assert ours(where, "medssl")["pid"] == second["pid"]  # and it goes on


def test_memory_is_counted_above_what_was_held():
    with timing.Process() as process:
        process(held, 1)
        large, small = process(held, 300), process(held, 100)
    assert large["sum"] == 300 * 2**17
    assert large["gigabytes"] == pytest.approx(0.315, rel=0.1)
    assert small["gigabytes"] == pytest.approx(0.105, rel=0.1)


def test_an_ended_process_is_a_failure():
    with pytest.raises(timing.Failed, match="ended with 3"):
        timing.apart(os_exit)


def os_exit() -> dict[str, float]:
    os._exit(3)


def test_rounds_take_turns_and_ratios_are_within_them():
    order: list[str] = []
    found = timing.in_turns({name: lambda name=name: order.append(name) or len(order) for name in "ab"}, 3)
    assert "".join(order) == "abbaab"
    assert found == {"a": [1, 4, 5], "b": [2, 3, 6]}
    assert timing.ratio([1, 20, 9], [2, 10, 3]) == 2


def test_the_last_line_is_json(capsys):
    show = timing.table("", "seconds")
    show("a", 0.123456)
    timing.last_line({"speed": 2.718281828, "rows": 3})
    lines = capsys.readouterr().out.splitlines()
    assert lines[1].split() == ["a", "0.1235"]
    assert json.loads(lines[-1]) == {"speed": 2.718, "rows": 3}


def test_a_revision_is_the_package_alone(tmp_path, monkeypatch):
    monkeypatch.setattr(timing, "ROOT", tmp_path)
    (tmp_path / "medssl").mkdir()
    (tmp_path / "medssl" / "__init__.py").write_text("FIRST = True\n")
    (tmp_path / "README.md").write_text("")
    git = ["git", "-C", str(tmp_path), "-c", "user.name=a", "-c", "user.email=a@b"]
    for words in (["init", "-q"], ["add", "."], ["commit", "-q", "-m", "first"]):
        subprocess.run([*git, *words], check=True)
    (tmp_path / "medssl" / "__init__.py").write_text("FIRST = False\n")
    with timing.revision("HEAD") as tree:
        assert [path.name for path in tree.iterdir()] == ["medssl"]
        assert (tree / "medssl" / "__init__.py").read_text() == "FIRST = True\n"
    assert not tree.exists()
    with pytest.raises(SystemExit, match="no-such-commit"), timing.revision("no-such-commit"):
        pass
