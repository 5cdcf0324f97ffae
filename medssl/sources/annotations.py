r"""Read the timed annotations of EDF+ and BDF+ files: sleep stages, seizures, events.

They are text in channels of their own, in *time-stamped annotation lists* (TALs): ``+onset\x14text\x14text\x14\0`` or
``+onset\x15duration\x14text\x14\0``, one after the other, then zeros to the end of the block. Where the first text of
a block is empty, its onset says when the block starts.

The lists are parsed here. What mne and edfio have for it is private, knows UTF-8 alone, loses texts of several lines,
which the standard allows, and skips what is damaged without a word; a lost line is a wrong label.

Source: Kemp & Olivan, "European data format 'plus' (EDF+)", Clin Neurophysiol 114 (2003), section 2.2.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from medssl.sources.claims import guarded, require_file, text_of
from medssl.sources.edf import NUMBER, annotation_blocks, check_layout, onset_of
from medssl.sources.record import BadRecord

TAL = re.compile(rb"([+-]" + NUMBER + rb")(?:\x15(" + NUMBER + rb"))?\x14(.*)\x14", re.DOTALL)
# Far more than anybody marks in a recording.
MAX_ANNOTATIONS = 1_000_000
# What follows is cut off: no source looks for a word as long as that.
MAX_TEXT = 1000


@dataclass(frozen=True)
class Annotation:
    """A text about a stretch of time: ``onset_s`` counts from the start of the recording, its first block.

    ``duration_s`` is 0 where none is given. The text may name people and is never passed on.
    """

    onset_s: float
    duration_s: float
    text: str


def read_edf(path: Path) -> list[Annotation]:
    """Return all annotations of an EDF or BDF file in order of their onsets, none where no channel holds any.

    Files of annotations alone (hypnograms), whose blocks have no duration, are read too.

    Raises:
        BadRecord: ``missing_file``, ``no_samples`` (no block), ``unsupported`` (more than a million annotations) or
            ``unreadable``.
    """
    found: list[Annotation] = []
    with guarded("the EDF annotations"):
        for i, texts in enumerate(annotation_blocks(path, check_layout(path, require_file(path)))):
            if i == 0:
                start_s = onset_of(texts) or 0.0  # hypnograms may leave it out
            for data in texts:
                for annotation in _parse(data, start_s):
                    if len(found) == MAX_ANNOTATIONS:
                        raise BadRecord("unsupported", f"the file holds more than {MAX_ANNOTATIONS:,} annotations")
                    found.append(annotation)
    return sorted(found, key=lambda annotation: annotation.onset_s)


def _parse(data: bytes, start_s: float) -> Iterator[Annotation]:
    """Yield the annotations with a text in one channel's share of a block; the recording starts at ``start_s``."""
    for tal in re.finditer(rb"[^\0]+", data):
        match = TAL.fullmatch(tal[0])
        if match is None:
            raise BadRecord("unreadable", "an annotation of the file is damaged")
        for text in re.finditer(rb"[^\x14]+", match[3]):
            yield Annotation(float(match[1]) - start_s, float(match[2] or 0), text_of(text[0])[:MAX_TEXT])
