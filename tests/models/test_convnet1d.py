import numpy as np
import pytest
import torch
from scipy import signal

from medssl import models
from medssl.models.convnet1d import BANDS, FRAME, Blur, Spectrum


def test_blur_is_a_filter_and_every_other_step() -> None:
    x = torch.randn(2, 3, 21, generator=torch.Generator().manual_seed(0))
    padded = np.pad(x.numpy(), ((0, 0), (0, 0), (2, 2)), mode="edge")
    taps = np.array([1, 4, 6, 4, 1]) / 16
    expected = [[np.convolve(channel, taps, mode="valid")[::2] for channel in sample] for sample in padded]
    np.testing.assert_allclose(Blur(3)(x), expected, atol=1e-6)


def test_what_blur_halves_does_not_depend_on_where_it_begins() -> None:
    """A tone near the Nyquist rate is gone, where a stride alone would make a slow wave of it."""
    steps = torch.arange(400)
    fast, slow = (torch.sin(2 * np.pi * f * steps)[None, None] for f in (0.48, 0.02))
    assert Blur(1)(fast)[..., 5:-5].abs().max() < 0.01
    assert fast[..., ::2].abs().max() > 0.9
    torch.testing.assert_close(Blur(1)(slow)[..., 5:-5], slow[..., ::2][..., 5:-5], atol=0.02, rtol=0)


def test_embeddings_hardly_change_with_a_shift_by_one_step() -> None:
    """Against the residual network of the same widths, whose strides fold high frequencies."""
    rng = torch.Generator().manual_seed(0)
    x = torch.randn(8, 2, 512, generator=rng)

    def moved(name: str) -> float:
        encoder = models.build(name, in_channels=2, widths=(8, 8, 16, 16), depth=1, seed=0).eval()
        with torch.no_grad():
            one, other = encoder(x[..., 4:-4]), encoder(x[..., 5:-3])
        return float((one - other).norm() / (one - one.mean(0)).norm())

    assert moved("convnet1d") < 0.5 * moved("resnet1d")


def test_spectrum_is_the_textbooks() -> None:
    x = torch.randn(2, 3, 300, generator=torch.Generator().manual_seed(0))
    front = Spectrum(1)
    got = front(x)
    frames = 1 + (300 - FRAME) // (FRAME // 4)
    assert got.shape == (2, 3 * BANDS, frames)
    window = signal.get_window("hann", FRAME)
    for c in range(3):
        part = x[1, c, 2 * FRAME // 4 :][:FRAME].numpy() * window
        power = np.abs(np.fft.rfft(part)) ** 2 / FRAME
        expected = np.log(front.get_buffer("bank").numpy() @ power + 1e-4)
        np.testing.assert_allclose(got[1, c * BANDS : (c + 1) * BANDS, 2], expected, atol=1e-4)


def test_bands_are_where_the_tone_is() -> None:
    steps = torch.arange(512)
    front = Spectrum(1)
    bank = front.get_buffer("bank")
    assert bank.sum(1).tolist() == pytest.approx([1.0] * BANDS)
    assert (bank.argmax(1).diff() >= 0).all()
    loudest = [int(front(torch.sin(2 * np.pi * f * steps)[None, None])[0].mean(1).argmax()) for f in (0.03, 0.1, 0.3)]
    assert loudest[0] < loudest[1] < loudest[2]


def test_spectra_do_not_know_the_phase() -> None:
    steps = torch.arange(512)
    encoder = models.build("convnet1d", in_channels=1, front="spectrum", pool="stages", seed=0).eval()
    with torch.no_grad():
        one, turned, other = (
            encoder(torch.sin(2 * np.pi * f * steps + phase)[None, None])
            for f, phase in ((0.1, 0.0), (0.1, 1.5), (0.25, 0.0))
        )
    assert (one - turned).norm() < 0.05 * (one - other).norm()


def test_windows_shorter_than_a_frame_are_refused() -> None:
    encoder = models.build("convnet1d", in_channels=1, front="spectrum", seed=0)
    with pytest.raises(ValueError, match=f"encoder.front: spectrum needs windows of {FRAME} steps or more, not 100"):
        encoder(torch.zeros(2, 1, 100))


def test_the_first_stage_of_a_spectrum_is_the_spectrum() -> None:
    """A linear probe of all stages has the powers of bands themselves, and how each varies."""
    x = torch.randn(3, 2, 400, generator=torch.Generator().manual_seed(0))
    options = {"in_channels": 2, "front": "spectrum", "pool": "stages", "widths": (4, 4, 8, 8)}
    encoder = models.build("convnet1d", **options, seed=0).eval()  # type: ignore[arg-type]
    with torch.no_grad():
        z, bands = encoder(x), Spectrum(1)(x)
    assert (
        encoder.embedding_dim == z.shape[1] == models.embedding_dim(name="convnet1d", **options) == 2 * (2 * BANDS + 24)
    )
    torch.testing.assert_close(z[:, : 2 * BANDS], bands.mean(2))
    torch.testing.assert_close(z[:, 2 * BANDS : 4 * BANDS], bands.std(2, correction=0), atol=1e-3, rtol=1e-3)
