"""How near pictures are to their true ones, pixel by pixel, and how much the results of one condition differ.

PSNR and SSIM follow the inpainting protocol of the CCoopNets paper: images are clipped and rounded to 8 bits, as a user
sees them, and scaled to [0, 1]; each image has its own value. With a mask only its hidden pixels count.
"""

from __future__ import annotations

from itertools import combinations

import torch
import torch.nn.functional as F
from torch import Tensor

from models.data.images import to_uint8

PSNR_CAP = 100.0
"""Decibels of an image that is equal to its target, whose mean squared error of 0 has no logarithm."""

_CHUNK = 64  # images whose similarity maps are held at once
_RADIUS, _DEVIATION = 5, 1.5  # of the window of SSIM, in pixels
_C1, _C2 = 0.01**2, 0.03**2
_SCALE_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)


def psnr(images: Tensor, targets: Tensor, mask: Tensor | None = None) -> Tensor:
    r"""Peak signal-to-noise ratio of each image, :math:`-10 \log_{10} \text{MSE}` for a range of 1, at most 100 dB.

    Args:
        images: ``[n, C, H, W]``, of which [-1, 1] counts.
        targets: the true images, of the same shape.
        mask: ``[n, 1, H, W]``, 1 where a pixel was hidden; the squared error is then averaged over these alone.

    Returns:
        Decibels ``[n]``, float64.

    Raises:
        ValueError: shapes that don't fit, numbers that are not finite, or a mask that hides nothing.
    """
    weights = _weights(images, targets, mask)
    mse = _mean((_seen(images) - _seen(targets)).square(), weights)
    return (-10 * mse.log10()).clamp(max=PSNR_CAP)


def ssim(images: Tensor, targets: Tensor, mask: Tensor | None = None) -> Tensor:
    r"""Structural similarity of each image (Wang et al., 2004), from -1 to 1 (equal): the mean of the map

    .. math:: \frac{2 \mu_a \mu_b + C_1}{\mu_a^2 + \mu_b^2 + C_1} \,
              \frac{2 \sigma_{ab} + C_2}{\sigma_a^2 + \sigma_b^2 + C_2}

    over pixels and channels. Moments under a Gaussian window of 11x11 pixels and deviation 1.5 with reflected borders;
    :math:`C_1 = 0.01^2, C_2 = 0.03^2` for a range of 1. With a mask the mean is over its hidden pixels, whose windows
    may see visible ones.

    Args, returns and raises as :func:`psnr`; images must be at least 6 pixels high and wide.
    """
    weights = _weights(images, targets, mask)
    if min(images.shape[2:]) <= _RADIUS:
        raise ValueError(f"SSIM needs images of at least 6x6 pixels, got {list(images.shape[2:])}")
    chunks = zip(*(x.split(_CHUNK) for x in (images, targets, weights)), strict=True)
    return torch.cat([_mean(_similarity(_seen(a), _seen(b)), weight) for a, b, weight in chunks])


def ms_ssim(images: Tensor, targets: Tensor) -> Tensor:
    r"""Multi-scale structural similarity of each image (Wang, Simoncelli and Bovik, 2003), at most 1 (equal):

    .. math:: \prod_j \overline{c s}_j^{\,w_j} \cdot \overline{l c s}_M^{\,w_M}

    with the second factor of :func:`ssim` at all scales but the coarsest, each half of the one before, and all of it
    there. The weights are those of the first of five scales that the image is large enough for (22 pixels for two, 44
    for three), divided by their sum; a mean below 0 counts as 0.

    Args, returns and raises as :func:`ssim`, without a mask; images must be at least 11 pixels high and wide.
    """
    _weights(images, targets, None)
    scales = ms_ssim_scales(min(images.shape[2:]))
    weights = torch.tensor(_SCALE_WEIGHTS[:scales], dtype=torch.float64)
    a, b, found = _seen(images), _seen(targets), torch.ones(len(images), dtype=torch.float64, device=images.device)
    for scale, weight in enumerate((weights / weights.sum()).tolist()):
        luminance, structure = _parts(a, b)
        part = luminance * structure if scale == scales - 1 else structure
        found = found * part.flatten(1).mean(1).clamp(min=0) ** weight
        a, b = F.avg_pool2d(a, 2), F.avg_pool2d(b, 2)
    return found


