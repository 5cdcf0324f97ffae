"""Views of slices and volumes without their appearance."""

from __future__ import annotations

import pytest

from medssl.views import volumes


@pytest.fixture
def placed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave the appearance as it is, so that only geometry is seen."""
    monkeypatch.setattr(volumes, "APPEARANCE", ())
