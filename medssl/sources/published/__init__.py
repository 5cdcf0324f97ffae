"""List public sets in the layout their owners publish, with their labels and their patients.

Each function takes the folder of one set. A row of a label table gives a record even where its file is absent
(reading it then says ``missing_file``); files without a row are left out.
"""

from medssl.sources.published.ecg import cinc2017, cinc2020, cinc2021, mitbih, ptbdb, ptbxl, ptbxl_500
from medssl.sources.published.eeg import eegmat, eegmmidb, sleep_edf
from medssl.sources.published.images import covid_ct, luna16_slices, medmnist, tcga_lung
from medssl.sources.published.lung import lidc, luna16
from medssl.sources.published.ppg import bidmc, bidmc_ecg, ppg_bp, ppg_dalia, welltory
from medssl.sources.published.volumes import ixi, msd, msd_hippocampus, openbhb

__all__ = [
    "bidmc", "bidmc_ecg", "cinc2017", "cinc2020", "cinc2021", "covid_ct", "eegmat", "eegmmidb", "ixi", "lidc", "luna16",
    "luna16_slices", "medmnist", "mitbih", "msd", "msd_hippocampus", "openbhb", "ppg_bp", "ppg_dalia", "ptbdb", "ptbxl",
    "ptbxl_500", "sleep_edf", "tcga_lung", "welltory",
]  # fmt: skip
