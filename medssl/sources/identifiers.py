"""Which files still carry fields that may identify a person: kinds of fields, never what stands in them.

Readers take none of this along, so it is no fault of a record. It tells whoever keeps the raw files what is in them
before they are copied elsewhere. Only headers are looked at: a name burned into pixels or typed into an annotation
of a recording is not found here.
"""

from __future__ import annotations

import gzip
import re
import struct
import warnings
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import Any

from medssl.sources import dicom_files

MAX_TEXT_BYTES = 1_000_000
# Words in free text -> what they announce.
WORDS = {
    "name": r"(?:sur|last|first|full|patient|subject)?[ _]?name",
    "age": r"age",
    "sex": r"sex|gender",
    "birth date": r"(?:date of birth|birth[ _]?da(?:te|y)|born|dob)",
    "identifier": r"(?:(?:patient|subject|hospital|record)?[ _]?id|mrn|ssn|accession(?: number)?)",
    "date": r"(?:[\w ]*date|recorded(?: on)?)",
    "person in charge": r"(?:[\w ]*physician|doctor|dr|technician|operator|nurse|cardiologist)",
    "institution": r"(?:hospital|institution|clinic|department|ward)",
    "address": r"(?:address|phone|telephone|city)",
}
DATE = re.compile(r"\b\d{4}[-/.]\d{1,2}[-/.]\d{1,2}\b|\b\d{1,2}[-/.]\d{1,2}[-/.](?:\d{4}|\d{2})\b")
DICOM = {
    "patient name": ["PatientName", "OtherPatientNames", "PatientBirthName", "PatientMotherBirthName"],
    "patient id": ["PatientID", "OtherPatientIDs", "OtherPatientIDsSequence", "IssuerOfPatientID"],
    "birth date": ["PatientBirthDate", "PatientBirthTime"],
    "age": ["PatientAge"],
    "sex": ["PatientSex"],
    "address": ["PatientAddress", "PatientTelephoneNumbers", "CountryOfResidence", "RegionOfResidence"],
    "person in charge": ["ReferringPhysicianName", "PerformingPhysicianName", "PhysiciansOfRecord", "OperatorsName",
                         "NameOfPhysiciansReadingStudy", "RequestingPhysician"],
    "institution": ["InstitutionName", "InstitutionAddress", "InstitutionalDepartmentName", "StationName"],
    "accession number": ["AccessionNumber", "StudyID"],
    "date": ["StudyDate", "SeriesDate", "AcquisitionDate", "ContentDate", "AcquisitionDateTime", "AdmittingDate",
             "InstanceCreationDate"],
    "comment": ["PatientComments", "ImageComments", "AdditionalPatientHistory", "StudyComments"],
    "device number": ["DeviceSerialNumber"],
}  # fmt: skip
DICOM_KINDS = {keyword: kind for kind, keywords in DICOM.items() for keyword in keywords}
# A program and its version alone; anything more may be about the person.
SOFTWARE = re.compile(
    r"(?:(?:fsl|spm|afni|ants|freesurfer|fmriprep|nibabel|itk(?:-snap)?|simpleitk|mrtrix|dcm2nii(?:x|gui)?|mricron|nifti|"
    r"c3d|niftyreg|python|matlab)[ -]?v?(?:\d{1,3}(?:\.\d{1,3}){0,3})?)?|\d{1,3}(?:\.\d{1,3})+:[0-9a-f]{6,}",
    re.IGNORECASE,
)
# Where NIfTI-1 and NIfTI-2 keep text: name, offset, length.
NIFTI1 = (("description", 148, 80), ("database name", 14, 18), ("auxiliary file", 228, 24), ("intent name", 328, 16))
NIFTI2 = (("description", 240, 80), ("auxiliary file", 320, 24), ("intent name", 508, 16))
# Keys of MetaImage that describe the grid and the program.
METAIMAGE = {
    "ObjectType", "ObjectSubType", "NDims", "DimSize", "BinaryData", "CompressedData", "CompressedDataSize",
    "BinaryDataByteOrderMSB", "ElementByteOrderMSB", "TransformMatrix", "Rotation", "Orientation", "Offset", "Position",
    "Origin", "CenterOfRotation", "AnatomicalOrientation", "DistanceUnits", "Modality", "HeaderSize", "SequenceID",
    "ElementSpacing", "ElementSize", "ElementType", "ElementNumberOfChannels", "ElementMin", "ElementMax",
    "ElementToIntensityFunctionSlope", "ElementToIntensityFunctionOffset", "ElementDataFile", "ITK_InputFilterName",
}  # fmt: skip
# TIFF tags, the same numbers in EXIF.
TIFF = {
    270: "text", 315: "author", 306: "date", 316: "host", 269: "text", 285: "text", 33432: "text", 34665: "EXIF",
    34853: "place", 37510: "text", 40091: "text", 40092: "text", 40093: "author", 42016: "identifier",
}  # fmt: skip
# What else a JPEG may carry, by Pillow's names: a comment, XMP, and the captions of Photoshop (IPTC).
JPEG = {"comment": "comment", "xmp": "text", "photoshop": "text"}


