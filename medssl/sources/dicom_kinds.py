"""What a DICOM object is: an image to read, something else, or an image whose values or places would be wrong.

The list of attributes that are looked at is in `medssl.sources.dicom`.
"""

from __future__ import annotations

from typing import Any

from medssl.sources.claims import positive
from medssl.sources.record import BadRecord

# Where Siemens says that slices are tiles of one picture, also where anonymised files lost the word in ImageType.
SIEMENS_BLOCK, SIEMENS_TILES = (0x0019, 0x0010), (0x0019, 0x100A)
KIND_TAGS = [
    "Modality", "SOPClassUID", "BurnedInAnnotation", "ImageType", "ConversionType", "AnatomicalOrientationType",
    "ModalityLUTSequence", "PixelAspectRatio", "PixelPresentation", "VolumetricProperties", SIEMENS_BLOCK,
    SIEMENS_TILES,
]  # fmt: skip
PLACES = ("ImageOrientationPatient", "SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence")
# Secondary captures, single and multi-frame: pictures of a screen or of paper.
CAPTURES = "1.2.840.10008.5.1.4.1.1.7"
STORAGE = "1.2.840.10008.5.1.4.1.1."
MODALITIES = {"2": "CT", "4": "MR", "128": "PT", "130": "PT"}  # of the images of these classes
# What is stored by classes that are no images; some hold pixels all the same.
OTHER: dict[str, str | None] = {
    "9": "a waveform that is no ECG, or is one of several files",
    "11": "how images are shown (a presentation state), not an image",
    "30": "a map of a parameter, not an image; export it as NIfTI",
    "66": "raw data, a registration or a surface, not an image",
    "66.4": "a segmentation, not an image; convert it to NIfTI and name it as the mask of its images",
    "67": "a mapping of values, not an image",
    "78": "measurements of an eye, not an image",
    "79": "measurements of an eye, not an image",
    "88": "a report (such as of the dose), not an image",
    "104": "an encapsulated document, not an image",
    "481.1": None,  # images of radiotherapy
    "481.2": "radiation doses, not an image",
    "481.3": "contours (an RT structure set), not an image; convert them to NIfTI and name that as a mask",
    "481": "a plan or record of radiotherapy, not an image",
}


def other_than_image(header: Any) -> str | None:
    """Return what an object is that is no image, in words that end a sentence, or None for an image."""
    kind = str(header.get("SOPClassUID") or "")
    if kind.startswith(STORAGE):
        parts = kind.removeprefix(STORAGE).split(".")
        for name in (".".join(parts[:2]), parts[0]):
            if name in OTHER:
                return OTHER[name]
    if _word(header, "Modality") == "RTDOSE":
        return OTHER["481.2"]
    # An image of a known class without pixels is one that was cut off.
    if kind and not kind.startswith(STORAGE) and header.get("Rows") is None and "PixelData" not in header:
        return "no image"
    return None


def modality(header: Any) -> str:
    """Return the modality of an image in capitals: its own or that of its class; ``unsupported`` without either."""
    if word := _word(header, "Modality"):
        return word
    kind = str(header.get("SOPClassUID") or "")
    if not kind.startswith(STORAGE):
        raise BadRecord("unsupported", "neither Modality nor SOPClassUID says what the image is; write CT or MR there")
    return MODALITIES.get(kind.removeprefix(STORAGE).split(".")[0], "OT")


def is_inverse(header: Any) -> bool:
    """Tell whether an image is meant to be shown with larger values darker."""
    inverse = _word(header, "PresentationLUTShape") == "INVERSE"
    return inverse or _word(header, "PhotometricInterpretation") == "MONOCHROME1"


def check_kind(header: Any) -> None:
    """Refuse one file by what it is, as ``unsupported``, before its pixels are read."""
    if other := other_than_image(header):
        raise BadRecord("unsupported", f"the file holds {other}")
    if _word(header, "BurnedInAnnotation") == "YES":
        raise BadRecord("unsupported", "the image is marked as having text burned in, which may identify a person")
    kind, words = str(header.get("SOPClassUID", "")), _words(header, "ImageType")
    captured = kind == CAPTURES or kind.startswith(f"{CAPTURES}.") or header.get("ConversionType")
    placed = any(header.get(name) for name in PLACES)
    if captured or words & {"SCREEN SAVE", "SCREENSAVE"} or ("SECONDARY" in words and not placed):
        raise BadRecord("unsupported", "the image is a secondary capture, which may have text burned in")
    if "MOSAIC" in words or _tiles(header) > 1:
        detail = "the file is a Siemens MOSAIC: its slices are tiles of one picture; convert it with dcm2niix"
        raise BadRecord("unsupported", detail)
    if header.get("ModalityLUTSequence"):
        detail = "the stored values pass through a table (Modality LUT); export with slope and intercept"
        raise BadRecord("unsupported", detail)
    if _word(header, "PixelPresentation") not in ("", "MONOCHROME"):
        raise BadRecord("unsupported", "the image is grey with colours laid over it; export it in grey")
    if _words(header, "VolumetricProperties") & {"DISTORTED", "MIXED"}:
        raise BadRecord("unsupported", "the frames are distorted or mixed, not slices of one volume")
    if _word(header, "AnatomicalOrientationType") not in ("", "BIPED"):
        raise BadRecord("unsupported", "the orientation is that of an animal on four legs")
    ratio = header.get("PixelAspectRatio") or []
    if len(ratio) == 2 and not header.get("PixelSpacing") and positive(ratio[0]) != positive(ratio[1]):
        raise BadRecord("unsupported", "the pixels are not square, and their size is not stated (PixelAspectRatio)")


def _word(header: Any, name: str) -> str:
    return str(header.get(name) or "").strip().upper()


def _words(header: Any, name: str) -> set[str]:
    given = header.get(name) or []
    return {str(word).strip().upper() for word in ([given] if isinstance(given, str) else given)}


def _tiles(header: Any) -> int:
    """Return the number of tiles that a private element of Siemens states, 0 without it."""
    block, tiles = header.get(SIEMENS_BLOCK), header.get(SIEMENS_TILES)
    if block is None or tiles is None or "SIEMENS MR" not in str(block.value):
        return 0
    value = tiles.value
    return int.from_bytes(value[:2], "little") if isinstance(value, bytes) else int(value)
