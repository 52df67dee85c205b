"""How wrong a picture is. All tensors [B, 3, S, S] float32 0..1 with a weight [B, 1, S, S]."""

from __future__ import annotations

import importlib
import importlib.util
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

#: The pyramid's levels count alike per pixel, so the finest, with most pixels, leads.
_LEVELS = 4
#: What counts under the coarsest band, the colour. As a fifth band would, 16 times, it was learnt before lips were.
_COLOUR = 4.0
_DETAIL_OCTAVES = 2
#: Keeps the root's slope finite where there is no detail: half a level of 255, squared.
_DETAIL_FLOOR = (0.5 / 255) ** 2
#: The file torchvision's VGG-16 is kept in, and its layers up to the third block (relu3_3).
_VGG_FILE = "vgg16-397923af.pth"
_VGG_LAYERS = 16
#: What its pictures, RGB 0..1, were brought to.
_IMAGENET_MEAN, _IMAGENET_SPREAD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def pyramid_loss(picture: Tensor, truth: Tensor, weight: Tensor) -> Tensor:
    """Weighted L1 between Laplacian pyramids (Bojanowski et al. 2018, arXiv:1707.05776): edges count, not only colour.

    Plain L1 is content with a blurred mouth; every band of a Laplacian pyramid asks for its own detail. What is left
    under the coarsest band is the colour.
    """
    loss = (weight * (picture - truth).abs()).mean()
    difference = picture - truth
    for level in range(_LEVELS):
        smaller = F.avg_pool2d(difference, 2)
        band = difference - F.interpolate(smaller, scale_factor=2, mode="bilinear", align_corners=False)
        loss = loss + 2.0**level * (weight * band.abs()).mean()
        difference, weight = smaller, F.avg_pool2d(weight, 2)
    return loss + _COLOUR * (weight * difference.abs()).mean()


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


def detail_loss(picture: Tensor, truth: Tensor, weight: Tensor) -> Tensor:
    """Weighted difference between how much fine detail both pictures have around each pixel, in two octaves.

    Where a network is unsure which of two sharp mouths is right, every loss that compares pixel by pixel is smallest
    for their blurred mean. This one compares the strength of the detail (root mean square of a band over 7 x 7 pixels)
    and not its place, so a blurred mouth costs more than a sharp one that is a little beside the truth. It needs no
    other network's weights, as perceptual losses do, and none that must be trained along, as discriminators are.
    """
    a, b = picture.mean(dim=1, keepdim=True), truth.mean(dim=1, keepdim=True)
    loss = torch.zeros((), device=picture.device)
    for _ in range(_DETAIL_OCTAVES):
        small_a, small_b = F.avg_pool2d(a, 2), F.avg_pool2d(b, 2)
        loss = loss + (weight * (_strength(a, small_a) - _strength(b, small_b)).abs()).mean()
        a, b, weight = small_a, small_b, F.avg_pool2d(weight, 2)
    return loss


def _strength(picture: Tensor, smaller: Tensor) -> Tensor:
    """Local root mean square of what ``picture`` has and ``smaller``, half its size, has not."""
    band = picture - F.interpolate(smaller, scale_factor=2, mode="bilinear", align_corners=False)
    return torch.sqrt(_blur(band * band) + _DETAIL_FLOOR)


def motion_loss(picture: Tensor, truth: Tensor, weight: Tensor, clip: int) -> Tensor:
    """Weighted L1 between the steps from frame to frame inside clips of ``clip`` rows: no tremble, no missed motion."""
    error = _clips(picture, clip) - _clips(truth, clip)
    return (_clips(weight, clip)[:, 1:] * (error[:, 1:] - error[:, :-1]).abs()).mean()


def _clips(rows: Tensor, clip: int) -> Tensor:
    """[B, C, S, S] to [B / clip, clip, C, S, S]."""
    return rows.reshape(-1, clip, *rows.shape[1:])


class PerceptualLoss:
    """L1 between VGG-16's features of both pictures (Johnson et al. 2016, arXiv:1603.08155), for those who have them.

    Torchvision's ImageNet weights come with no clear licence, so nothing here fetches them: they are used when
    torchvision is installed and its own download (``torchvision.models.vgg16(weights="DEFAULT")``) lies in torch's
    cache.
    """

    def __init__(self, features: nn.Module, device: torch.device) -> None:
        self._features = features.to(device).eval().requires_grad_(False)
        self._mean = torch.tensor(_IMAGENET_MEAN, device=device)[:, None, None]
        self._spread = torch.tensor(_IMAGENET_SPREAD, device=device)[:, None, None]

    @classmethod
    def installed(cls, device: torch.device) -> PerceptualLoss | None:
        """The loss if this machine has what it needs, else None."""
        weights = Path(torch.hub.get_dir()) / "checkpoints" / _VGG_FILE
        if not weights.is_file() or importlib.util.find_spec("torchvision") is None:
            return None
        network = importlib.import_module("torchvision.models").vgg16()
        network.load_state_dict(torch.load(weights, weights_only=True))
        return cls(network.features[:_VGG_LAYERS], device)

    def __call__(self, picture: Tensor, truth: Tensor) -> Tensor:
        """Pictures [B, 3, S, S] 0..1 BGR."""
        return (self._seen(picture) - self._seen(truth)).abs().mean()

    def _seen(self, picture: Tensor) -> Tensor:
        features: Tensor = self._features((picture.flip(1) - self._mean) / self._spread)
        return features


def map_loss(audio_map: Tensor, mouth_map: Tensor) -> Tensor:
    """Distance between what the sound says and what the mouth code says, both [B, C, 10, 10]."""
    return torch.square(audio_map - mouth_map).mean()
