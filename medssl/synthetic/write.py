"""Write synthetic recordings in the formats of real ones, with planted identifiers where real files carry them.

The bytes depend on the arguments only: dates are fixed and DICOM's UIDs come from ``entropy``.
"""

from __future__ import annotations

from datetime import time
from pathlib import Path

import edfio
import nibabel as nib
import numpy as np
import wfdb
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid

from medssl.synthetic import signals, volumes
from medssl.synthetic.traits import BIRTH_DATE, HOSPITAL, STUDY_DATE, Traits

START = time(9, 0, 0)
# Rate, channels, unit, and digital steps per unit.
WFDB = {
    "ecg": (signals.ECG_RATE_HZ, signals.ECG_LEADS, "mV", 500.0),
    "ppg": (signals.PPG_RATE_HZ, ("PPG",), "NU", 1000.0),
}
EDF_RANGE_UV = (-3276.8, 3276.7)  # steps of 0.1 uV
HU_OFFSET = 1024
SUFFIX = {"ecg": ".hea", "ppg": ".hea", "eeg": ".edf", "ct": "", "mri": ".nii"}


def record(path: Path, values: np.ndarray, traits: Traits, *, entropy: str) -> None:
    """Write one recording to ``path``, which has the suffix of `SUFFIX`; that of DICOM is a folder.

    Args:
        values: ``(C, T)`` in mV (ECG), no unit (PPG) or uV (EEG); ``(D, H, W)`` in HU (CT) or without scale (MRI).
        entropy: what makes the UIDs of this recording its own.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    if traits.modality in WFDB:
        wfdb_record(path, values, traits)
    elif traits.modality == "eeg":
        edf(path, values, traits)
    elif traits.modality == "ct":
        dicom_series(path, values, traits, entropy=entropy)
    else:
        nifti(path, values, traits)


def wfdb_record(path: Path, values: np.ndarray, traits: Traits) -> None:
    """Write ``(C, T)`` as 16-bit WFDB; identity stands in header comments."""
    rate_hz, names, unit, steps = WFDB[traits.modality]
    count = len(names)
    wfdb.wrsamp(
        path.stem,
        fs=rate_hz,
        units=[unit] * count,
        sig_name=list(names),
        # -32768 is the format's sign for a missing sample.
        d_signal=np.clip(np.rint(values.T * steps), -32767, 32767).astype(np.int16),
        fmt=["16"] * count,
        adc_gain=[steps] * count,
        baseline=[0] * count,
        comments=[
            f"Name: {traits.name}",
            f"MRN: {traits.mrn}",
            f"Birth date: {BIRTH_DATE:%Y%m%d}",
            f"Hospital: {HOSPITAL}",
        ],
        base_date=STUDY_DATE,
        base_time=START,
        write_dir=str(path.parent),
    )


def edf(path: Path, values: np.ndarray, traits: Traits) -> None:
    """Write ``(C, T)`` in uV as EDF+ in data records of one second, or one shorter record."""
    clipped = np.clip(values, *EDF_RANGE_UV).astype(np.float64)
    channels = [
        edfio.EdfSignal(row, signals.EEG_RATE_HZ, label=name, physical_dimension="uV", physical_range=EDF_RANGE_UV)
        for name, row in zip(signals.EEG_CHANNELS, clipped, strict=True)
    ]
    name = traits.name.replace("^", "_")
    edfio.Edf(
        channels,
        patient=edfio.Patient(code=traits.mrn, sex="M" if traits.male else "F", birthdate=BIRTH_DATE, name=name),
        recording=edfio.Recording(
            startdate=STUDY_DATE, hospital_administration_code=HOSPITAL, equipment_code="PLANTEDDEVICE"
        ),
        starttime=START,
        data_record_duration=min(1.0, values.shape[1] / signals.EEG_RATE_HZ),
    ).write(path)


def dicom_series(folder: Path, values: np.ndarray, traits: Traits, *, entropy: str) -> None:
    """Write ``(D, H, W)`` in HU as one file per slice, numbered from head to foot as scanners often do."""
    folder.mkdir()
    stored = (values.astype(np.int32) + HU_OFFSET).clip(0, 4095).astype("<u2")
    depth, rows, columns = stored.shape
    dz, dy, dx = volumes.CT_SPACING_MM
    dataset = _series_header(traits, entropy)
    dataset.Rows, dataset.Columns = rows, columns
    dataset.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    dataset.PixelSpacing, dataset.SliceThickness = [dy, dx], dz
    for place, image in enumerate(stored):
        dataset.SOPInstanceUID = generate_uid(entropy_srcs=[entropy, f"slice {place}"])
        dataset.InstanceNumber = depth - place
        z_mm = (place - (depth - 1) / 2) * dz
        dataset.ImagePositionPatient = [-(columns - 1) / 2 * dx, -(rows - 1) / 2 * dy, z_mm]
        dataset.PixelData = image.tobytes()
        dataset.save_as(folder / f"IM{depth - place:04d}.dcm", enforce_file_format=True)


def _series_header(traits: Traits, entropy: str) -> Dataset:
    """Return what all slices of a series share: identity in plain, private and nested elements, and the scale."""
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.SOPClassUID, dataset.Modality = CTImageStorage, "CT"
    for name, kind in (("StudyInstance", "study"), ("SeriesInstance", "series"), ("FrameOfReference", "frame")):
        setattr(dataset, f"{name}UID", generate_uid(entropy_srcs=[entropy, kind]))
    dataset.PatientName, dataset.PatientID = traits.name, traits.patient_id
    dataset.PatientBirthDate = f"{BIRTH_DATE:%Y%m%d}"
    dataset.StudyDate = dataset.SeriesDate = dataset.ContentDate = f"{STUDY_DATE:%Y%m%d}"
    dataset.StudyTime = f"{START:%H%M%S}"
    dataset.InstitutionName = HOSPITAL
    dataset.ReferringPhysicianName = "PLANTEDDOCTOR^ANN"
    dataset.AccessionNumber = f"PLANTEDACC{traits.patient + 1:04d}"
    nested = Dataset()
    nested.PatientID, nested.IssuerOfPatientID = traits.mrn, HOSPITAL
    dataset.OtherPatientIDsSequence = [nested]
    private = dataset.private_block(0x0011, "PLANTEDVENDOR", create=True)
    private.add_new(0x01, "LO", f"PLANTEDPRIVATE {traits.name}")
    dataset.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
    dataset.SeriesNumber, dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, 1, "MONOCHROME2"
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = 16, 12, 11, 0
    dataset.RescaleIntercept, dataset.RescaleSlope, dataset.RescaleType = -HU_OFFSET, 1, "HU"
    return dataset


def nifti(path: Path, values: np.ndarray, traits: Traits) -> None:
    """Write ``(D, H, W)`` as plain NIfTI (a gzip header would hold a time); floats as 16-bit with a scale factor."""
    dz, dy, dx = volumes.CT_SPACING_MM if traits.modality == "ct" else volumes.MRI_SPACING_MM
    data = np.ascontiguousarray(values.transpose(2, 1, 0))
    # The arrays point to left, posterior, superior; NIfTI's world points to right, anterior, superior.
    affine = np.diag([-dx, -dy, dz, 1.0])
    affine[:3, 3] = -affine[:3, :3] @ ((np.array(data.shape) - 1) / 2)
    image = nib.Nifti1Image(data, affine)
    image.set_data_dtype(np.uint8 if values.dtype == np.uint8 else np.int16)
    image.header.set_xyzt_units("mm")
    image.header["descrip"] = f"{traits.name} {BIRTH_DATE:%Y%m%d} {HOSPITAL}".encode()
    image.header["aux_file"] = traits.mrn.encode()
    comment = f"{traits.patient_id} {traits.name} scanned {STUDY_DATE:%Y%m%d}"
    image.header.extensions.append(nib.nifti1.Nifti1Extension("comment", comment.encode()))
    nib.save(image, path)
