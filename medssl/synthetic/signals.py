"""Synthetic ECG, PPG and EEG: small stable traits of the patient under strong nuisance of the trial.

Each function draws the patient's fingerprint from ``rng`` and one trial per generator of ``trial_rngs``, so that two
trials of a patient share the fingerprint and nothing else. Shapes are ``(C, T)``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import neurokit2 as nk
import numpy as np
from scipy.signal import find_peaks

from medssl.synthetic.traits import Recording, Traits

Rng = np.random.Generator

# --- ECG: what is planted -------------------------------------------------------------------------------------------
ECG_RATE_HZ = 100.0
ECG_LENGTH_S = 10.0
ECG_LEADS = ("I", "II", "III", "AVR", "AVL", "AVF", "V1", "V2", "V3", "V4", "V5", "V6")
ECG_DISEASE_T_LEFT = 0.10  # factor on the leftward T dipole: flat to slightly inverted T in I, AVL, V5, V6
ECG_DISEASE_QRS_WIDTH = 1.15
ECG_MALE_QRS = 1.40  # factor on QRS amplitude
ECG_AGE_P = -0.9  # relative change of the P wave from youngest to oldest
ECG_AGE_HRV = -0.7  # relative change of RR variability from youngest to oldest
ECG_HRV_BPM = 4.0
ECG_STATE_BPM = {"rest": (65.0, 7.0), "exercise": (105.0, 9.0)}  # mean and spread over patients
ECG_SPREAD_AXIS_RAD = 0.25
ECG_SPREAD_AMPLITUDE = 0.12  # of ln amplitude, per wave, over patients
ECG_SPREAD_WIDTH = 0.08  # of ln width, over patients
# --- ECG: what hides it, drawn anew for each trial --------------------------------------------------------------------
ECG_GAIN = (0.5, 2.0)
ECG_LEAD_GAIN = 0.15  # spread of ln gain of single leads
ECG_OFFSET_MV = 0.3  # spread of the electrodes' own voltage
ECG_WANDER_MV = (0.10, 0.60)
ECG_MUSCLE_MV = (0.03, 0.25)
ECG_POWERLINE_MV = (0.0, 0.08)
POWERLINE_HZ = 49.7  # just below half of the ECG rate, where exact 50 Hz would be a constant pattern

# --- PPG --------------------------------------------------------------------------------------------------------------
PPG_RATE_HZ = 125.0
PPG_LENGTH_S = 20.0
PPG_DISEASE_PEAK = 0.042  # later systolic peak: share of the beat
PPG_DISEASE_IRREGULAR = 0.02  # added spread of beat intervals
PPG_NOTCH = 0.22  # height of the second wave at middle age; the base pulse is about 1.5 high
PPG_AGE_NOTCH = 0.30  # what the second wave loses from youngest to oldest
PPG_AGE_NOTCH_EARLIER = 0.05  # shift of the second wave, share of the beat
PPG_MALE_WIDTH = 1.5  # factor on the width of the second wave
PPG_IRREGULAR = 0.02
PPG_STATE_BPM = {"rest": (64.0, 6.0), "exercise": (92.0, 8.0)}
PPG_SPREAD_PEAK = 0.012
PPG_SPREAD_NOTCH = 0.05
PPG_GAIN = (0.5, 2.0)
PPG_DRIFT = (0.2, 1.5)
PPG_MOTION = (0.2, 1.5)
PPG_NOISE = (0.03, 0.30)

# --- EEG --------------------------------------------------------------------------------------------------------------
EEG_RATE_HZ = 128.0
EEG_LENGTH_S = 20.0
EEG_CHANNELS = ("Fp1", "Fp2", "C3", "C4", "T3", "T4", "O1", "O2")
EEG_ALPHA_UV = 14.0
EEG_ALPHA_HZ = 10.6
EEG_AGE_ALPHA_HZ = -1.8  # slower alpha from youngest to oldest
EEG_SPREAD_ALPHA_HZ = 0.45
EEG_OPEN_ALPHA = 0.40  # factor on alpha with eyes open
EEG_THETA_UV = 4.5
EEG_DISEASE_THETA = 1.55
EEG_DISEASE_LEFT = 1.04  # further factor on theta over the left hemisphere
EEG_BETA_UV = 3.0
EEG_MALE_BETA = 0.60
EEG_SPREAD_LEVEL = 0.15  # of ln amplitude, per rhythm, over patients
EEG_GAIN = (0.5, 2.0)
EEG_CHANNEL_GAIN = 0.20  # spread of ln gain of single channels, from their contact
EEG_BACKGROUND_UV = (6.0, 24.0)
EEG_BACKGROUND_SLOPE = (0.7, 1.8)  # of power over frequency
EEG_BLINK_UV = 90.0
EEG_MUSCLE_UV = (1.0, 10.0)
EEG_LINE_UV = (0.0, 6.0)

# Dower's matrix: leads I, II, V1..V6 of a dipole in mV along left, foot and back; the other leads are sums of I and II.
DOWER = np.array(
    [
        [0.632, -0.235, 0.059],
        [0.235, 1.066, -0.132],
        [-0.515, 0.157, -0.917],
        [0.044, 0.164, -1.387],
        [0.882, 0.098, -1.277],
        [1.213, 0.127, -0.601],
        [1.125, 0.127, -0.086],
        [0.831, 0.076, 0.230],
    ]
)
# Wave: time after R (s), width (s), dipole along left, foot, back (mV). T is two waves: it rises slower than it falls.
WAVES = {
    "P": (-0.16, 0.022, (0.06, 0.10, -0.01)),
    "Q": (-0.030, 0.009, (-0.10, -0.04, -0.12)),
    "R": (0.0, 0.013, (0.85, 0.65, 0.30)),
    "S": (0.032, 0.012, (-0.25, -0.12, 0.38)),
    "T1": (0.245, 0.050, (0.16, 0.10, -0.09)),
    "T2": (0.285, 0.032, (0.17, 0.10, -0.10)),
}


def log_uniform(rng: Rng, bounds: tuple[float, float]) -> float:
    """Draw from ``bounds`` evenly on a logarithmic scale."""
    return float(np.exp(rng.uniform(*np.log(bounds))))


def coloured(
    rng: Rng, shape: tuple[int, int], rate_hz: float, amplitude_of_hz: Callable[..., np.ndarray]
) -> np.ndarray:
    """Return noise ``(C, T)`` of unit variance per channel whose amplitude spectrum is ``amplitude_of_hz(f)``."""
    channels, length = shape
    f_hz = np.fft.rfftfreq(length, 1 / rate_hz)
    spectrum = rng.standard_normal((channels, f_hz.size, 2)) @ np.array([1, 1j])
    spectrum *= amplitude_of_hz(np.maximum(f_hz, f_hz[1]))
    spectrum[:, 0] = 0
    noise = np.fft.irfft(spectrum, length, axis=1)
    return noise / noise.std(axis=1, keepdims=True)


def bursts(rng: Rng, length: int, rate_hz: float, per_s: float) -> np.ndarray:
    """Return an envelope ``(T,)`` from 0 to about 1 with random bursts of 0.3 to 2 seconds."""
    time_s = np.arange(length) / rate_hz
    envelope = np.zeros(length)
    for _ in range(rng.poisson(per_s * length / rate_hz)):
        centre_s, half_s = rng.uniform(0, time_s[-1]), rng.uniform(0.15, 1.0)
        envelope = np.maximum(envelope, np.exp(-(((time_s - centre_s) / half_s) ** 4)))
    return envelope


def rhythm(rng: Rng, hrv_bpm: float) -> np.ndarray:
    """Return relative RR intervals (mean 1) of neurokit2's ECG model, which has its breathing and slow bands."""
    rate_hz = 100
    lead = nk.ecg_simulate(
        duration=14, sampling_rate=rate_hz, heart_rate=70, heart_rate_std=hrv_bpm, noise=0, random_state=rng
    )
    peaks, _ = find_peaks(lead, height=0.5 * lead.max(), distance=rate_hz // 3)
    # Between-sample position of each peak from the parabola through its neighbours: 10 ms steps would hide low HRV.
    before, at, after = lead[peaks - 1], lead[peaks], lead[peaks + 1]
    intervals = np.diff(peaks + 0.5 * (before - after) / (before - 2 * at + after))
    return intervals / intervals.mean()


def ecg(traits: Traits, rng: Rng, trial_rngs: Sequence[Rng]) -> list[Recording]:
    """Return 12-lead trials in mV; disease flattens lateral T and widens QRS, age shrinks P and HRV, sex scales QRS."""
    length = round(ECG_RATE_HZ * ECG_LENGTH_S)
    time_s = np.arange(length) / ECG_RATE_HZ
    frontal, horizontal = rng.normal(0, ECG_SPREAD_AXIS_RAD, 2)
    width = np.exp(rng.normal(0, ECG_SPREAD_WIDTH)) * (ECG_DISEASE_QRS_WIDTH if traits.disease else 1.0)
    t_width = np.exp(rng.normal(0, ECG_SPREAD_WIDTH))
    amplitude = dict(zip("PQRST", np.exp(rng.normal(0, ECG_SPREAD_AMPLITUDE, 5)), strict=True))
    amplitude["P"] *= 1 - ECG_AGE_P * (0.5 - traits.age_share)
    for wave in "QRS":
        amplitude[wave] *= ECG_MALE_QRS if traits.male else 1.0
    base_bpm = {state: rng.normal(*bpm) for state, bpm in ECG_STATE_BPM.items()}
    intervals = rhythm(rng, ECG_HRV_BPM * (1 - ECG_AGE_HRV * (0.5 - traits.age_share)))
    turn = _turn(frontal, horizontal)
    half_turn = _turn(frontal / 2, horizontal / 2)  # T follows the axis of the QRS only in part

    trials = []
    for index, trial_rng in enumerate(trial_rngs):
        state = tuple(ECG_STATE_BPM)[index % 2]
        rr_s = 60 / np.clip(base_bpm[state], 45, 140) * np.roll(intervals, trial_rng.integers(intervals.size))
        rr_s = np.tile(rr_s, 1 + int(2 * ECG_LENGTH_S / rr_s.sum()))
        # A random start: neither beats nor windows are aligned between trials.
        beat_s = np.cumsum(rr_s) - trial_rng.uniform(0, 1) - rr_s[0]
        beat_s, rr_s = beat_s[beat_s < ECG_LENGTH_S + 1], rr_s[beat_s < ECG_LENGTH_S + 1]
        dipole = np.zeros((3, length))
        for name, (offset_s, width_s, vector) in WAVES.items():
            axis = np.array(vector) * amplitude[name[0]]
            if name[0] == "T":
                if traits.disease:
                    axis[0] *= ECG_DISEASE_T_LEFT
                axis, offset, spread = half_turn @ axis, offset_s * np.sqrt(rr_s), width_s * t_width
            else:
                wider = 1.0 if name == "P" else width
                axis, offset, spread = turn @ axis, offset_s * wider, width_s * wider
            steps = (time_s - (beat_s + offset)[:, None]) / spread
            dipole += axis[:, None] * np.exp(-0.5 * steps**2).sum(axis=0)
        trials.append(Recording(_ecg_nuisance(DOWER @ dipole, trial_rng), {"state": state}))
    return trials


def _turn(frontal: float, horizontal: float) -> np.ndarray:
    c, s, ch, sh = np.cos(frontal), np.sin(frontal), np.cos(horizontal), np.sin(horizontal)
    return np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]]) @ np.array([[ch, 0, -sh], [0, 1, 0], [sh, 0, ch]])


