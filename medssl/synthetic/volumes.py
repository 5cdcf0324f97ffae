"""Synthetic CT and MRI: phantoms of ellipsoids whose organs carry the traits, under nuisance of the acquisition.

Volumes are ``(D, H, W)`` with axes to superior, posterior, left, coordinates in mm from the centre of the grid.
An organ is an ellipsoid with soft borders: its occupancy of a voxel mixes it with what lies beneath, and its mask is
where the occupancy reaches one half.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.ndimage import gaussian_filter

from medssl.synthetic.traits import Recording, Traits

Rng = np.random.Generator
Triple = tuple[float, float, float]

# --- CT: what is planted ----------------------------------------------------------------------------------------------
CT_SHAPE = (24, 64, 64)
CT_SPACING_MM = (8.0, 5.0, 5.0)
CT_LABELS = {1: "liver", 2: "kidneys", 3: "lung", 4: "aorta", 5: "spine", 6: "spleen"}
CT_AIR_HU, CT_FAT_HU, CT_MUSCLE_HU, CT_BONE_HU = -1000.0, -100.0, 50.0, 700.0
CT_LUNG_HU = (-850.0, -750.0)
CT_LIVER_HU, CT_KIDNEY_HU, CT_SPLEEN_HU, CT_BLOOD_HU = 60.0, 40.0, 50.0, 40.0
CT_DISEASE_LIVER_HU = -22.0  # steatosis
CT_DISEASE_LIVER_SIZE = 1.04  # factor on each axis of the liver
CT_CONTRAST_HU = {"aorta": 160.0, "kidneys": 120.0, "heart": 110.0, "liver": 30.0, "spleen": 45.0}
CT_MALE_SIZE = 1.06
CT_FAT_MM = 10.0
CT_AGE_FAT_MM = 8.0  # from youngest to oldest
CT_FEMALE_FAT_MM = 5.0
CT_AGE_KIDNEY = -0.14  # relative change of each kidney axis from youngest to oldest
CT_AGE_LUNG = 0.08
CT_SPREAD_HU = 3.0
CT_SPREAD_SIZE = 0.04  # of ln size, per organ, over patients
# --- CT: what hides it ------------------------------------------------------------------------------------------------
CT_NOISE_HU = (20.0, 60.0)
CT_OFFSET_HU = 10.0  # spread of the scanner's calibration
CT_CUPPING_HU = 15.0
CT_TURN_DEG = 8.0
CT_SHIFT_MM = 12.0
CT_BOWEL_LOOPS = 12

# --- MRI --------------------------------------------------------------------------------------------------------------
MRI_SHAPE = (32, 32, 32)
MRI_SPACING_MM = (5.5, 5.5, 5.5)
MRI_LABELS = {1: "ventricles", 2: "hippocampus", 3: "grey", 4: "white"}
MRI_TISSUE = {"fat": 1.15, "skull": 0.12, "csf": 0.22, "grey": 0.68, "white": 1.0, "hippocampus": 0.66}
MRI_HIPPOCAMPUS_MM = (7.5, 20.0, 10.0)  # semi-axes along superior, posterior, left; larger than life for the grid
MRI_AGE_HIPPOCAMPUS = -0.30  # relative change of volume from youngest to oldest
MRI_DISEASE_HIPPOCAMPUS = 0.62  # factor on volume
MRI_AGE_VENTRICLES = 1.1  # of ln volume, from youngest to oldest
MRI_AGE_BRAIN = -0.04  # relative change of each brain axis
MRI_MALE_HEAD = 1.03
MRI_SPREAD_VOLUME = 0.08  # of ln volume, per structure, over patients
MRI_SCALE = (1e2, 1e5)  # intensity of white matter, arbitrary as in real MRI
MRI_BIAS = 0.25  # of ln intensity
MRI_NOISE = (0.03, 0.08)  # share of white matter
MRI_TURN_DEG = 7.0
MRI_SHIFT_MM = 6.0


class Canvas:
    """A volume painted organ by organ in the body's own axes, turned and shifted against the grid of the scanner."""

    def __init__(self, shape: tuple[int, int, int], spacing_mm: Triple, turn: np.ndarray, shift_mm: np.ndarray) -> None:
        axes = [(np.arange(n) - (n - 1) / 2) * s for n, s in zip(shape, spacing_mm, strict=True)]
        grid = np.stack(np.meshgrid(*axes, indexing="ij")).reshape(3, -1) - shift_mm[:, None]
        self.z, self.y, self.x = (turn @ grid).reshape(3, *shape).astype(np.float32)
        self.values = np.zeros(shape, np.float32)
        self.mask = np.zeros(shape, np.uint8)
        self.voxel_mm = float(np.mean(spacing_mm[1:]))

    def ellipsoid(self, centre: Triple, semi: Triple, *, box: bool = False, lean: float = 0.0) -> np.ndarray:
        """Return the occupancy in [0, 1]; ``box`` flattens top and bottom, ``lean`` moves x per mm of height."""
        z = (self.z - centre[0]) / semi[0]
        y = (self.y - centre[1]) / semi[1]
        x = (self.x - centre[2] - lean * (self.z - centre[0])) / semi[2]
        z = z * z
        # The fourth power along z keeps the cross-section over a stretch of slices, as organs do.
        radius = np.sqrt((z * z if box else z) + y * y + x * x)
        return np.clip(0.5 + (1 - radius) * min(semi[1], semi[2]) / self.voxel_mm, 0, 1)

    def paint(self, occupancy: np.ndarray, value: float, label: int = 0) -> None:
        """Mix ``value`` in by ``occupancy`` and put ``label`` where it reaches one half."""
        self.values += occupancy * (np.float32(value) - self.values)
        self.mask[occupancy >= 0.5] = label