def scan(path: Path, kind: str) -> list[frozenset[str] | None]:
    """Return, for each file of a record, the kinds of identifying fields that are filled in, such as ``birth date``.

    ``path`` and ``kind`` are path and format of a `medssl.sources.record.Record`. The entry of a file is empty where no
    field is filled in, None where the header cannot be read. No entries for a format that is not in `SCANNERS`.
    """
    if kind not in SCANNERS:
        return []
    try:
        files = [f for f in sorted(path.iterdir()) if is_dicom(f)] if path.is_dir() else [path]
    except OSError:
        return [None]
    found: list[frozenset[str] | None] = []
    for file in files:
        try:
            with warnings.catch_warnings(action="ignore"):
                # A pipe would wait for ever.
                found.append(frozenset(SCANNERS[kind](file)) if kind == "wfdb" or file.is_file() else None)
        except Exception:  # a damaged header: its record is refused elsewhere, with the reason
            found.append(None)
    return found


def is_dicom(path: Path) -> bool:
    """Tell a file of a series, by its content or its suffix, from what else lies in its folder."""
    return dicom_files.is_dicom(path) or (path.is_file() and path.suffix.lower() in dicom_files.SUFFIXES)


def _dicom(path: Path) -> Iterator[str]:
    """Look through a whole header: names also hide in sequences and in private elements."""
    import pydicom

    if not dicom_files.is_dicom(path):
        raise ValueError("no header")
    header = pydicom.dcmread(dicom_files.opened(path), stop_before_pixels=True, defer_size=1024, force=True)
    for element in header.iterall():
        if element.tag.is_private:
            if not element.tag.is_private_creator and element.VM:
                yield "private element"
            continue
        if element.VR == "SQ" or not str(element.value or "").strip(" ^"):
            continue
        if element.keyword in DICOM_KINDS or element.VR == "PN":
            yield DICOM_KINDS.get(element.keyword, "other name")


def _edf(path: Path) -> Iterator[str]:
    """Look at the patient and the recording field of EDF, EDF+ and BDF, and at the starting date.

    Source: Kemp and Olivan 2003, EDF+ 2.1.3, for the order of subfields and ``X`` where one is left out.
    """
    with path.open("rb") as file:
        header = file.read(256)
    if len(header) < 256:
        raise ValueError("no header")
    patient, recording, date = (header[a:b].decode("latin-1").strip(" \0") for a, b in ((8, 88), (88, 168), (168, 176)))
    person = patient.split()
    if len(person) >= 4 and person[1] in ("M", "F", "X"):
        yield from _filled(person, ("patient code", "sex", "birth date", "patient name"))
        if len(person) > 4:
            yield "patient field"
    elif set(person) - {"X"}:
        yield "patient field"
    facts = recording.split()
    if facts[:1] == ["Startdate"]:
        yield from _filled(facts[1:4], ("date", "recording code", "person in charge"))
    elif set(facts) - {"X"}:
        yield "recording field"
    # 01.01.85 is the date that EDF asks for where there is none.
    if re.search("[1-9]", date) and date not in ("01.01.85", "01.01.00", "01.01.70"):
        yield "date"


def _filled(fields: list[str], kinds: tuple[str, ...]) -> Iterator[str]:
    yield from (kind for field, kind in zip(fields, kinds, strict=False) if field != "X")


