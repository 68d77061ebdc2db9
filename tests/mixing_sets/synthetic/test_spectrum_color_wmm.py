"""The statistical model: what each step imposes is imposed, and the pictures are those of the steps one by one."""

import numpy as np
import pytest
import scipy.fft
from numpy.typing import NDArray
from sklearn.decomposition import PCA

from pixmix_ray.mixing_sets.synthetic import spectrum_color_wmm as model
from pixmix_ray.mixing_sets.synthetic.spectrum_color_wmm import SpectrumColorWmm, steerable_pyramid
from pixmix_ray.seeding import uniforms

Floats32 = NDArray[np.float32]
INDICES = np.arange(40)


def noise(count: int = 2) -> Floats32:
    return np.random.default_rng(0).random((count, 3, 128, 128), dtype=np.float32) * 256


def test_magnitudes_are_the_power_law_of_the_facts() -> None:
    magnitude = model.spectrum_model(0, INDICES, 128)
    assert magnitude.shape == (40, 128, 65) and (magnitude[:, 0, 0] == 0).all()
    # Along an axis the other frequency is 0: the logarithm falls with slope s + d, or s - d, by hand.
    frequencies = np.log(np.arange(1, 64) / 128)
    across = np.array([np.polyfit(frequencies, np.log(one[0, 1:64]), 1)[0] for one in magnitude])
    down = np.array([np.polyfit(frequencies, np.log(one[1:64, 0]), 1)[0] for one in magnitude])
    slope, difference = -(across + down) / 2, -(across - down) / 2
    assert slope.min() > 0.5 and slope.max() < 3.5 and slope.mean() == pytest.approx(2, abs=0.35)
    assert difference.std() == pytest.approx(0.05, abs=0.02) and np.abs(difference.mean()) < 0.03
    # Off the axes: 1 / (|fx|**(s + d) + |fy|**(s - d)).
    expected = 1 / ((7 / 128) ** (slope + difference) + (20 / 128) ** (slope - difference))
    assert magnitude[:, 20, 7] == pytest.approx(expected, rel=1e-4)
    assert np.array_equal(magnitude[:, 20], magnitude[:, -20])


def test_spectra_get_the_magnitudes_and_keep_phases_means_and_deviations() -> None:
    pictures, magnitude = noise(), model.spectrum_model(0, np.arange(2), 128)
    result = scipy.fft.irfft2(model.with_spectrum(pictures, magnitude), norm="ortho")
    assert result.mean(axis=(2, 3)) == pytest.approx(pictures.mean(axis=(2, 3)), rel=1e-4)
    assert result.std(axis=(2, 3)) == pytest.approx(pictures.std(axis=(2, 3)), rel=1e-3)
    # Second implementation: the full transform of one channel, in double precision.
    channel = pictures[1, 2].astype(np.float64)
    whole = np.concatenate([magnitude[1], magnitude[1][np.r_[0, 127:0:-1], 1:-1][:, ::-1]], axis=1)
    phase = np.angle(np.fft.fft2(channel - channel.mean()))
    expected = np.fft.ifft2(whole * np.exp(1j * phase)).real
    expected = (expected - expected.mean()) / expected.std() * channel.std() + channel.mean()
    assert np.abs(result[1, 2] - expected).max() < 0.05


def test_wanted_coefficients_have_the_density_of_the_facts() -> None:
    pyramid = steerable_pyramid(128, 3)
    bands = model.wavelet_model(0, INDICES, pyramid)
    for number, scale in ((0, 1), (2, 1), (6, 2), (11, 4)):
        values = bands[number]
        assert values.shape == (40, 3, pyramid.sizes[number] ** 2) and (np.diff(values) >= 0).all()
        # By hand, for the densities with r = 0.4 and r = 0.8: their standard deviations on the grid bound all others.
        x = np.arange(-200, 200.5, 0.5)
        densities = [np.exp(-(np.abs(x / 4.0**scale) ** r)) for r in (0.4, 0.8)]
        stds = [np.sqrt((density * x**2).sum() / density.sum()) for density in densities]
        assert min(stds) * 0.98 < values.std(axis=2).min() <= values.std(axis=2).max() < max(stds) * 1.02
        assert np.abs(values.mean(axis=2)).max() < 0.01 * min(stds)


def test_wavelet_bands_get_the_wanted_coefficients() -> None:
    pyramid = steerable_pyramid(128, 3)
    bands = model.wavelet_model(0, np.arange(2), pyramid)
    spectra = scipy.fft.rfft2(noise(), norm="ortho")
    before = spectra.copy()
    pictures = model.with_wavelets(spectra, bands, pyramid)
    assert np.array_equal(spectra, before)
    # The bands overlap, so that those of the result are near the wanted ones and not exactly them.
    results = scipy.fft.rfft2(pictures, norm="ortho")
    for number in (1, 5, 9):
        result = np.sort(pyramid.band(results, number).reshape(2, 3, -1))
        assert np.corrcoef(result.ravel(), bands[number].ravel())[0, 1] > 0.9


