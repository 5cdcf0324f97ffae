"""The documentation: it builds without a warning, its links lead somewhere, its values are accepted, search finds."""

import functools
import http.server
import json
import os
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest
import yaml

from medssl import config
from tests.pages import ROOT, Block, blocks


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("site")
    words = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(out)]
    environment = os.environ | {"NO_MKDOCS_2_WARNING": "1", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(words, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "WARNING" not in done.stderr
    return out


class Page(HTMLParser):
    """Names of a page that links can lead to, the links themselves, and what a browser fetches for it."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.ids: set[str] = set()
        self.links: list[str] = []
        self.fetched: list[str] = []
        self.feed(path.read_text("utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = {key: value or "" for key, value in attrs}
        self.ids |= {found[key] for key in ("id", "name") if key in found}
        if tag == "a" and "href" in found:
            self.links.append(found["href"])
        if "src" in found or (tag == "link" and found.get("rel") != "canonical"):
            self.fetched.append(found.get("src") or found.get("href", ""))


def test_every_link_of_the_site_leads_somewhere(site: Path) -> None:
    pages = {path: Page(path) for path in site.rglob("*.html") if path.name != "404.html"}
    assert len(pages) > 25
    lost = []
    for path, page in pages.items():
        for link in page.links:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            there = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            there = there / "index.html" if there.is_dir() else there
            if not there.is_file() or (
                parts.fragment and there in pages and unquote(parts.fragment) not in pages[there].ids
            ):
                lost.append(f"{path.relative_to(site)}: {link}")
    assert not lost


def test_the_site_fetches_nothing_from_elsewhere(site: Path) -> None:
    for path in site.rglob("*.html"):
        assert not [place for place in Page(path).fetched if urlsplit(place).netloc], path


def test_links_of_the_readme_lead_to_files_and_headings() -> None:
    for link in re.findall(r"\]\(([^)]+)\)", (ROOT / "README.md").read_text("utf-8")):
        parts = urlsplit(link)
        if parts.scheme:
            continue
        assert (ROOT / parts.path).is_file(), link
        if parts.fragment:
            headings = re.findall(r"^#+ (.+)$", (ROOT / parts.path).read_text("utf-8"), re.M)
            assert parts.fragment in {re.sub(r"[^\w -]", "", h).lower().replace(" ", "-") for h in headings}, link


def test_the_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text("utf-8").splitlines()) < 150


def test_pictures_are_small() -> None:
    for path in (ROOT / "docs/pictures").glob("*.png"):
        assert path.stat().st_size < 200_000, path


def test_reference_and_search_know_names_of_the_package(site: Path) -> None:
    found = {entry["location"] for entry in json.loads((site / "search/search_index.json").read_text())["docs"]}
    for name in ("medssl.hub.load_encoder", "medssl.objectives.anatomy.y_aware", "medssl.curate.dedup.greedy"):
        assert [place for place in found if place.endswith(f"#{name}")], name
    page = (site / "reference/params/index.html").read_text()
    for key in ("window_s", "hu_window", "min_per_patient", "monitor_label", "finetune_loss", *config.OPTIONS):
        assert re.search(rf"\b{key}\b", page), key
    commands = (site / "reference/commands/index.html").read_text()
    for name in ("check", "ingest", "embed", "compare", "card", "tune"):
        assert f'id="medssl-{name}"' in commands


def test_notebooks_are_numbered_and_share_no_function() -> None:
    paths = sorted((ROOT / "notebooks").glob("*.ipynb"))
    assert [int(path.name[:2]) for path in paths] == list(range(1, len(paths) + 1))
    source = ["".join(cell["source"]) for path in paths for cell in json.loads(path.read_text("utf-8"))["cells"]]
    names = [name for text in source for name in re.findall(r"^(?:def|class) (\w+)", text, re.M)]
    assert len(names) == len(set(names))


def merged(base: Any, change: Any) -> Any:
    """Return nested mappings with those of a change in them."""
    if not isinstance(base, dict) or not isinstance(change, dict):
        return change
    return base | {key: merged(base.get(key), value) for key, value in change.items()}


@pytest.mark.parametrize("block", blocks("yaml"), ids=lambda block: f"{block.page}: {block.text[:40]!r}")
def test_values_are_accepted_in_the_default_params(block: Block) -> None:
    base = yaml.safe_load((ROOT / "params.yaml").read_text())
    change = yaml.safe_load(block.text)
    whole = merged(base, change)
    for key in change.get("modalities", {}):  # a section of alternatives is given as a whole
        for part in ("dedup", "split"):
            if part in change["modalities"][key]:
                whole["modalities"][key][part] = change["modalities"][key][part]
    config.parse(yaml.safe_dump(whole), block.page)


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def address(site: Path) -> Iterator[str]:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(site)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()


@pytest.mark.skipif(shutil.which("chromium") is None, reason="Chromium is not installed")
def test_search_finds_and_stays_on_this_machine(address: str) -> None:
    playwright = pytest.importorskip("playwright.sync_api")
    elsewhere: list[str] = []
    with playwright.sync_playwright() as tool:
        browser = tool.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        page = browser.new_page()
        page.on("request", lambda r: None if r.url.startswith((address, "data:", "blob:")) else elsewhere.append(r.url))
        page.goto(address)
        page.locator("[data-md-component=search-query]").click()
        page.keyboard.type("dhash")
        hit = page.locator(".md-search-result__link").first
        hit.wait_for()
        assert "dhash" in page.locator(".md-search-result__list").inner_text().lower()
        hit.click()
        page.wait_for_url("**/*h=*")
        assert "dhash" in page.locator("article").inner_text()
        browser.close()
    assert not elsewhere
