"""Write synthetic recordings in the formats of real ones, with planted identifiers where real files carry them.

The bytes depend on the arguments only: dates are fixed and DICOM's UIDs come from ``entropy``.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import time
from pathlib import Path

import edfio
import nibabel as nib
import numpy as np
import wfdb
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid

from medssl.synthetic import signals, volumes
from medssl.synthetic.traits import BIRTH_DATE, HOSPITAL, STUDY_DATE, Identity, Traits

START = time(9, 0, 0)
ECG_STEPS_PER_MV = 500.0
PPG_STEPS_PER_UNIT = 1000.0
EDF_RANGE_UV = (-3276.8, 3276.7)  # steps of 0.1 uV
HU_OFFSET = 1024
SUFFIX = {"ecg": ".hea", "ppg": ".hea", "eeg": ".edf", "ct": "", "mri": ".nii"}


def record(modality: str, path: Path, values: np.ndarray, traits: Traits, entropy: str) -> None:
    """Write one recording to ``path``: a WFDB header with its data file, an EDF file, a DICOM folder or a NIfTI file.

    Args:
        modality: which format and rate.
        path: file with the suffix of ``SUFFIX``, or the folder of a series.
        values: ``(C, T)`` in mV, no unit or uV; ``(D, H, W)`` in HU or without scale.
        traits: whose recording; its identity goes into the headers.
        entropy: what makes the UIDs of this recording its own.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    identity = Identity(modality, traits.patient)
    if modality == "ecg":
        rate_hz, names = signals.ECG_RATE_HZ, signals.ECG_LEADS
        wfdb_record(path, values, identity, rate_hz=rate_hz, names=names, unit="mV", steps=ECG_STEPS_PER_MV)
    elif modality == "ppg":
        rate_hz = signals.PPG_RATE_HZ
        wfdb_record(path, values, identity, rate_hz=rate_hz, names=("PPG",), unit="NU", steps=PPG_STEPS_PER_UNIT)
    elif modality == "eeg":
        edf(path, values, identity, male=traits.male)
    elif modality == "ct":
        dicom_series(path, values, identity, entropy=entropy)
    else:
        nifti(path, values, identity, spacing_mm=volumes.MRI_SPACING_MM)


def wfdb_record(
    path: Path,
    values: np.ndarray,
    identity: Identity,
    *,
    rate_hz: float,
    names: tuple[str, ...],
    unit: str,
    steps: float,
) -> None:
    """Write ``(C, T)`` as 16-bit WFDB with ``steps`` digital steps per unit; identity stands in header comments."""
    # -32768 is the format's sign for a missing sample.
    digital = np.clip(np.rint(values.T * steps), -32767, 32767).astype(np.int16)
    count = len(names)
    wfdb.wrsamp(
        path.stem,
        fs=rate_hz,
        units=[unit] * count,
        sig_name=list(names),
        d_signal=digital,
        fmt=["16"] * count,
        adc_gain=[steps] * count,
        baseline=[0] * count,
        comments=[
            f"Name: {identity.name}",
            f"MRN: {identity.mrn}",
            f"Birth date: {BIRTH_DATE:%Y%m%d}",
            f"Hospital: {HOSPITAL}",
        ],
        base_date=STUDY_DATE,
        base_time=START,
        write_dir=str(path.parent),
    )


def edf(path: Path, values: np.ndarray, identity: Identity, *, male: bool) -> None:
    """Write ``(C, T)`` in uV as EDF+ in data records of one second, or one shorter record."""
    length_s = values.shape[1] / signals.EEG_RATE_HZ
    clipped = np.clip(values, *EDF_RANGE_UV).astype(np.float64)
    channels = [
        edfio.EdfSignal(row, signals.EEG_RATE_HZ, label=name, physical_dimension="uV", physical_range=EDF_RANGE_UV)
        for name, row in zip(signals.EEG_CHANNELS, clipped, strict=True)
    ]
    patient = edfio.Patient(
        code=identity.mrn, sex="M" if male else "F", birthdate=BIRTH_DATE, name=identity.name.replace("^", "_")
    )
    recording = edfio.Recording(
        startdate=STUDY_DATE, hospital_administration_code=HOSPITAL, equipment_code="PLANTEDDEVICE"
    )
    whole = edfio.Edf(
        channels, patient=patient, recording=recording, starttime=START, data_record_duration=min(1.0, length_s)
    )
    whole.write(path)