def _twelve(eight: np.ndarray) -> np.ndarray:
    one, two = eight[0], eight[1]
    return np.stack([one, two, two - one, -(one + two) / 2, one - two / 2, two - one / 2, *eight[2:]])


def _ecg_nuisance(clean: np.ndarray, rng: Rng) -> np.ndarray:
    """Return 12 leads from 8 clean ones under gain, offset, wander, muscle and mains; Einthoven's relations hold."""
    shape = clean.shape
    each = (len(clean), 1)
    time_s = np.arange(shape[1]) / ECG_RATE_HZ
    wander = coloured(rng, shape, ECG_RATE_HZ, lambda f: np.exp(-f / 0.25)) * rng.uniform(0.4, 1.6, each)
    muscle = coloured(rng, shape, ECG_RATE_HZ, lambda f: f / (f + 15)) * rng.uniform(0.4, 1.6, each)
    envelope = 1 + 4 * bursts(rng, shape[1], ECG_RATE_HZ, per_s=0.2)
    mains = np.sin(2 * np.pi * POWERLINE_HZ * time_s + rng.uniform(0, 2 * np.pi)) * rng.uniform(0.3, 1, each)
    values = log_uniform(rng, ECG_GAIN) * np.exp(rng.normal(0, ECG_LEAD_GAIN, each)) * clean
    values += rng.normal(0, ECG_OFFSET_MV, each) + rng.uniform(*ECG_WANDER_MV) * wander
    values += log_uniform(rng, ECG_MUSCLE_MV) * envelope * muscle + rng.uniform(*ECG_POWERLINE_MV) * mains
    return _twelve(values)