def rotation(angles_rad: np.ndarray) -> np.ndarray:
    """Return the rotation about superior, posterior and left (in this order of ``angles_rad``)."""
    (a, b, c), total = angles_rad, np.eye(3)
    for first, second, angle in ((1, 2, a), (0, 2, b), (0, 1, c)):
        step = np.eye(3)
        step[first, first] = step[second, second] = np.cos(angle)
        step[first, second], step[second, first] = -np.sin(angle), np.sin(angle)
        total = step @ total
    return total


def _smooth_field(rng: Rng, shape: tuple[int, ...]) -> np.ndarray:
    """Return a smooth random field of mean 0 and unit spread, half a volume across."""
    field = gaussian_filter(rng.standard_normal(shape), [n / 4 for n in shape], mode="nearest")
    return (field - field.mean()) / field.std()


def ct(traits: Traits, rng: Rng, trial_rngs: Sequence[Rng]) -> list[Recording]:
    """Return a torso in HU; disease lowers liver HU, age shrinks kidneys and adds fat, sex scales the body."""
    scan_rng = trial_rngs[0]

    def size() -> float:
        return float(np.exp(rng.normal(0, CT_SPREAD_SIZE)))

    body = (CT_MALE_SIZE if traits.male else 1.0) * size()
    fat_mm = CT_FAT_MM + CT_AGE_FAT_MM * traits.age_share + (0.0 if traits.male else CT_FEMALE_FAT_MM)
    fat_mm = max(5.0, fat_mm + rng.normal(0, 2.0))
    liver = body * size() * (CT_DISEASE_LIVER_SIZE if traits.disease else 1.0)
    kidney = body * size() * (1 - CT_AGE_KIDNEY * (0.5 - traits.age_share))
    lung = body * size() * (1 - CT_AGE_LUNG * (0.5 - traits.age_share))
    lung_hu = rng.uniform(*CT_LUNG_HU)
    liver_hu = CT_LIVER_HU + rng.normal(0, CT_SPREAD_HU) + (CT_DISEASE_LIVER_HU if traits.disease else 0.0)
    kidney_hu, spleen_hu = CT_KIDNEY_HU + rng.normal(0, CT_SPREAD_HU), CT_SPLEEN_HU + rng.normal(0, CT_SPREAD_HU)
    contrast = bool(scan_rng.random() < 0.5)

    enhanced = {name: hu if contrast else 0.0 for name, hu in CT_CONTRAST_HU.items()}
    turn = rotation(np.deg2rad([scan_rng.uniform(-CT_TURN_DEG, CT_TURN_DEG), 0, 0]))
    shift = scan_rng.uniform(-CT_SHIFT_MM, CT_SHIFT_MM, 3)
    canvas = Canvas(CT_SHAPE, CT_SPACING_MM, turn, shift)
    canvas.values[:] = CT_AIR_HU
    tall = 400.0  # longer than the field of view: the body is cut by it
    wide, deep = 118 * body, 82 * body
    skin = canvas.ellipsoid((0, 0, 0), (tall, deep + fat_mm, wide + fat_mm), box=True)
    canvas.paint(skin, CT_FAT_HU)
    canvas.paint(canvas.ellipsoid((0, 0, 0), (tall, deep, wide), box=True), CT_MUSCLE_HU)
    fat_voxels = (canvas.values < -50) & (skin >= 0.5)
    # Fat of the belly around the organs, below the diaphragm.
    canvas.paint(canvas.ellipsoid((-75, -5, 0), (75, deep - 14, wide - 14), box=True), CT_FAT_HU)
    _ribs(canvas, deep, wide)
    for side in (-1, 1):
        centre, semi = (95.0, 0.0, side * 58.0 * body), (80 * lung, 58 * lung, 43 * lung)
        canvas.paint(canvas.ellipsoid(centre, semi, box=True), lung_hu, 3)
    canvas.paint(canvas.ellipsoid((80, -18, 14), (42, 36, 40)), CT_BLOOD_HU + enhanced["heart"])
    semi = (48 * liver, 58 * liver, 52 * liver)
    canvas.paint(canvas.ellipsoid((0, -8, -48 * body), semi, box=True, lean=-0.25), liver_hu + enhanced["liver"], 1)
    canvas.paint(canvas.ellipsoid((8, 38, 72 * body), (34, 24, 22)), spleen_hu + enhanced["spleen"], 6)
    for side in (-1, 1):
        centre, semi = (-42.0 - 4 * side, 42 * body, side * 50 * body), (44 * kidney, 19 * kidney, 21 * kidney)
        canvas.paint(canvas.ellipsoid(centre, semi), kidney_hu + enhanced["kidneys"], 2)
    _gut(canvas, scan_rng, body)
    canvas.paint(canvas.ellipsoid((0, 34, 9), (tall, 11, 11), box=True), CT_BLOOD_HU + enhanced["aorta"], 4)
    canvas.paint(canvas.ellipsoid((-40, 32, -16), (60, 10, 12), box=True), CT_BLOOD_HU + 0.5 * enhanced["aorta"])
    canvas.paint(canvas.ellipsoid((0, 60 * body, 0), (tall, 17, 19), box=True), CT_BONE_HU, 5)
    canvas.paint(canvas.ellipsoid((0, 68 * body, 0), (tall, 6, 8), box=True), CT_MUSCLE_HU)

    values = canvas.values + _table(shift[1] + deep + fat_mm)
    offset, cupping = np.float32(scan_rng.normal(0, CT_OFFSET_HU)), scan_rng.uniform(0, CT_CUPPING_HU)
    values = values + np.where(values > -300, offset + cupping * _smooth_field(scan_rng, CT_SHAPE), 0)
    values += scan_rng.uniform(*CT_NOISE_HU) * scan_rng.standard_normal(CT_SHAPE)
    values = np.clip(np.rint(values), -1024, 3071).astype(np.int16)
    fat_ml = float(fat_voxels.sum()) * (float(np.prod(CT_SPACING_MM)) / 1000)
    return [Recording(values, {"contrast": "yes" if contrast else "no"}, {"fat_ml": round(fat_ml, 1)}, canvas.mask)]


