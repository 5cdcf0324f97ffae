"""Nothing comes along under a licence that nobody looked at."""

from __future__ import annotations

from email.message import Message

import pytest

from release import licences, sbom, version


class Strict(Message):
    """Fields as `importlib_metadata` has them, which takes the standard library's place once something imports it."""

    def __getitem__(self, name: str) -> object:
        if name not in self:
            raise KeyError(name)
        return super().__getitem__(name)


class Made:
    """A distribution with metadata of one's own."""

    def __init__(self, **fields: str) -> None:
        self.metadata = Strict()
        for name, value in ({"Name": "toy"} | fields).items():
            self.metadata[name.replace("_", "-")] = value


def test_every_licence_is_known_and_those_that_ask_for_something_have_a_reason() -> None:
    packages = {name: found for group in licences.groups() for name, found in licences.needed(group).items()}
    assert {"torch", "dvc", "mlflow", "pytest"} < set(packages)
    assert licences.refused(packages.values()) == []
    assert {
        name
        for name in licences.ALLOWED
        if name in packages and not licences.copyleft(licences.licence(packages[name]))
    } == set()


def test_the_page_is_that_of_what_is_needed() -> None:
    page = (licences.ROOT / "docs" / "licences.md").read_text()
    missing = set(licences.page().splitlines()) - set(page.splitlines())
    assert not missing, "run `make licences`"


@pytest.mark.parametrize(
    ("fields", "text", "refusal"),
    [
        ({"License_Expression": "MIT"}, "MIT", None),
        ({"License_Expression": "AGPL-3.0-only"}, "AGPL-3.0-only", "AGPL-3.0-only; take another"),
        ({"License_Expression": "Apache-2.0 OR GPL-2.0-or-later"}, "Apache-2.0 OR GPL-2.0-or-later", None),
        ({"License_Expression": "EPL-2.0 OR GPL-2.0-only"}, "EPL-2.0 OR GPL-2.0-only", "take another"),
        ({"License_Expression": "MPL-2.0 AND (MIT OR 0BSD)"}, "MPL-2.0 AND (MIT OR 0BSD)", "take another"),
        ({"License": "LGPLv3"}, "LGPLv3", "take another"),
        ({"License": "Copyright (c) 2020 Toy\nPermission ..."}, licences.UNSTATED, "no licence in its metadata"),
        (
            {"License": "UNKNOWN", "Classifier": "License :: OSI Approved :: GNU General Public License v3 (GPLv3)"},
            "GNU General Public License v3 (GPLv3)",
            "take another",
        ),
        ({"Classifier": "License :: OSI Approved"}, licences.UNSTATED, "read its licence file"),
        ({"Name": "huey"}, "MIT", None),
        ({"Name": "certifi", "License": "MPL-2.0"}, "MPL-2.0", None),
    ],
)
def test_how_a_licence_is_read(fields: dict[str, str], text: str, refusal: str | None) -> None:
    made = Made(**fields)
    assert licences.licence(made) == text  # type: ignore[arg-type]
    lines = licences.refused([made])  # type: ignore[list-item]
    assert len(lines) == (refusal is not None)
    assert refusal is None or refusal in lines[0]


def test_a_bill_of_materials_is_of_what_users_get() -> None:
    parts = {"numpy==2": "numpy", "dvc==3": "dvc", "pytest==9": "pytest"}
    bill = {
        "specVersion": "1.6",
        "metadata": {"component": {"name": "medssl", "bom-ref": "root"}, "properties": []},
        "components": [{"name": name, "bom-ref": ref} for ref, name in parts.items()],
        "dependencies": [{"ref": "root", "dependsOn": list(parts)}, {"ref": "dvc==3"}, {"ref": "pytest==9"}],
    }
    made = sbom.reduced(bill)
    assert [c["name"] for c in made["components"]] == ["numpy", "dvc"]  # not what the project is tested with
    assert made["dependencies"] == [
        {"ref": "root", "dependsOn": ["numpy==2", "dvc==3"]},
        {"ref": "dvc==3", "dependsOn": []},
    ]
    assert made["metadata"]["component"]["version"] == version.read()
    assert made["specVersion"] == "1.6"
