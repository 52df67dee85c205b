"""The audio encoder: one mel slice [N, 1, 80, 16] to one feature [N, 512].

Architecture of the AVE encoder of SyncTalk (https://github.com/ZiqiaoPeng/SyncTalk); the weights lipwright ships are
its own. Module names follow the published ``state_dict``.
"""

from __future__ import annotations

from torch import Tensor, nn

from lipwright.contract import FEATURE_DIM


class ConvBlock(nn.Module):
    """Convolution, batch norm, optional residual, ReLU."""

    def __init__(
        self,
        inp: int,
        oup: int,
        kernel: int = 3,
        stride: int | tuple[int, int] = 1,
        padding: int = 1,
        residual: bool = False,
    ) -> None:
        super().__init__()
        self.conv_block = nn.Sequential(nn.Conv2d(inp, oup, kernel, stride, padding), nn.BatchNorm2d(oup))
        self.act = nn.ReLU()
        self.residual = residual

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.conv_block(x)
        if self.residual:
            y = y + x
        z: Tensor = self.act(y)
        return z


class AudioEncoder(nn.Module):
    """mel [N, 1, 80, 16] float32 in -4..4 -> feature [N, 512] float32, not negative (the last layer is a ReLU)."""

    def __init__(self) -> None:
        super().__init__()
        self.audio_encoder = nn.Sequential(
            ConvBlock(1, 32),
            ConvBlock(32, 32, residual=True),
            ConvBlock(32, 32, residual=True),
            ConvBlock(32, 64, stride=(3, 1)),
            ConvBlock(64, 64, residual=True),
            ConvBlock(64, 64, residual=True),
            ConvBlock(64, 128, stride=3),
            ConvBlock(128, 128, residual=True),
            ConvBlock(128, 128, residual=True),
            ConvBlock(128, 256, stride=(3, 2)),
            ConvBlock(256, 256, residual=True),
            ConvBlock(256, FEATURE_DIM, padding=0),
            ConvBlock(FEATURE_DIM, FEATURE_DIM, kernel=1, padding=0),
        )

    def forward(self, mel: Tensor) -> Tensor:
        y: Tensor = self.audio_encoder(mel)
        return y.flatten(1)
