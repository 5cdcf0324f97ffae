"""A frame of the explorer's map of 20,000 samples while it is moved, against circles of an SVG in the same page.

    python benchmarks/explorer.py [--samples 20000] [--frames 40] [--rounds 5]

Needs Chromium and playwright. Frames are what the browser shows, so none is shorter than its screen's. The last line is
JSON.
"""

from __future__ import annotations

import argparse
import functools
import shutil
import statistics
import tempfile
from pathlib import Path

import numpy as np

from benchmarks.timing import in_turns, last_line, measured, ratio, table

CHANNELS, PATIENTS = 3, 4000

# The obvious alternative: an element a point, all moved by the group they are in.
SVG = """() => {
  const { data, map } = explorer, holder = document.getElementById("map"), name = "http://www.w3.org/2000/svg";
  const svg = document.createElementNS(name, "svg"), group = document.createElementNS(name, "g");
  svg.setAttribute("style", "position: absolute; inset: 0; width: 100%; height: 100%");
  for (let i = 0; i < data.n; i++) {
    const dot = document.createElementNS(name, "circle"), [x, y] = map.screen(i);
    for (const [key, value] of [["cx", x], ["cy", y], ["r", 2.5], ["fill", "#3f90da"]]) dot.setAttribute(key, value);
    group.append(dot);
  }
  svg.append(group);
  window.dots = { svg, group };
  holder.append(svg);
}"""
MOVE = {
    "explorer": "(k) => explorer.map.move(k % 2 ? 7 : -7, k % 3 ? 3 : -6)",
    "SVG": "(k) => window.dots.group.setAttribute('transform', `translate(${k % 2 ? 7 : -7}, ${k % 3 ? 3 : -6})`)",
}
FRAMES = """async (frames) => {
  const frame = () => new Promise(requestAnimationFrame);
  const move = %s;
  if (window.dots) window.dots.svg.style.display = String(move).includes("dots") ? "" : "none"; // one at a time
  for (let k = 0; k < 5; k++) { move(k); await frame(); }
  const start = performance.now();
  for (let k = 0; k < frames; k++) { move(k); await frame(); }
  return (performance.now() - start) / frames / 1000;
}"""


def write(folder: Path, samples: int) -> Path:
    """Write a page of random places and traces, with a label and a number."""
    import pandas as pd

    from medssl.explore.layout import NEIGHBOURS, Layout
    from medssl.explore.page import Page
    from medssl.explore.page import write as write_page
    from medssl.explore.pictures import BYTES, POINTS, Pictures

    rng = np.random.default_rng(0)
    points = min(POINTS, BYTES // (samples * CHANNELS)) // 2 * 2
    facts = {"channels": list("abc"), "points": points, "seconds": 10.0, "unit": "SD"}
    traces = rng.integers(256, size=(samples, CHANNELS, points), dtype=np.uint8)
    blobs = {"traces": traces.tobytes(), "spans": np.ones(samples, np.float32).tobytes()}
    near = rng.integers(samples, size=(samples, NEIGHBOURS), dtype=np.uint32)
    layout = Layout(rng.uniform(-1, 1, (samples, 2)).astype(np.float32), near, np.ones(near.shape, np.float32), "UMAP")
    frame = pd.DataFrame({"sample_id": [f"{i:016x}" for i in range(samples)], "patient": np.arange(samples) % PATIENTS})
    frame = frame.assign(label_class=[f"class {i % 7}" for i in range(samples)], label_age=rng.normal(60, 10, samples))
    out = folder / "page.html"
    write_page(Page("noise", "ecg", frame, layout, Pictures("traces", "traces", facts, blobs), {}, samples), out)
    return out


def main() -> None:
    """Print megabytes, and seconds to open, to draw and a frame, and the ratio of frames."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--samples", type=int, default=20_000)
    parser.add_argument("--frames", type=int, default=40)
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    from playwright.sync_api import sync_playwright

    with tempfile.TemporaryDirectory() as folder, sync_playwright() as started:
        page = write(Path(folder), args.samples)
        browser = started.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        tab = browser.new_page(viewport={"width": 1400, "height": 900})
        opened = measured(lambda: tab.goto(page.as_uri())).seconds
        drawn = tab.evaluate(FRAMES.replace("await frame();", "explorer.map.paint();") % MOVE["explorer"], args.frames)
        tab.evaluate(SVG)
        sides = {name: functools.partial(tab.evaluate, FRAMES % move, args.frames) for name, move in MOVE.items()}
        seconds = in_turns(sides, args.rounds)
        browser.close()
        print(f"page of {args.samples} samples: {page.stat().st_size / 1e6:.1f} MB")
    show = table("", "seconds")
    show("open", opened)
    show("draw once", drawn)
    for name, value in seconds.items():
        show(f"a frame, {name}", statistics.median(value))
    last_line({"explorer_frames": ratio(seconds["SVG"], seconds["explorer"])})


if __name__ == "__main__":
    main()
