"""Photograph what users look at, for README and pages: ``python docs/pictures.py PROJECT`` after ``make repro`` there.

Needs Playwright and Chromium. Pictures go to ``docs/pictures``, each below 200 kB.
"""

import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from typing import Any

from PIL import Image
from playwright.sync_api import sync_playwright

OUT = Path(__file__).parent / "pictures"
RUN = "ecg-comet"
MOST = 200_000


def small(path: Path) -> None:
    """Reduce the colours of a picture until it is small enough."""
    for colours in (256, 128, 64, 32):
        if path.stat().st_size < MOST:
            return
        Image.open(path).convert("RGB").quantize(colours).save(path, optimize=True)
    raise SystemExit(f"{path}: {path.stat().st_size} bytes; expected less than {MOST}: photograph less of it")


def report(page: Any, project: Path) -> None:
    """Photograph the head of the report."""
    page.goto((project / "data/report/report.html").resolve().as_uri())
    page.wait_for_load_state()
    page.screenshot(path=OUT / "report.png")


def runs(page: Any, project: Path) -> None:
    """Photograph the list of runs in MLflow."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    words = [sys.executable, "-u", "-m", "pipeline.ui", str(port)]
    server = subprocess.Popen(words, cwd=project, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    try:
        assert server.stdout is not None
        address = server.stdout.readline().split("MLflow UI on ")[1].split()[0]
        for _ in range(240):
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=2):
                    break
            except OSError:
                time.sleep(0.5)
        page.goto(address if "#" in address else f"{address}/#/experiments/1/runs")
        page.wait_for_selector(f"text={RUN}", timeout=120_000)  # the table fills after its head is there
        for label in ("Close", "Collapse sidebar"):  # what MLflow shows beside it
            button = page.get_by_role("button", name=label, exact=True)
            if button.count():
                button.first.click()
        page.wait_for_timeout(1000)
        page.screenshot(path=OUT / "mlflow.png")
    finally:
        server.terminate()
        server.wait()


def explorer(page: Any, project: Path) -> None:
    """Photograph the explorer of a run, where `medssl explore` has made it."""
    made = project / f"data/explore/{RUN}.html"
    if not made.is_file():
        print(f"{made}: not there; make it with `medssl explore {RUN}`")
        return
    page.goto(made.resolve().as_uri())
    page.wait_for_timeout(2000)
    page.screenshot(path=OUT / "explorer.png")


def main(project: Path) -> None:
    """Write all pictures."""
    OUT.mkdir(exist_ok=True)
    with sync_playwright() as tool:
        browser = tool.chromium.launch(executable_path="/usr/bin/chromium", args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1280, "height": 720})
        for take in (report, runs, explorer):
            take(page, project)
        browser.close()
    for path in OUT.glob("*.png"):
        small(path)
        print(f"{path}: {path.stat().st_size} bytes")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
