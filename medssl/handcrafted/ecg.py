"""What a cardiologist measures in an ECG: rhythm, intervals, and the waves of the median beat in every lead.

Letters: C leads, T time steps, B beats, W steps of a beat. Amplitudes are in the unit of the store, which is relative
where its windows were scaled (``normalise``). NaN = not found, or no such lead.
"""

from __future__ import annotations

import warnings

import numpy as np

from medssl.ingest import beats

BEFORE_S, AFTER_S = 0.3, 0.5  # a beat around its R peak: a P wave at PR 240 ms, a T wave that ends at QT 480 ms
LEVEL_S = (-0.1, -0.06)  # between P and QRS: the isoelectric level, from which amplitudes are measured
POINTS = 40  # of a median beat, 20 ms apart
# Where each wave is sought from the R peak, and whether it is the highest, the lowest or the larger of both.
WAVES = {
    "p": ((-0.26, -0.1), "larger"),
    "q": ((-0.06, 0.0), "lowest"),
    "r": ((-0.06, 0.06), "highest"),
    "s": ((0.0, 0.1), "lowest"),
    "t": ((0.16, 0.45), "larger"),
}
ST_S = ((0.08, 0.1), (0.12, 0.14))  # from the R peak: about the J point, and 40 ms later
QRS_S, T_S = (-0.06, 0.08), (0.16, 0.45)  # their areas
BOUNDARIES = ("P_Onsets", "P_Offsets", "R_Onsets", "R_Offsets", "T_Onsets", "T_Offsets")  # neurokit2's names
DELINEATED = 8  # beats of a stretch whose boundaries are sought: their median settles, and time is theirs