def test_colours_are_decorrelated_and_turned_back() -> None:
    colours = model.colour_model(0, INDICES, 128)
    stripes = model._stripes(0, INDICES, 128)
    assert stripes.shape == (40, 3, 128, 128)
    assert stripes.min(axis=(1, 2, 3)) == pytest.approx(0) and stripes.max(axis=(1, 2, 3)) == pytest.approx(256)
    for index in (0, 7):
        samples = stripes[index].reshape(3, -1).T
        components = PCA(3).fit(samples).components_  # second implementation
        assert np.abs(components @ colours.axes[index]) == pytest.approx(np.eye(3), abs=1e-6)
        assert colours.mean[index] == pytest.approx(samples.mean(axis=0))
        # The wanted values are those of the stripes along the axes, but for bins of a 256th of their range.
        wanted = np.sort((samples - samples.mean(axis=0)) @ colours.axes[index], axis=0).T
        distance = np.abs(colours.values[index] - wanted).max(axis=1) / np.ptp(wanted, axis=1)
        assert (np.median(np.abs(colours.values[index] - wanted), axis=1) < np.ptp(wanted, axis=1) / 128).all()
        assert distance.max() < 1
    turned = np.einsum("nrc,ncp->nrp", colours.axes.transpose(0, 2, 1), stripes.reshape(40, 3, -1))
    turned -= turned.mean(axis=2, keepdims=True)
    back = colours.turned_back(turned.reshape(40, 3, 128, 128).astype(np.float32))
    assert np.abs(back - stripes).max() < 1e-2


def test_colours_are_3_to_22_in_stripes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(model, "LARGEST_BLUR", 1)  # none
    pixels = model._stripes(3, np.arange(200), 128).reshape(200, 3, -1)
    # Neighbours of one colour differ by the noise alone, below 10 of 256 before the colours are stretched.
    changes = (np.abs(np.diff(pixels, axis=2)).max(axis=1) > 25).sum(axis=1)
    assert changes.min() >= 1 and changes.max() <= 21 and changes.mean() == pytest.approx(11.5, abs=1)


def test_pictures_use_the_whole_range_and_have_the_colours() -> None:
    images = SpectrumColorWmm(count=8).draw(np.arange(8), 36)
    assert images.shape == (8, 128, 128, 3)
    assert (images.min(axis=(1, 2, 3)) == 0).all() and (images.max(axis=(1, 2, 3)) == 255).all()
    # The last step gives exactly the colour model's histograms along its axes; in bytes, nearly.
    colours = model.colour_model(0, np.arange(8), 128)
    for index in range(8):
        pixels = images[index].reshape(-1, 3) @ colours.axes[index]
        for channel in range(3):
            wanted, found = colours.values[index, channel], np.sort(pixels[:, channel])
            assert np.corrcoef(wanted, found)[0, 1] > 0.999


def plain_picture(seed: int, index: int) -> NDArray[np.float64]:
    """One picture, step by step, a channel at a time, with exact sorting: the second implementation."""
    pyramid, at = steerable_pyramid(128, 3), np.array([index])
    colours, magnitude = model.colour_model(seed, at, 128), model.spectrum_model(seed, at, 128)[0].astype(np.float64)
    bands = model.wavelet_model(seed, at, pyramid)
    picture = 256 * uniforms(seed, "spectrum_color_wmm", "noise", indices=at, count=3 * 128**2)
    picture = picture.reshape(3, 128, 128)
    for _ in range(model.ROUNDS):
        for channel in range(3):
            x = picture[channel]
            mean, std = x.mean(), x.std()
            y = np.fft.irfft2(magnitude * np.exp(1j * np.angle(np.fft.rfft2(x - mean))))
            y = (y - y.mean()) / y.std() * std + mean
            spectrum = np.fft.rfft2(y, norm="ortho").astype(np.complex64)[None]
            result = spectrum * pyramid.low_pass**2
            for number, values in enumerate(bands):
                band = pyramid.band(spectrum, number)
                ranks = band.ravel().argsort().argsort()
                pyramid.add_band(result, values[0, channel][ranks].reshape(band.shape), number)
            x = np.fft.irfft2(result[0], norm="ortho")
            picture[channel] = colours.values[0, channel][x.ravel().argsort().argsort()].reshape(128, 128)
    turned: NDArray[np.float64] = np.einsum("rc,chw->hwr", colours.axes[0], picture) + colours.mean[0]
    return np.asarray(255 * (turned - turned.min()) / (turned.max() - turned.min()))


def test_pictures_are_those_of_the_steps_one_by_one() -> None:
    picture = SpectrumColorWmm(seed=4).draw(np.array([3]), 36)[0]
    expected = plain_picture(4, 3)
    # Ranks of nearly equal numbers depend on rounding, and ten rounds spread that.
    assert np.median(np.abs(picture - expected)) < 1
    assert np.corrcoef(picture.ravel(), expected.ravel())[0, 1] > 0.99


def test_the_larger_resolution_has_another_scale() -> None:
    assert SpectrumColorWmm(resolution=256).draw(np.arange(1), 36).shape == (1, 256, 256, 3)
    assert len(steerable_pyramid(256, model.NUM_SCALES[256]).sizes) == 17