def _ribs(canvas: Canvas, deep: float, wide: float) -> None:
    """Paint slanted arcs of bone in the wall of the chest, above the diaphragm."""
    radius = np.hypot(canvas.y / deep, canvas.x / wide)
    angle = np.abs(np.arctan2(canvas.x, canvas.y))  # 0 at the spine, pi at the breastbone
    arcs = np.sin(2 * np.pi * (canvas.z + 14 * angle) / 28) > 0.35
    shell = (radius > 0.90) & (radius < 0.98) & (canvas.z > -5) & (angle > 0.4)
    canvas.paint((arcs & shell).astype(np.float32), 0.6 * CT_BONE_HU)


def _gut(canvas: Canvas, rng: Rng, body: float) -> None:
    """Paint stomach and bowel loops with gas and fluid at places of this day."""
    canvas.paint(canvas.ellipsoid((5, -30, 48 * body), (30, 24, 26)), rng.uniform(0, 40))
    canvas.paint(canvas.ellipsoid((5, -42, 46 * body), (20, rng.uniform(5, 11), 16)), -800)
    for _ in range(CT_BOWEL_LOOPS):
        centre = (rng.uniform(-110, -45), rng.uniform(-50, 5), rng.uniform(-65, 75))
        loop = canvas.ellipsoid(centre, (rng.uniform(12, 30), rng.uniform(8, 14), rng.uniform(8, 20)))
        canvas.paint(loop * (canvas.mask == 0), -700 if rng.random() < 0.3 else rng.uniform(10, 50))


def _table(below_mm: float) -> np.ndarray:
    """Return what a thin curved table adds to the air behind a patient whose back is ``below_mm`` from the centre."""
    rows, columns = ((np.arange(n) - (n - 1) / 2) * CT_SPACING_MM[1] for n in CT_SHAPE[1:])
    height = rows[:, None] - (below_mm + 10 - (columns / 60) ** 2 * 3)[None, :]
    board = (np.abs(height) < 4) & (np.abs(columns) < 125)[None, :]
    return np.broadcast_to(np.where(board, 850.0, 0.0), CT_SHAPE).astype(np.float32)


