"""The page in Chromium: hover, colours, neighbours, lasso, keys, sizes, and nothing fetched from anywhere."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from medssl.explore import page as pages
from medssl.explore.layout import Layout, nearest
from medssl.explore.page import Page
from medssl.explore.pictures import draw
from medssl.store import Store

playwright = pytest.importorskip("playwright.sync_api", reason="needs playwright: pip install medssl[dev]")
CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium")

CLASS = {"healthy": (63, 144, 218), "sick": (255, 169, 14)}  # the first two colours of classes


def filled(store: Store) -> Page:
    """Return a page of points on a grid, 12 columns of 8; each patient has half a column."""
    z = np.random.default_rng(0).normal(size=(len(store), 6)).astype(np.float32)
    found, cosine = nearest(z / np.linalg.norm(z, axis=1, keepdims=True), 8)
    i = np.arange(len(store))
    xy = np.c_[2 * (i // 8) / (len(store) // 8 - 1) - 1, 2 * (i % 8) / 7 - 1].astype(np.float32)
    layout = Layout(xy, found.astype(np.uint32), cosine, "PCA")
    pictures = draw(store, np.arange(len(store)))
    return Page("toy", "ecg", store.table, layout, pictures, store.facts["anatomy_units"], len(store))


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with playwright.sync_playwright() as started:
        chromium = started.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield chromium
        chromium.close()


class Opened:
    """A page in a tab of its own, with what it asked for and what went wrong in it."""

    def __init__(self, browser: Any, file: Path, **options: Any) -> None:
        self.context = browser.new_context(**({"viewport": {"width": 1200, "height": 800}} | options))
        self.context.set_default_timeout(120_000)  # of a machine that does much else; nothing waits so long here
        self.asked: list[str] = []
        self.wrong: list[str] = []
        self.context.route("**/*", self._route)
        self.tab = self.context.new_page()
        self.tab.on("pageerror", lambda error: self.wrong.append(str(error)))
        self.tab.on("console", lambda said: said.type == "error" and self.wrong.append(said.text))
        self.tab.goto(file.as_uri())
        self.settle()

    def _route(self, route: Any) -> None:
        if route.request.url.startswith("file:"):
            route.continue_()
        else:
            self.asked.append(route.request.url)
            route.abort()

    def settle(self) -> None:
        self.tab.evaluate("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")

    def at(self, i: int) -> tuple[float, float]:
        """Return where sample i is on the screen."""
        corner = self.tab.locator("#points").bounding_box()
        x, y = self.tab.evaluate("(i) => explorer.map.screen(i)", i)
        return corner["x"] + x, corner["y"] + y

    def pixel(self, i: int) -> tuple[int, ...]:
        self.settle()
        return tuple(
            self.tab.evaluate(
                """(i) => { const canvas = document.getElementById("points");
                const ratio = canvas.width / canvas.clientWidth, [x, y] = explorer.map.screen(i);
                const place = [x, y].map((v) => Math.round(v * ratio));
                return [...canvas.getContext("2d").getImageData(...place, 1, 1).data].slice(0, 3); }""",
                i,
            )
        )

    def text(self, selector: str) -> str:
        return self.tab.locator(selector).inner_text()


@pytest.fixture
def opened(browser: Any, signal_store: Store, tmp_path: Path) -> Iterator[Opened]:
    pages.write(filled(signal_store), tmp_path / "p.html")
    page = Opened(browser, tmp_path / "p.html")
    yield page
    assert page.wrong == []
    assert page.asked == []
    page.context.close()


def near(seen: tuple[int, ...], expected: tuple[int, ...]) -> bool:
    return max(abs(a - b) for a, b in zip(seen, expected, strict=True)) <= 3


def test_points_have_the_colour_of_their_class(opened: Opened, signal_store: Store) -> None:
    assert opened.tab.locator("#colour").input_value() == "1"  # the first label of classes, not the number before it
    for i in (0, 30, 95):
        assert near(opened.pixel(i), CLASS[signal_store.table["label_disease"][i]])
    assert "healthy 48" in opened.text("#legend").replace("\n", " ")


def test_another_column_gives_other_colours(opened: Opened) -> None:
    opened.tab.select_option("#colour", label="age")
    first, last = opened.pixel(0), opened.pixel(95)  # the youngest and the oldest patient
    assert near(first, (68, 1, 84))
    assert last[1] > 180 > 140 > last[2]
    assert opened.text("#legend").split() == ["30", "45"]
    opened.tab.select_option("#colour", label="age years")  # unknown of some
    assert "unknown" in opened.text("#legend")
    assert near(opened.pixel(0), (176, 184, 193))
    opened.tab.select_option("#colour", label="patient")
    assert "Colours repeat" in opened.text("#legend")


def test_the_legend_hides_and_shows_a_class(opened: Opened) -> None:
    box = opened.tab.get_by_label("healthy")
    box.uncheck()
    assert opened.pixel(0) == (255, 255, 255)
    opened.tab.mouse.move(*opened.at(0))
    assert opened.tab.locator("#tip").is_hidden()
    box.focus()
    opened.tab.keyboard.press("Space")
    assert near(opened.pixel(0), CLASS["healthy"])


def test_hover_shows_the_trace(opened: Opened, signal_store: Store) -> None:
    opened.tab.mouse.move(*opened.at(17))
    assert opened.tab.locator("#tip").is_visible()
    assert "disease: healthy" in opened.text("#tip")
    assert signal_store.table["sample_id"][17] in opened.text("#tip")
    drawn = """() => { const c = document.querySelector("#tip canvas");
    const values = c.getContext("2d").getImageData(0, 0, c.width, c.height).data;
    return values.filter((v, k) => k % 4 === 3 && v).length }"""
    assert opened.tab.evaluate(drawn) > 200
    opened.tab.mouse.move(5, 5)
    assert opened.tab.locator("#tip").is_hidden()


def test_a_click_shows_the_nearest_neighbours(opened: Opened, signal_store: Store) -> None:
    opened.tab.mouse.click(*opened.at(40))
    ids = signal_store.table["sample_id"]
    assert ids[40] in opened.text("#details")
    found = [int(i) for i in filled(signal_store).layout.neighbours[40]]
    tiles = opened.tab.locator("#near .tile")
    assert [tile.get_attribute("title") for tile in tiles.all()] == [ids[i] for i in found]
    assert opened.tab.locator("#near .tile canvas").count() == 8
    patients = signal_store.table["patient"]
    same = int((patients[found] == patients[40]).sum())
    assert f"{same} of 8 are of the same patient" in opened.text("#near")
    assert opened.text("#near").count("· same patient") == same
    tiles.nth(2).click()
    assert ids[found[2]] in opened.text("#details")


def test_a_lasso_lists_what_it_holds(opened: Opened, signal_store: Store, tmp_path: Path) -> None:
    opened.tab.click("#lasso")
    (left, top), (right, bottom) = opened.at(15), opened.at(40)  # columns 1 to 5, all rows
    corners = [(left - 8, top - 8), (right + 8, top - 8), (right + 8, bottom + 8), (left - 8, bottom + 8)]
    opened.tab.mouse.move(*corners[0])
    opened.tab.mouse.down()
    for corner in corners[1:]:
        opened.tab.mouse.move(*corner, steps=4)
    opened.tab.mouse.up()
    chosen = signal_store.table.iloc[8:48]
    assert opened.text("#count") == f"40 samples of {chosen['patient'].nunique()} patients"
    counts = chosen["label_disease"].value_counts()
    assert f"healthy\t{counts['healthy']}\t" in opened.text("#counts")
    assert opened.tab.locator("#selection .id").all_inner_texts() == list(chosen["sample_id"])
    assert near(opened.pixel(8), CLASS["healthy"])  # what is selected keeps its colour, what is not fades
    assert not near(opened.pixel(0), CLASS["healthy"])
    with opened.tab.expect_download() as waited:
        opened.tab.click("text=Download CSV")
    waited.value.save_as(tmp_path / "s.csv")
    lines = (tmp_path / "s.csv").read_text().splitlines()
    assert lines[0].startswith("sample_id,label_age,label_disease,label_findings,label_state,anat_age_years")
    assert len(lines) == 41
    assert lines[1].startswith(f"{chosen['sample_id'].iloc[0]},31,healthy,")
    opened.context.grant_permissions(["clipboard-read", "clipboard-write"])
    opened.tab.click("text=Copy sample ids")
    playwright.expect(opened.tab.locator("#said")).to_have_text("40 ids copied")
    assert opened.tab.evaluate("navigator.clipboard.readText()").split("\n") == list(chosen["sample_id"])
    opened.tab.click("#selection >> text=Clear")
    assert "Nothing is selected" in opened.text("#selection")


def test_a_value_of_a_sample_selects_its_like(opened: Opened, signal_store: Store) -> None:
    opened.tab.mouse.click(*opened.at(3))
    code = f"{signal_store.table['patient'][3]:016x}"
    opened.tab.click(f"#details >> text={code}")
    assert opened.text("#count") == "6 samples of 1 patient"


def test_dragging_moves_and_the_wheel_zooms_about_the_pointer(opened: Opened) -> None:
    x, y = opened.at(40)
    opened.tab.mouse.move(x, y)
    opened.tab.mouse.wheel(0, -400)
    opened.settle()
    assert opened.at(40) == pytest.approx((x, y), abs=1)  # the wheel is told whole pixels
    assert opened.at(0)[0] < x - 300
    opened.tab.mouse.down()
    opened.tab.mouse.move(x + 60, y + 20, steps=3)
    opened.tab.mouse.up()
    assert opened.at(40) == pytest.approx((x + 60, y + 20), abs=1)
    assert "Of no sample yet" in opened.text("#near")  # a drag is no click


def test_keys_do_what_the_mouse_does(opened: Opened, signal_store: Store) -> None:
    for _ in range(30):  # to the map by the tabulator alone
        opened.tab.keyboard.press("Tab")
        if opened.tab.evaluate("document.activeElement.id") == "points":
            break
    assert opened.tab.evaluate("document.activeElement.id") == "points"
    before = opened.at(40)
    for key, moved in (("ArrowRight", (-40, 0)), ("ArrowUp", (-40, 40)), ("ArrowLeft", (0, 40)), ("ArrowDown", (0, 0))):
        opened.tab.keyboard.press(key)
        assert opened.at(40) == pytest.approx((before[0] + moved[0], before[1] + moved[1]), abs=0.1)
    for _ in range(3):
        opened.tab.keyboard.press("+")
    assert opened.at(95)[0] - opened.at(0)[0] > 700
    opened.tab.keyboard.press("0")
    opened.tab.keyboard.press("n")
    opened.tab.keyboard.press("n")
    second = opened.tab.evaluate("explorer.state.hovered")
    assert second == 1  # left to right, then in order
    ident = signal_store.table["sample_id"][second]
    assert ident in opened.text("#said")
    opened.tab.keyboard.press("Enter")
    assert ident in opened.text("#details")
    opened.tab.keyboard.press("a")
    assert opened.text("#count") == "96 samples of 16 patients"
    opened.tab.keyboard.press("Escape")
    assert "Nothing is selected" in opened.text("#selection")
    assert "Of no sample yet" in opened.text("#near")


def test_every_control_has_a_name(opened: Opened) -> None:
    opened.tab.mouse.click(*opened.at(3))
    nameless = """() => [...document.querySelectorAll("button, select, input, [role=application], [role=img]")]
    .filter((e) => !(e.getAttribute("aria-label") || e.textContent.trim() || e.labels?.length)).length"""
    assert opened.tab.evaluate(nameless) == 0
    assert opened.tab.title() == "toy: embeddings of 96 samples of 16 patients"
    assert opened.tab.locator("html").get_attribute("lang") == "en"


def test_slices_dark_and_a_narrow_screen(browser: Any, image_store: Store, tmp_path: Path) -> None:
    pages.write(filled(image_store), tmp_path / "p.html")
    narrow = {"width": 390, "height": 844}
    page = Opened(
        browser, tmp_path / "p.html", viewport=narrow, color_scheme="dark", device_scale_factor=2, has_touch=True
    )
    assert page.tab.evaluate("document.documentElement.scrollWidth") == 390
    assert near(page.pixel(0), CLASS["healthy"])
    page.tab.touchscreen.tap(*page.at(20))
    page.tab.wait_for_function(
        """() => { const c = document.querySelector("#details canvas"), pen = c.getContext("2d");
        return pen.getImageData(c.width / 2, c.height / 2, 1, 1).data[0] > 150 }"""  # the bright box
    )
    assert page.tab.evaluate("document.documentElement.scrollWidth") == 390
    page.tab.emulate_media(color_scheme="light")
    page.settle()
    corner = "[...document.getElementById('points').getContext('2d').getImageData(0, 0, 1, 1).data].slice(0, 3)"
    assert page.tab.evaluate(corner) == [255, 255, 255]
    assert page.wrong == page.asked == []
    page.context.close()


def test_a_page_without_labels_or_pictures_works(browser: Any, signal_store: Store, tmp_path: Path) -> None:
    bare = replace(filled(signal_store), table=signal_store.table[["sample_id"]].assign(patient=1), pictures=None)
    pages.write(bare, tmp_path / "p.html")
    page = Opened(browser, tmp_path / "p.html")
    page.tab.mouse.click(*page.at(3))
    assert signal_store.table["sample_id"][3] in page.text("#details")
    page.tab.click("#inview")
    assert page.text("#count") == "96 samples of 1 patient"
    assert page.wrong == page.asked == []
    page.context.close()