def _nifti(path: Path) -> Iterator[str]:
    """Look at the text fields of a header, and whether an extension (DICOM fields, comments, history) follows it."""
    if path.suffix.lower() == ".img":  # the text of a pair stands in its header
        path = path.with_suffix(".HDR" if path.suffix.isupper() else ".hdr")
    with path.open("rb") as file:
        zipped = file.read(2) == b"\x1f\x8b"
    with gzip.open(path) if zipped else path.open("rb") as file:
        header = file.read(544)
    sizes = {struct.unpack(order + "i", header[:4])[0] for order in "<>"}
    fields, end = (NIFTI1, 348) if 348 in sizes else (NIFTI2, 540)
    if not sizes & {348, 540} or len(header) < end:
        raise ValueError("no header")
    for name, start, length in fields:
        text = header[start : start + length].split(b"\0")[0].decode("latin-1").strip()
        if text.lower() != "none" and not SOFTWARE.fullmatch(text):
            yield name
    if header[end : end + 1] not in (b"", b"\0"):
        yield "header extension"


def _metaimage(path: Path) -> Iterator[str]:
    """Look at the keys beyond those of the grid; ITK keeps fields of a DICOM file there, as ``0010|0010 = ...``."""
    from pydicom.datadict import keyword_for_tag

    from medssl.sources.metaimage import header

    for key, text in header(path)[0].items():
        if key in METAIMAGE or SOFTWARE.fullmatch(text):
            continue
        if tag := re.fullmatch(r"([\da-fA-F]{4})\|([\da-fA-F]{4})", key):
            kind = DICOM_KINDS.get(keyword_for_tag(int(tag[1] + tag[2], 16)))
            yield from ["private element"] if int(tag[1], 16) % 2 else [kind] if kind else []
        else:
            yield from _kinds_in(f"{key} = {text}") or {"comment"}


def _wfdb(path: Path) -> Iterator[str]:
    """Look at the comments of a header and at the date in its record line, and so in those of its segments."""
    base = path.with_suffix("") if path.suffix in (".hea", ".dat", ".mat") else path
    for name in (yield from _wfdb_header(base.with_name(base.name + ".hea"))):
        # "~" stands for a gap; a name of another folder is not followed.
        if re.fullmatch(r"[\w-]+", name) and (header := base.with_name(name + ".hea")).is_file():
            yield from _wfdb_header(header)


def _wfdb_header(path: Path) -> Generator[str, None, list[str]]:
    """Yield kinds; return the names of segments."""
    parts = [line.partition("#") for line in _text(path).splitlines()]
    for comment in (comment for *_, comment in parts if comment.strip()):
        yield from _kinds_in(comment) or {"comment"}
    first, *rows = [row.split() for row, *_ in parts if row.strip()] or [[""]]
    if DATE.search(" ".join(first[1:])):
        yield "date"
    return [row[0] for row in rows] if "/" in first[0] else []


def _eeglab(path: Path) -> Iterator[str]:
    """Look at what the structure of an EEGLAB set says of the person and of its own place on a disk."""
    from medssl.sources.eeglab import open_set

    with open_set(path, path.stat().st_size) as eeg:
        for name, kind in {"subject": "patient code", "comments": "comment", "filepath": "place on a disk"}.items():
            if any((array.text() or "").strip(" \0") for array in eeg.field(name)):
                yield kind


def _brainvision(path: Path) -> Iterator[str]:
    """Look at the comments of a header (``.vhdr``) and at dates and typed comments among its markers (``.vmrk``)."""
    header = _text(path)
    for line in header.partition("[Comment]")[2].splitlines():
        yield from _kinds_in(line)
    named = re.search(r"^MarkerFile=(.+)$", header, re.MULTILINE)
    name = named[1].strip().replace("$b", path.stem) if named else path.stem + ".vmrk"
    markers = path.with_name(Path(name.replace("\\", "/")).name)  # never one of another folder
    if not markers.is_file():
        return
    for kind, text, rest in re.findall(r"(?m)^\s*Mk\d+=([^,\r\n]*),([^,\r\n]*)(.*)", _text(markers)):
        if kind == "New Segment" and re.search(r",(?!0{8})\d{8,}\s*$", rest):
            yield "date"
        if kind == "Comment" and text:
            yield "comment"