def dicom_series(folder: Path, values: np.ndarray, identity: Identity, *, entropy: str) -> None:
    """Write ``(D, H, W)`` in HU as one file per slice, numbered from head to foot as scanners often do."""
    folder.mkdir(parents=True, exist_ok=True)
    uids = {kind: generate_uid(entropy_srcs=[entropy, kind]) for kind in ("study", "series", "frame")}
    stored = (values.astype(np.int32) + HU_OFFSET).clip(0, 4095).astype("<u2")
    depth = len(stored)
    dataset = _series_header(identity, uids)
    for place, image in enumerate(stored):
        number = depth - place
        dataset.SOPInstanceUID = generate_uid(entropy_srcs=[entropy, f"slice {place}"])
        dataset.InstanceNumber = number
        dz, dy, dx = volumes.CT_SPACING_MM
        rows, columns = image.shape
        z_mm = (place - (depth - 1) / 2) * dz
        dataset.ImagePositionPatient = [-(columns - 1) / 2 * dx, -(rows - 1) / 2 * dy, z_mm]
        dataset.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
        dataset.PixelSpacing, dataset.SliceThickness = [dy, dx], dz
        dataset.Rows, dataset.Columns = rows, columns
        dataset.PixelData = image.tobytes()
        dataset.file_meta = FileMetaDataset()
        dataset.file_meta.MediaStorageSOPClassUID = CTImageStorage
        dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
        dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        dataset.save_as(folder / f"IM{number:04d}.dcm", enforce_file_format=True)


def _series_header(identity: Identity, uids: Mapping[str, str]) -> Dataset:
    """Return what all slices of a series share: identity in plain, private and nested elements, and the scale."""
    dataset = Dataset()
    dataset.SOPClassUID, dataset.Modality = CTImageStorage, "CT"
    dataset.StudyInstanceUID, dataset.SeriesInstanceUID = uids["study"], uids["series"]
    dataset.FrameOfReferenceUID = uids["frame"]
    dataset.PatientName, dataset.PatientID = identity.name, identity.patient_id
    dataset.PatientBirthDate = f"{BIRTH_DATE:%Y%m%d}"
    dataset.StudyDate = dataset.SeriesDate = dataset.ContentDate = f"{STUDY_DATE:%Y%m%d}"
    dataset.StudyTime = f"{START:%H%M%S}"
    dataset.InstitutionName = HOSPITAL
    dataset.ReferringPhysicianName = "PLANTEDDOCTOR^ANN"
    dataset.AccessionNumber = f"PLANTEDACC{identity.patient + 1:04d}"
    nested = Dataset()
    nested.PatientID, nested.IssuerOfPatientID = identity.mrn, HOSPITAL
    dataset.OtherPatientIDsSequence = [nested]
    private = dataset.private_block(0x0011, "PLANTEDVENDOR", create=True)
    private.add_new(0x01, "LO", f"PLANTEDPRIVATE {identity.name}")
    dataset.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
    dataset.SeriesNumber, dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, 1, "MONOCHROME2"
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = 16, 12, 11, 0
    dataset.RescaleIntercept, dataset.RescaleSlope, dataset.RescaleType = -HU_OFFSET, 1, "HU"
    return dataset


def nifti(path: Path, values: np.ndarray, identity: Identity, *, spacing_mm: volumes.Triple) -> None:
    """Write ``(D, H, W)`` as plain NIfTI (a gzip header would hold a time); floats as 16-bit with a scale factor."""
    path.parent.mkdir(parents=True, exist_ok=True)
    dz, dy, dx = spacing_mm
    data = np.ascontiguousarray(values.transpose(2, 1, 0))
    # The arrays point to left, posterior, superior; NIfTI's world points to right, anterior, superior.
    affine = np.diag([-dx, -dy, dz, 1.0])
    affine[:3, 3] = -affine[:3, :3] @ ((np.array(data.shape) - 1) / 2)
    image = nib.Nifti1Image(data, affine)
    image.set_data_dtype(np.uint8 if values.dtype == np.uint8 else np.int16)
    image.header.set_xyzt_units("mm")
    image.header["descrip"] = f"{identity.name} {BIRTH_DATE:%Y%m%d} {HOSPITAL}".encode()
    image.header["aux_file"] = identity.mrn.encode()
    comment = f"{identity.patient_id} {identity.name} scanned {STUDY_DATE:%Y%m%d}"
    image.header.extensions.append(nib.nifti1.Nifti1Extension("comment", comment.encode()))
    nib.save(image, path)