def ppg(traits: Traits, rng: Rng, trial_rngs: Sequence[Rng]) -> list[Recording]:
    """Return one-channel trials (no unit); disease slows the upstroke and disturbs the rhythm, age damps the notch."""
    length = round(PPG_RATE_HZ * PPG_LENGTH_S)
    peak = 0.175 + rng.normal(0, PPG_SPREAD_PEAK) + (PPG_DISEASE_PEAK if traits.disease else 0.0)
    second = PPG_NOTCH + PPG_AGE_NOTCH * (0.5 - traits.age_share) + rng.normal(0, PPG_SPREAD_NOTCH)
    second_at = 0.47 + PPG_AGE_NOTCH_EARLIER * (0.5 - traits.age_share) + rng.normal(0, 0.01)
    second_width = 0.055 * (PPG_MALE_WIDTH if traits.male else 1.0)
    base_bpm = {state: rng.normal(*bpm) for state, bpm in PPG_STATE_BPM.items()}

    trials = []
    for index, trial_rng in enumerate(trial_rngs):
        state = tuple(PPG_STATE_BPM)[index % 2]
        bpm = float(np.clip(base_bpm[state], 45, 120))
        # Longer than needed: neurokit2 fills the time after its last whole beat with a constant.
        base = nk.ppg_simulate(
            duration=int(PPG_LENGTH_S) + 6,
            sampling_rate=int(PPG_RATE_HZ),
            heart_rate=bpm,
            frequency_modulation=0.05,
            ibi_randomness=PPG_IRREGULAR + (PPG_DISEASE_IRREGULAR if traits.disease else 0.0),
            motion_amplitude=0,
            powerline_amplitude=0,
            burst_amplitude=0,
            random_state=trial_rng,
        )
        onsets = _onsets(base, PPG_RATE_HZ * 60 / bpm)
        start = onsets[0] + trial_rng.integers(round(PPG_RATE_HZ))
        at = np.arange(start, start + length)
        beat = np.clip(np.searchsorted(onsets, at, side="right") - 1, 0, onsets.size - 2)
        period = (onsets[beat + 1] - onsets[beat]).astype(float)
        phase = (at - onsets[beat]) / period
        # Move the systolic peak of the base pulse (at 0.175 of the beat) and leave what follows the notch alone.
        source = np.interp(phase, [0, peak, 0.40, 1.0], [0, 0.175, 0.40, 1.0])
        clean = np.interp(onsets[beat] + source * period, np.arange(base.size), base)
        clean += second * np.exp(-0.5 * ((phase - second_at) / second_width) ** 2)
        trials.append(Recording(_ppg_nuisance(clean, trial_rng), {"state": state}))
    return trials


