"""The scripts of a shell complete commands, files, runs of params.yaml and ready encoders."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from medssl import cli, hub

PARAMS = "modalities:\n  ecg: {}\nruns:\n  # a comment\n  ecg-a:\n    modality: ecg\n  ecg_b: {}\nrelease:\n  c: {}\n"


@pytest.fixture(scope="module")
def script(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("shell") / "medssl.bash"
    words = [sys.executable, "-m", "medssl.cli", "completion", "bash"]
    path.write_text(subprocess.run(words, capture_output=True, text=True, check=True).stdout)
    return path


def completed(script: Path, folder: Path, *words: str) -> set[str]:
    """Return what bash offers for the last of the words."""
    line = " ".join(words)
    ask = (
        f"source {script}; COMP_WORDS=({' '.join(repr(w) for w in words)}); COMP_CWORD={len(words) - 1}; "
        f'COMP_LINE="{line}"; COMP_POINT={len(line)}; _shtab_medssl; printf "%s\\n" "${{COMPREPLY[@]}}"'
    )
    done = subprocess.run(["bash", "-c", ask], capture_output=True, text=True, check=True, cwd=folder)
    return {word.strip() for word in done.stdout.splitlines()} - {""}


def test_bash(script: Path, tmp_path: Path) -> None:
    (tmp_path / "params.yaml").write_text(PARAMS)
    (tmp_path / "mine").mkdir()
    assert {"completion", "compare"} <= completed(script, tmp_path, "medssl", "comp")
    assert completed(script, tmp_path, "medssl", "compare", "e") == {"ecg-a", "ecg_b"}
    assert completed(script, tmp_path, "medssl", "tune", "") == {"ecg-a", "ecg_b"}
    assert completed(script, tmp_path, "medssl", "card", "") == {*hub.ready(), "mine"}
    assert completed(script, tmp_path, "medssl", "embed", "--encoder", "ecg-s") == {"ecg-small", "ecg-single-small"}
    assert "params.yaml" in completed(script, tmp_path, "medssl", "check", "par")
    assert completed(script, tmp_path, "medssl", "export", "x", "--to", "") >= {"onnx", "monai"}
    (tmp_path / "params.yaml").unlink()
    assert completed(script, tmp_path, "medssl", "tune", "") == set()


@pytest.mark.parametrize("shell", ["bash", "zsh", "tcsh"])
def test_every_shell_has_a_script(capsys: pytest.CaptureFixture[str], shell: str, tmp_path: Path) -> None:
    assert cli.main(["completion", shell]) == 0
    script = capsys.readouterr().out
    assert "resync" in script and "params.yaml" in script
    if program := shutil.which(shell):
        (tmp_path / "script").write_text(script)
        subprocess.run([program, "-n", str(tmp_path / "script")], check=True)
