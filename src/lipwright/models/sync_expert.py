"""The sync expert: do these lips and this sound belong together?

Two small towers meet in one space (after SyncNet, Chung and Zisserman 2016): five pictures of a mouth, and the audio
features of the same five frames. It knows one person only and is trained in a minute; nobody needs it after training.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lipwright.contract import FEATURE_DIM, ROI_SIZE

#: Consecutive frames it looks at and listens to.
EXPERT_FRAMES = 5
#: Side of the mouth pictures.
MOUTH_SIZE = 48
#: Where in the ROI the mouth is: left, top and side. By the rule that cuts the ROI the lips lie at rows 115 to 215.
MOUTH_PLACE = (64, 80, 192)
_WIDTHS = (32, 64, 96, 128)
_SPACE = 96
#: What cosines are multiplied by before they are compared.
_SCALE = 8.0


def mouth_pictures(rois: Tensor) -> Tensor:
    """ROIs [B, 3, S, S], S 320 or 160, to mouth pictures [B, 3, 48, 48]: means over squares of pixels."""
    scale = rois.shape[-1] / ROI_SIZE
    left, top, side = (round(value * scale) for value in MOUTH_PLACE)
    return F.adaptive_avg_pool2d(rois[..., top : top + side, left : left + side], MOUTH_SIZE)


class SyncExpert(nn.Module):
    """``forward(mouths, heard)``: how well they go together, [B], higher is better."""

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        before = 3 * EXPERT_FRAMES
        for width in _WIDTHS:
            layers += [nn.Conv2d(before, width, 3, 2, 1), nn.BatchNorm2d(width), nn.ReLU()]
            before = width
        side = MOUTH_SIZE // 2 ** len(_WIDTHS)
        self.looks = nn.Sequential(*layers, nn.Flatten(), nn.Dropout(0.3), nn.Linear(before * side * side, _SPACE))
        # Each feature by its own spread: a norm over all of them would take out how loud it is.
        self.level = nn.BatchNorm1d(FEATURE_DIM, affine=False)
        self.hears = nn.Sequential(
            nn.Linear(FEATURE_DIM, 48),
            nn.ReLU(),
            nn.Flatten(),
            nn.Dropout(0.3),
            nn.Linear(48 * EXPERT_FRAMES, _SPACE),
        )

    def forward(self, mouths: Tensor, heard: Tensor) -> Tensor:
        """Mouths [B, 5, 3, 48, 48] float 0..1 BGR and heard [B, 5, 512] features, to [B] from -8 to 8."""
        seen = F.normalize(self.looks(mouths.flatten(1, 2) - 0.5), dim=1)
        level = self.level(heard.flatten(0, 1)).view_as(heard)
        return _SCALE * (seen * F.normalize(self.hears(level), dim=1)).sum(dim=1)

    def preference(self, mouths: Tensor, own: Tensor, other: Tensor) -> Tensor:
        """[B]: by how much the mouths prefer their ``own`` sound to the ``other``; both [B, 5, 512]."""
        both: Tensor = self(mouths.repeat(2, 1, 1, 1, 1), torch.cat([own, other]))
        return both[: len(own)] - both[len(own) :]


def sync_loss(preference: Tensor) -> Tensor:
    """The logistic loss of a preference that should be positive, its mean."""
    return F.softplus(-preference).mean()