def ms_ssim_scales(side: int) -> int:
    """How many scales images of so many pixels are compared at: each needs a window of 11 pixels.

    Raises:
        ValueError: not even one does.
    """
    scales = sum(side >= (2 * _RADIUS + 1) << k for k in range(len(_SCALE_WEIGHTS)))
    if not scales:
        raise ValueError(f"MS-SSIM needs images of at least {2 * _RADIUS + 1} pixels a side, got {side}")
    return scales


def _similarity(a: Tensor, b: Tensor) -> Tensor:
    """The map of SSIM."""
    luminance, structure = _parts(a, b)
    return luminance * structure


def _parts(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """Its two factors, in double precision: in single precision it is off by 6e-4 on plain areas.

    The window is separable, so it is two matrix products; torchmetrics convolves with all of it, ten times as slow.
    """
    vertical, horizontal = (_smoothing(side, a.device) for side in a.shape[2:])
    mean_a, mean_b, aa, bb, ab = (vertical @ x @ horizontal.T for x in (a, b, a * a, b * b, a * b))
    covariance, variances = ab - mean_a * mean_b, aa + bb - mean_a**2 - mean_b**2
    luminance = (2 * mean_a * mean_b + _C1) / (mean_a**2 + mean_b**2 + _C1)
    return luminance, (2 * covariance + _C2) / (variances + _C2)


def _smoothing(side: int, device: torch.device) -> Tensor:
    """The matrix ``[side, side]`` that averages a line under the window, reflected at its ends."""
    at = torch.arange(-_RADIUS, _RADIUS + 1, dtype=torch.float64)
    window = torch.exp(-(at**2) / (2 * _DEVIATION**2))
    padded = F.pad(torch.eye(side, dtype=torch.float64)[None], (0, 0, _RADIUS, _RADIUS), mode="reflect")[0]
    shifted = padded.unfold(0, 2 * _RADIUS + 1, 1)
    return (shifted @ (window / window.sum())).to(device)


def l1(images: Tensor, targets: Tensor, mask: Tensor | None = None) -> Tensor:
    """Mean absolute difference per pixel and channel of each image ``[n]``, in units of the range [-1, 1] (0 to 2).

    Args and raises as :func:`psnr`; nothing is rounded.
    """
    weights = _weights(images, targets, mask)
    return _mean((images.double().clamp(-1, 1) - targets.double().clamp(-1, 1)).abs(), weights)


def diversity(results: Tensor, mask: Tensor | None = None) -> float:
    """How much the k results of one condition differ: :func:`l1` over all pairs of them, averaged over conditions.

    Args:
        results: ``[n, k, C, H, W]``, k >= 2, of which [-1, 1] counts.
        mask: ``[n, 1, H, W]``; only its hidden pixels count.

    Raises:
        ValueError: fewer than two results, or a mask that does not fit.
    """
    if results.ndim != 5 or results.shape[1] < 2:
        raise ValueError(f"diversity needs [n, k, C, H, W] with at least two results, got {list(results.shape)}")
    pairs = combinations(results.unbind(1), 2)
    return float(torch.stack([l1(one, other, mask).mean() for one, other in pairs]).mean())


def _weights(images: Tensor, targets: Tensor, mask: Tensor | None) -> Tensor:
    """What each pixel counts, ``[n, 1, H, W]``, once everything has been checked."""
    if images.ndim != 4 or images.shape != targets.shape or 0 in images.shape:
        raise ValueError(f"images and targets must both be [n, C, H, W]: {list(images.shape)}, {list(targets.shape)}")
    if not (images.isfinite().all() and targets.isfinite().all()):
        raise ValueError("images and targets must be finite")
    n, _, height, width = images.shape
    if mask is None:
        return images.new_ones(n, 1, height, width, dtype=torch.float64)
    if mask.shape != (n, 1, height, width):
        raise ValueError(f"the mask must be {[n, 1, height, width]}, one an image, got {list(mask.shape)}")
    if not mask.flatten(1).any(1).all():
        raise ValueError("every mask must hide at least one pixel")
    return (mask > 0).double()


def _seen(images: Tensor) -> Tensor:
    """[-1, 1] -> [0, 1] in steps of 1/255. In double precision: variances are small differences of large numbers."""
    return to_uint8(images).double() / 255


def _mean(values: Tensor, weights: Tensor) -> Tensor:
    """``[n, C, H, W]`` averaged over channels and weighted pixels -> ``[n]``."""
    return (values * weights).sum((1, 2, 3)) / (weights.sum((1, 2, 3)) * values.shape[1])