def _onsets(base: np.ndarray, period: float) -> np.ndarray:
    """Return the sample numbers of the feet of the pulses: the minimum before each systolic peak."""
    peaks, _ = find_peaks(base, prominence=0.6, distance=max(1, int(0.5 * period)))
    reach = int(0.3 * period)
    return np.array([p - reach + int(np.argmin(base[p - reach : p])) for p in peaks if p >= reach])


def _ppg_nuisance(clean: np.ndarray, rng: Rng) -> np.ndarray:
    shape = (1, clean.size)
    drift = coloured(rng, shape, PPG_RATE_HZ, lambda f: np.exp(-f / 0.12))[0]
    motion = coloured(rng, shape, PPG_RATE_HZ, lambda f: np.exp(-((np.log(f / 1.5)) ** 2)))[0]
    noise = coloured(rng, shape, PPG_RATE_HZ, lambda f: 1 / np.sqrt(1 + f / 10))[0]
    envelope = bursts(rng, clean.size, PPG_RATE_HZ, per_s=0.1)
    signal = log_uniform(rng, PPG_GAIN) * (clean - clean.mean())
    signal += rng.uniform(*PPG_DRIFT) * drift + rng.uniform(*PPG_MOTION) * envelope * motion
    return (signal + log_uniform(rng, PPG_NOISE) * noise)[None]