def mri(traits: Traits, rng: Rng, trial_rngs: Sequence[Rng]) -> list[Recording]:
    """Return a T1-like head; age shrinks hippocampi and widens ventricles, disease shrinks hippocampi further."""
    scan_rng = trial_rngs[0]

    def size(volume: float = 1.0) -> float:
        return float(np.cbrt(volume * np.exp(rng.normal(0, MRI_SPREAD_VOLUME))))

    head = (MRI_MALE_HEAD if traits.male else 1.0) * size()
    brain = head * (1 - MRI_AGE_BRAIN * (0.5 - traits.age_share))
    loss = (1 - MRI_AGE_HIPPOCAMPUS * (0.5 - traits.age_share)) * (MRI_DISEASE_HIPPOCAMPUS if traits.disease else 1.0)
    hippocampus = head * size(loss)
    ventricle = head * size(np.exp(MRI_AGE_VENTRICLES * (traits.age_share - 0.5)))
    folds = rng.uniform(0, 2 * np.pi, 3)

    turn = rotation(np.deg2rad(scan_rng.uniform(-MRI_TURN_DEG, MRI_TURN_DEG, 3)))
    canvas = Canvas(MRI_SHAPE, MRI_SPACING_MM, turn, scan_rng.uniform(-MRI_SHIFT_MM, MRI_SHIFT_MM, 3))
    for tissue, layer in (("fat", (72, 82, 66)), ("skull", (67, 77, 61)), ("csf", (62, 72, 56))):
        canvas.paint(canvas.ellipsoid((0, 0, 0), _scaled(layer, head)), MRI_TISSUE[tissue])
    canvas.paint(canvas.ellipsoid((0, 0, 0), _scaled((58, 68, 53), brain)), MRI_TISSUE["grey"], 3)
    canvas.paint(_folded(canvas, _scaled((47, 57, 42), brain), folds), MRI_TISSUE["white"], 4)
    for side in (-1, 1):
        # CSF of constant size around each hippocampus: what the hippocampus loses, fluid fills, as in real atrophy.
        place = (-20.0 * head, 4.0 * head, side * 25.0 * head)
        hollow = tuple(axis + 2.0 for axis in MRI_HIPPOCAMPUS_MM)
        canvas.paint(canvas.ellipsoid(place, _scaled(hollow, head)), MRI_TISSUE["csf"])
        canvas.paint(canvas.ellipsoid(place, _scaled(MRI_HIPPOCAMPUS_MM, hippocampus)), MRI_TISSUE["hippocampus"], 2)
        place = (14.0 * head, 4.0 * head, side * 10.0 * head)
        canvas.paint(canvas.ellipsoid(place, _scaled((10.0, 27.0, 6.5), ventricle)), MRI_TISSUE["csf"], 1)

    values = canvas.values * np.exp(MRI_BIAS * _smooth_field(scan_rng, MRI_SHAPE))
    level = scan_rng.uniform(*MRI_NOISE)
    # The magnitude of a complex signal: noise is Rician, as in a real scanner, and never below zero.
    real, imaginary = level * scan_rng.standard_normal((2, *MRI_SHAPE))
    scale = np.exp(scan_rng.uniform(*np.log(MRI_SCALE)))
    semi = _scaled(MRI_HIPPOCAMPUS_MM, hippocampus)
    values = (scale * np.hypot(values + real, imaginary)).astype(np.float32)
    hippocampus_mm3 = 2 * 4 / 3 * np.pi * float(np.prod(semi))
    return [Recording(values, {}, {"hippocampus_mm3": round(hippocampus_mm3, 1)}, canvas.mask)]


def _scaled(semi: tuple[float, ...], factor: float) -> Triple:
    return semi[0] * factor, semi[1] * factor, semi[2] * factor


def _folded(canvas: Canvas, semi: Triple, folds: np.ndarray) -> np.ndarray:
    """Return the occupancy of white matter, whose border waves with the folds of this patient's cortex."""
    smooth = canvas.ellipsoid((0, 0, 0), semi)
    z, y, x = canvas.z / semi[0], canvas.y / semi[1], canvas.x / semi[2]
    radius = np.sqrt(z * z + y * y + x * x)
    around, up = np.arctan2(x, y), z / np.maximum(radius, 0.2)
    wave = (
        0.05 * np.sin(8 * around + folds[0]) + 0.05 * np.sin(7 * up + folds[1]) + 0.03 * np.sin(13 * around + folds[2])
    )
    folded = np.clip(0.5 + (1 + wave - radius) * min(semi[1], semi[2]) / canvas.voxel_mm, 0, 1)
    return np.where(radius < 0.6, smooth, folded).astype(np.float32)