def features(values: np.ndarray, rate_hz: float, channels: tuple[str, ...], *, cut: str = "windows") -> np.ndarray:
    """Return features (d,) of a stretch (C, T) of finite values; ``d`` depends on C alone.

    Args:
        values, rate_hz: of the stretch.
        channels: names of the leads.
        cut: ``beats`` says that the stretch is a window around one beat.
    """
    peaks = np.array([values.shape[1] // 2]) if cut == "beats" else beats.find(values, rate_hz)
    beat, varies = median_beat(values, peaks, rate_hz)
    lead = next((i for i, name in enumerate(channels) if name.upper() in ("II", "MLII")), 0)
    parts = [
        rhythm(peaks / rate_hz), intervals(values[lead], peaks, rate_hz), varies,
        axes(beat, channels), waves(beat).ravel(), resampled(beat).ravel(),
    ]  # fmt: skip
    return np.concatenate(parts)


def rhythm(peaks_s: np.ndarray) -> np.ndarray:
    """Return (6,): mean RR (s), its SD, the RMS of successive differences, both over the mean, shortest over mean."""
    rr = np.diff(peaks_s)
    if len(rr) < 2:
        return np.r_[rr.mean() if len(rr) else np.nan, np.full(5, np.nan)]
    mean, sd, rmssd = rr.mean(), rr.std(), np.sqrt(np.square(np.diff(rr)).mean())
    return np.array([mean, sd, rmssd, sd / mean, rmssd / mean, rr.min() / mean])


def median_beat(values: np.ndarray, peaks: np.ndarray, rate_hz: float) -> tuple[np.ndarray, np.ndarray]:
    """Return the median beat (C, W) at `times`, above the isoelectric level, and how beats vary about it (C,).

    The median over beats takes away noise and what a single ectopic beat does. It is interpolated at 500 Hz.
    """
    at = (peaks[:, None] / rate_hz + times()) * rate_hz  # (B, W)
    inside = (at >= 0) & (at <= values.shape[1] - 1)
    if not inside.any():
        return np.full((len(values), len(times())), np.nan), np.full(len(values), np.nan)
    steps = np.arange(values.shape[1])
    cut = np.stack([np.interp(at, steps, lead) for lead in values])  # (C, B, W)
    cut[:, ~inside] = np.nan
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # a step that no beat has stays NaN
        cut -= np.nanmean(cut[..., _within(LEVEL_S)], axis=2, keepdims=True)
        beat = np.nanmedian(cut, axis=1)
        varies = np.sqrt(np.nanmean(np.square(cut - beat[:, None]), axis=(1, 2)))
    return beat, varies


def times() -> np.ndarray:
    """Return the times (W,) of a median beat from its R peak, in seconds, 2 ms apart."""
    return np.arange(round(-BEFORE_S * 500), round(AFTER_S * 500)) / 500


def _within(span_s: tuple[float, float]) -> np.ndarray:
    return (times() >= span_s[0] - 1e-9) & (times() <= span_s[1] + 1e-9)


def waves(beat: np.ndarray) -> np.ndarray:
    """Return (C, 15) of a median beat (C, W): see the columns in the code; times in seconds from the R peak."""
    columns = []
    for span, which in WAVES.values():
        part = beat[:, _within(span)]
        high, low = part.max(axis=1), part.min(axis=1)  # NaN where a step is
        height = {"highest": high, "lowest": low, "larger": np.where(high >= -low, high, low)}[which]
        columns.append(height)
        if which == "larger":
            known = np.nan_to_num(part)
            place = np.where(high >= -low, known.argmax(axis=1), known.argmin(axis=1)) / 500 + span[0]
            columns.append(np.where(np.isfinite(height), place, np.nan))
    p, _, q, r, s, t, _ = columns
    level = [beat[:, _within(span)].mean(axis=1) for span in ST_S]
    area = [beat[:, _within(span)].sum(axis=1) / 500 for span in (QRS_S, T_S)]
    total = np.maximum(r - np.minimum(q, s), 1e-6)
    # Shares of the QRS's height, which no scaling of windows touches.
    shares = [p / total, r / total, t / total, level[1] / total]
    return np.stack([*columns, *level, *area, *shares], axis=1)


def axes(beat: np.ndarray, channels: tuple[str, ...]) -> np.ndarray:
    """Return (6,): cosine and sine of the axes of QRS and T in the frontal plane, of their angle, and Sokolow-Lyon's.

    The axis is the direction of the areas in I and aVF, aVF by 2/sqrt(3) as an augmented lead is smaller. Sokolow and
    Lyon 1949: S in V1 and the larger R of V5 and V6.
    """
    at = {name.upper(): i for i, name in enumerate(channels)}
    out = np.full(6, np.nan)
    if {"I", "AVF"} <= set(at):
        vectors = []
        for span in (QRS_S, T_S):
            x, y = beat[[at["I"], at["AVF"]]][:, _within(span)].sum(axis=1) * (1, 2 / np.sqrt(3))
            vectors.append(np.array([x, y]) / max(np.hypot(x, y), 1e-9))
        out[:5] = [*vectors[0], *vectors[1], vectors[0] @ vectors[1]]
    if {"V1", "V5", "V6"} <= set(at):
        s = beat[at["V1"], _within(WAVES["s"][0])].min()
        out[5] = max(beat[at[name], _within(WAVES["r"][0])].max() for name in ("V5", "V6")) - s
    return out


def intervals(lead: np.ndarray, peaks: np.ndarray, rate_hz: float) -> np.ndarray:
    """Return (8,) of a lead (T,), seconds: P, PR, QRS, QT, QTc, T, the SD of PR, and the share of beats with a P wave.

    Medians over the first beats whose boundaries neurokit2 finds by its discrete wavelet method (Martinez et al. 2004).
    QTc is Bazett's, QT / sqrt(RR).
    """
    peaks = peaks[: DELINEATED + 2]
    out = np.full(8, np.nan)
    if len(peaks) < 4:  # neurokit2 needs neighbours
        return out
    import neurokit2 as nk

    lead = lead[: peaks[-1] + round(rate_hz)].astype(np.float64)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of beats without a wave, which are NaN
        try:
            _, found = nk.ecg_delineate(lead, peaks, sampling_rate=rate_hz, method="dwt")
        except (ValueError, IndexError, TypeError, ZeroDivisionError):  # no wave at all, as in noise
            return out
        at = [np.asarray(found[f"ECG_{name}"], dtype=float)[: len(peaks)] / rate_hz for name in BOUNDARIES]
        if any(len(a) != len(peaks) for a in at):
            return out
        p_on, p_off, r_on, r_off, t_on, t_off = at
        rr = np.diff(peaks).mean() / rate_hz
        qt = np.nanmedian(t_off - r_on)
        each = [p_off - p_on, r_on - p_on, r_off - r_on]
        late = [qt, qt / np.sqrt(rr), np.nanmedian(t_off - t_on), np.nanstd(r_on - p_on), np.isfinite(p_on).mean()]
        out[:] = [*(np.nanmedian(e) for e in each), *late]
    return out


def resampled(beat: np.ndarray) -> np.ndarray:
    """Return a median beat (C, W) as means of `POINTS` equal parts (C, POINTS)."""
    return beat.reshape(len(beat), POINTS, -1).mean(axis=2)
