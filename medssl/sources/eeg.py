"""Read EEG recordings of the formats around MATLAB and MNE: BrainVision, EEGLAB, FIF. See the module of each."""

from __future__ import annotations

from medssl.sources.brainvision import read as read_brainvision
from medssl.sources.eeglab import read as read_eeglab
from medssl.sources.fif import read as read_fif
from medssl.sources.record import BadRecord, Record, Signal

READERS = {"brainvision": read_brainvision, "eeglab": read_eeglab, "fif": read_fif}


def read(record: Record) -> Signal:
    """Read one recording of ``record.format``; only voltages are kept, bad channels among them.

    No marker, date, name or description is read into the signal.

    Raises:
        BadRecord: as the reader of the format, or ``unsupported`` for another format.
    """
    if record.format not in READERS:
        raise BadRecord("unsupported", f"no EEG reader for this kind of file; formats: {', '.join(READERS)}")
    return READERS[record.format](record)