def _fif(path: Path) -> Iterator[str]:
    """Look at the measurement info of an MNE file."""
    import mne

    info = mne.io.read_info(path, verbose="error")
    person: dict[str, Any] = dict(info["subject_info"] or {})
    kinds = {"his_id": "patient id", "birthday": "birth date", "sex": "sex"}
    kinds |= {f"{which}_name": "patient name" for which in ("first", "middle", "last")}
    yield from (kind for key, kind in kinds.items() if person.get(key))
    if info["experimenter"]:
        yield "person in charge"
    if info["meas_date"] is not None and (info["meas_date"].month, info["meas_date"].day) != (1, 1):
        yield "date"
    if info["description"] or info["proj_name"]:
        yield "comment"


def _aecg(path: Path) -> Iterator[str]:
    """Look at the elements of an HL7 annotated ECG that name people and places, and at times."""
    elements = {
        "name": r"<(?:\w+:)?(?:name|given|family|author)(?:\s[^>]*)?>\s*[^<\s]",
        "birth date": r"birthTime\s[^>]*value=[\"'][^\"']",
        "sex": r"administrativeGenderCode\s[^>]*code=[\"'][^\"']",
        "patient id": r"<(?:\w+:)?trialSubject\b[^>]*>\s*<(?:\w+:)?id\s[^>]*extension=[\"'][^\"']",
        "date": r"<(?:\w+:)?(?:low|high|center|head)\s[^>]*value=[\"'](?:19|20)\d{6}",
    }
    text = _text(path)
    yield from (kind for kind, pattern in elements.items() if re.search(pattern, text, re.DOTALL))


def _image(path: Path) -> Iterator[str]:
    """Look at the text and EXIF chunks of a PNG, or at the tags, comments and metadata of a TIFF or JPEG."""
    with path.open("rb") as file:
        if file.read(8) == b"\x89PNG\r\n\x1a\n":
            yield from _png(file)
            return
    from PIL import Image

    with Image.open(path) as picture:
        tags = dict(getattr(picture, "tag_v2", None) or picture.getexif())
        info = picture.info
    for number, kind in TIFF.items():
        text = str(tags.get(number, "")).strip(" \0")
        # A shape: tifffile describes the array there.
        if text and not re.fullmatch(r'\{"shape": \[[\d, ]+\]\}', text):
            yield kind
    if picture.format in ("JPEG", "MPO"):
        yield from (kind for name, kind in JPEG.items() if info.get(name))


def _png(file: Any) -> Iterator[str]:
    """Walk over the chunks of a PNG without reading pixels; text may stand behind them."""
    while len(head := file.read(8)) == 8:
        length, name = struct.unpack(">I4s", head)
        start = file.tell()
        if name in (b"tEXt", b"zTXt", b"iTXt") and file.read(min(length, 80)).split(b"\0")[0].lower() != b"software":
            yield "text"
        yield from {b"eXIf": ["EXIF"], b"tIME": ["date"]}.get(name, [])
        file.seek(start + length + 4)


def _kinds_in(text: str) -> set[str]:
    """Return what the words of a line announce, and ``date`` where one stands in it."""
    found = {
        kind
        for kind, word in WORDS.items()
        if re.search(rf"(?<![^\W_])(?:{word})\s*>?\s*[:=]?\s+[^\s<]|(?<![^\W_])(?:{word})\s*[:=]\S", text, re.I)
    }
    return found | ({"date"} if DATE.search(text) else set())


def _text(path: Path) -> str:
    if not path.is_file():
        raise FileNotFoundError
    with path.open("rb") as file:
        return file.read(MAX_TEXT_BYTES).decode("latin-1")


SCANNERS: dict[str, Callable[[Path], Iterator[str]]] = {
    "dicom": _dicom, "edf": _edf, "bdf": _edf, "nifti": _nifti, "metaimage": _metaimage, "wfdb": _wfdb,
    "brainvision": _brainvision, "eeglab": _eeglab, "fif": _fif, "aecg": _aecg, "image": _image,
}  # fmt: skip
