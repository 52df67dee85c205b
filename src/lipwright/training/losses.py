"""How wrong a picture is. All tensors [B, 3, S, S] float32 0..1 with a weight [B, 1, S, S]."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

#: The pyramid's levels count alike per pixel, so the finest, with most pixels, leads.
_LEVELS = 4


def pyramid_loss(picture: Tensor, truth: Tensor, weight: Tensor) -> Tensor:
    """Weighted L1 between Laplacian pyramids (Bojanowski et al. 2018, arXiv:1707.05776): edges count, not only colour.

    Plain L1 is content with a blurred mouth; every band of a Laplacian pyramid asks for its own detail.
    """
    loss = (weight * (picture - truth).abs()).mean()
    difference = picture - truth
    for level in range(_LEVELS):
        smaller = F.avg_pool2d(difference, 2)
        band = difference - F.interpolate(smaller, scale_factor=2, mode="bilinear", align_corners=False)
        loss = loss + 2.0**level * (weight * band.abs()).mean()
        difference, weight = smaller, F.avg_pool2d(weight, 2)
    return loss


def _blur(picture: Tensor) -> Tensor:
    return F.avg_pool2d(picture, 7, stride=1, padding=3, count_include_pad=False)


def similarity_loss(picture: Tensor, truth: Tensor, weight: Tensor) -> Tensor:
    """Weighted 1 - SSIM over 7 x 7 boxes (Wang et al. 2004), on the mean of the colours."""
    a, b = picture.mean(dim=1, keepdim=True), truth.mean(dim=1, keepdim=True)
    mean_a, mean_b = _blur(a), _blur(b)
    var_a, var_b = _blur(a * a) - mean_a**2, _blur(b * b) - mean_b**2
    cov = _blur(a * b) - mean_a * mean_b
    c1, c2 = 0.01**2, 0.03**2
    ssim = (2 * mean_a * mean_b + c1) * (2 * cov + c2) / ((mean_a**2 + mean_b**2 + c1) * (var_a + var_b + c2))
    return (weight * (1 - ssim)).mean()


def picture_loss(picture: Tensor, truth: Tensor, weight: Tensor) -> Tensor:
    """What the generator is trained to make small."""
    return pyramid_loss(picture, truth, weight) + 0.1 * similarity_loss(picture, truth, weight)


def map_loss(audio_map: Tensor, mouth_map: Tensor) -> Tensor:
    """Distance between what the sound says and what the mouth code says, both [B, C, 10, 10]."""
    return torch.square(audio_map - mouth_map).mean()
