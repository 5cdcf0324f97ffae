"""The picture of what the encoder sees: the samples and views that pretraining draws, and nothing of anybody."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from matplotlib.text import Text

from medssl.config import EncoderParams, Run
from medssl.pretrain.data import training_rows
from medssl.report import html, seen
from medssl.store import Store
from medssl.views import signals
from medssl.views.draws import Draws
from tests.report.made_up import value, write_run


def run(recipe: str = "simclr", **pretrain: Any) -> Run:
    return Run.model_validate(
        {"modality": "x", "recipe": recipe, "encoder": {"name": "resnet1d"}, "pretrain": pretrain, "evaluate": {}}
    )


def grid(figure: Figure) -> list[list[Any]]:
    axes = figure.axes
    columns = sum(axis.get_title() != "" for axis in axes)
    return [axes[k : k + columns] for k in range(0, len(axes), columns)]


def lines(axis: Any) -> list[np.ndarray]:
    return [line.get_ydata() for line in axis.get_lines() if len(line.get_ydata()) > 2]


def test_signals_are_training_samples_and_their_views(signal_store: Store) -> None:
    rows = grid(seen.picture(signal_store, run(), seed=3))
    assert [axis.get_title() for axis in rows[0]] == ["sample", "view 1", "view 2", "view 3", "view 4"]
    training = training_rows(signal_store.table, "remove")
    shown = []
    for sample, *views in rows:
        # Zero lines are where ticks are; what is above them is the channel.
        zero = sample.get_yticks()
        values = np.stack([line - z for line, z in zip(lines(sample), zero, strict=True)])
        found = [row for row in training if np.allclose(signal_store[row], values, atol=1e-4)]
        assert len(found) == 1
        shown += found
        draws = Draws(torch.tensor(found), seed=3)
        x = torch.from_numpy(signal_store.read(np.array(found)))
        for k, axis in enumerate(views):
            expected = signals.view(x, draws.fork(1 + k))[0].numpy()
            behind, drawn = lines(axis)[:2], lines(axis)[2:]
            assert np.allclose(np.stack(behind), np.stack(lines(sample)))
            assert np.allclose(np.stack(drawn) - zero[:, None], expected, atol=1e-4)
        scales = {(axis.get_xlim(), axis.get_ylim()) for axis in (sample, *views)}
        assert len(scales) == 1
        assert sample.get_xlim() == (0, 2)
        low, high = sample.get_ylim()
        assert all(low < line.min() and line.max() < high for axis in (sample, *views) for line in lines(axis))
    assert len(shown) == 3
    assert signal_store.table["patient"].iloc[shown].is_unique
    assert [label.get_text() for label in rows[0][0].get_yticklabels()] == ["A", "B"]
    assert rows[-1][0].get_xlabel() == "time (s)"


@pytest.mark.parametrize("name", ["image_store", "volume_store"])
def test_images_are_in_one_scale_of_grey(name: str, request: pytest.FixtureRequest) -> None:
    store: Store = request.getfixturevalue(name)
    for line in grid(seen.picture(store, run(), seed=0)):
        images = [axis.get_images()[0] for axis in line]
        assert {image.get_clim() for image in images} == {(0, 1)}
        planes = [image.get_array() for image in images]
        middle = [x[0] if x.ndim == 3 else x[0, len(x[0]) // 2] for x in (store[k] for k in range(len(store)))]
        (row,) = (k for k, plane in enumerate(middle) if np.array_equal(plane, planes[0]))
        assert store.table["split"].iloc[row] == "train"
        assert all(not np.array_equal(planes[0], other) for other in planes[1:])


def test_strength_and_plan_are_the_run_s(signal_store: Store, image_store: Store) -> None:
    for given in ({"views": "none"}, {"view_strength": 0}):
        for store in (signal_store, image_store):
            for sample, *views in grid(seen.picture(store, run(**given), seed=0)):
                for axis in views:
                    if store is signal_store:
                        assert np.array_equal(lines(axis)[2:], lines(sample))
                    else:
                        assert np.array_equal(axis.get_images()[0].get_array(), sample.get_images()[0].get_array())
    texts = seen.picture(signal_store, run(views="mild", view_strength=0.5), seed=0).get_suptitle()
    assert texts.startswith("views: mild, strength 0.5")
    # An image has no plan of leads, and says so.
    assert seen.picture(image_store, run(views="leads"), seed=0).get_suptitle() == "views: default, strength 1"


def test_recipes_with_small_crops_and_with_no_views(signal_store: Store, volume_store: Store) -> None:
    for store in (signal_store, volume_store):
        rows = grid(seen.picture(store, run("swav"), seed=0))
        assert [axis.get_title() for axis in rows[0]] == ["sample", "view 1", "view 2", "small crop 1", "small crop 2"]
    bare = seen.picture(signal_store, run("comet_code"), seed=0)
    assert [axis.get_title() for axis in bare.axes] == ["sample", "", ""]
    assert bare.get_suptitle() == "no random views"


@pytest.mark.parametrize("name", ["signal_store", "image_store", "volume_store"])
def test_nothing_of_anybody_is_in_the_picture(name: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    store: Store = request.getfixturevalue(name)
    figure = seen.picture(store, run(), seed=0)
    said = " ".join(text.get_text() for text in figure.findobj(Text))
    table = store.table
    values = table[["sample_id", "patient", "trial", "content", "label_disease", "label_state"]].astype(str)
    assert not [word for column in values for word in values[column].unique() if word in said]
    figure.savefig(tmp_path / "one.png", dpi=60)
    seen.picture(store, run(), seed=0).savefig(tmp_path / "two.png", dpi=60)
    assert (tmp_path / "one.png").read_bytes() == (tmp_path / "two.png").read_bytes()
    written = (tmp_path / "one.png").read_bytes()
    assert not [word for word in values["sample_id"] if word.encode() in written]


def test_the_page_shows_it_where_there_is_one(tmp_path: Path) -> None:
    for name in ("own", "elsewhere"):
        folder = write_run(tmp_path / name, {"disease": {"probe": {"1": {"auroc": value(0.8)}}}})
        (folder / "views").mkdir()
    (tmp_path / "own" / "views" / "views.png").write_bytes(b"seen")
    runs = {name: tmp_path / name for name in ("own", "elsewhere")}
    page, _ = html.render([], {}, runs, dict.fromkeys(runs, "simclr"), dict.fromkeys(runs, ()))
    assert '<img alt="what the encoder sees in pretraining: own" src="data:image/png;base64,c2Vlbg==">' in page
    assert "what the encoder sees in pretraining: elsewhere" not in page


def test_crops_are_views_of_their_own_length(signal_store: Store) -> None:
    cropped = run().model_copy(update={"encoder": EncoderParams(name="resnet1d", crop=40)})
    figure = seen.picture(signal_store, cropped, seed=3)
    rows = grid(figure)
    assert all(len(line) == 40 for row in rows for axis in row[1:] for line in lines(axis))
    rate = signal_store.facts["params"]["rate_hz"]
    assert figure.get_suptitle() == f"views: default, strength 1; of crops of {40 / rate:g} s"