def eeg(traits: Traits, rng: Rng, trial_rngs: Sequence[Rng]) -> list[Recording]:
    """Return 8-channel trials in uV; disease adds theta (more on the left), age slows alpha, sex scales beta."""
    length = round(EEG_RATE_HZ * EEG_LENGTH_S)
    count = len(EEG_CHANNELS)
    alpha_hz = EEG_ALPHA_HZ + EEG_AGE_ALPHA_HZ * (traits.age_share - 0.5) + rng.normal(0, EEG_SPREAD_ALPHA_HZ)
    alpha, theta, beta = np.exp(rng.normal(0, EEG_SPREAD_LEVEL, 3)) * [EEG_ALPHA_UV, EEG_THETA_UV, EEG_BETA_UV]
    beta *= EEG_MALE_BETA if traits.male else 1.0
    #                 Fp1   Fp2   C3    C4    T3    T4    O1    O2
    over_back = np.array([0.30, 0.30, 0.55, 0.55, 0.45, 0.45, 1.0, 1.0])
    over_front = np.array([1.00, 1.00, 0.90, 0.90, 0.80, 0.80, 0.6, 0.6])
    left = np.array([name[-1] in "13" for name in EEG_CHANNELS])
    theta_over = over_front.copy()
    if traits.disease:
        theta_over *= EEG_DISEASE_THETA * np.where(left, EEG_DISEASE_LEFT, 1 / EEG_DISEASE_LEFT)

    trials = []
    for index, trial_rng in enumerate(trial_rngs):
        state = ("eyes_closed", "eyes_open")[index % 2]
        alpha_now = alpha * (EEG_OPEN_ALPHA if state == "eyes_open" else 1.0)
        values = alpha_now * over_back[:, None] * _band(trial_rng, length, alpha_hz, 0.7)
        values += theta * theta_over[:, None] * _band(trial_rng, length, 5.5, 0.8)
        values += beta * over_front[:, None] * _band(trial_rng, length, 20.0, 3.0)
        slope = trial_rng.uniform(*EEG_BACKGROUND_SLOPE)
        level = log_uniform(trial_rng, EEG_BACKGROUND_UV)
        shape = (count, length)
        values += level * coloured(trial_rng, shape, EEG_RATE_HZ, lambda f, s=slope: np.maximum(f, 0.5) ** (-s / 2))
        values += _eeg_artefacts(trial_rng, length)
        contact = np.exp(trial_rng.normal(0, EEG_CHANNEL_GAIN, (count, 1)))
        trials.append(Recording(log_uniform(trial_rng, EEG_GAIN) * contact * values, {"state": state}))
    return trials


def _band(rng: Rng, length: int, centre_hz: float, width_hz: float) -> np.ndarray:
    """Return a rhythm ``(C, T)`` of unit variance, half shared by the channels."""
    shape = (len(EEG_CHANNELS) + 1, length)
    noise = coloured(rng, shape, EEG_RATE_HZ, lambda f: np.exp(-0.5 * ((f - centre_hz) / width_hz) ** 2))
    return np.sqrt(0.5) * (noise[:1] + noise[1:])


def _eeg_artefacts(rng: Rng, length: int) -> np.ndarray:
    """Return blinks in front, muscle over the temples and mains on all channels ``(C, T)``."""
    time_s = np.arange(length) / EEG_RATE_HZ
    blinks = np.zeros(length)
    for _ in range(rng.poisson(0.2 * EEG_LENGTH_S)):
        blinks += rng.uniform(0.5, 1.2) * np.exp(-0.5 * ((time_s - rng.uniform(0, EEG_LENGTH_S)) / 0.09) ** 2)
    artefacts = EEG_BLINK_UV * np.array([1, 1, 0.25, 0.25, 0.2, 0.2, 0.05, 0.05])[:, None] * blinks
    muscle = coloured(rng, (len(EEG_CHANNELS), length), EEG_RATE_HZ, lambda f: f / (f + 25))
    temples = np.array([0.6, 0.6, 0.3, 0.3, 1, 1, 0.3, 0.3])[:, None]
    envelope = 0.3 + bursts(rng, length, EEG_RATE_HZ, per_s=0.15)
    artefacts += log_uniform(rng, EEG_MUSCLE_UV) * temples * envelope * muscle
    mains = np.sin(2 * np.pi * 50.0 * time_s + rng.uniform(0, 2 * np.pi))
    return artefacts + rng.uniform(*EEG_LINE_UV) * rng.uniform(0.3, 1, (len(EEG_CHANNELS), 1)) * mains
