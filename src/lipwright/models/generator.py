"""UNet-328: the person-specific generator.

Rebuilt from the architecture of SyncTalk_2D (https://github.com/ZiqiaoPeng/SyncTalk_2D), itself after
Ultralight-Digital-Human. Module names follow the published ``state_dict`` so that such weights load strictly.
"""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lipwright.contract import AUDIO_SHAPE, ROI_SIZE

Width = Literal["full", "mobile"]

#: Channels after the stem and after each of the five halvings, by width (the last repeats: see ``unet328``).
CHANNELS: dict[Width, tuple[int, int, int, int, int]] = {
    "full": (32, 64, 128, 256, 512),
    "mobile": (16, 32, 64, 128, 256),
}
#: Side of the small pictures that training begins with.
SMALL_SIZE = ROI_SIZE // 2


class Depthwise(nn.Conv2d):
    """A 3x3 depthwise convolution with padding 1 that learns quickly on processors where it has a stride.

    There oneDNN takes 3 to 12 times as long for the gradient as without the stride. Spread out over the finer raster
    the gradient is that of the same convolution without one, but for rounding.
    """

    def forward(self, x: Tensor) -> Tensor:
        if self.stride == (1, 1) or not self.training or x.device.type != "cpu":
            return super().forward(x)
        y: Tensor = _Strided.apply(x, self.weight)  # type: ignore[no-untyped-call]
        return y if self.bias is None else y + self.bias.to(y.dtype)[:, None, None]


class _Strided(torch.autograd.Function):
    """Depthwise 3x3, stride 2, padding 1."""

    @staticmethod
    @torch.amp.custom_fwd(device_type="cpu", cast_inputs=torch.bfloat16)  # type: ignore[untyped-decorator]
    def forward(ctx: Any, x: Tensor, weight: Tensor) -> Tensor:
        ctx.save_for_backward(x, weight)
        return F.conv2d(x, weight, None, 2, 1, groups=len(weight))

    @staticmethod
    @torch.amp.custom_bwd(device_type="cpu")  # type: ignore[untyped-decorator]
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor]:
        x, weight = ctx.saved_tensors
        spread = torch.zeros_like(x)
        spread[:, :, ::2, ::2] = gradient
        wanted = [*ctx.needs_input_grad, False]
        to_x, to_weight, _ = torch.ops.aten.convolution_backward(
            spread, x, weight, None, [1, 1], [1, 1], [1, 1], False, [0, 0], len(weight), wanted
        )
        return to_x, to_weight


class InvertedResidual(nn.Module):
    """1x1 expand, 3x3 depthwise, 1x1 project, each with batch norm (MobileNetV2, arXiv:1801.04381)."""

    def __init__(self, inp: int, oup: int, stride: int, residual: bool, expand: int) -> None:
        super().__init__()
        hidden = inp * expand
        self.residual = residual
        self.conv = nn.Sequential(
            nn.Conv2d(inp, hidden, 1, bias=False),
            nn.BatchNorm2d(hidden),
            nn.ReLU(inplace=True),
            Depthwise(hidden, hidden, 3, stride, 1, groups=hidden, bias=False),
            nn.BatchNorm2d(hidden),
            nn.ReLU(inplace=True),
            nn.Conv2d(hidden, oup, 1, bias=False),
            nn.BatchNorm2d(oup),
        )

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.conv(x)
        return x + y if self.residual else y

    def unhalved(self, x: Tensor) -> Tensor:
        """A block with stride 2, without it."""
        for layer in self.conv:
            if isinstance(layer, nn.Conv2d) and layer.stride != (1, 1):
                x = F.conv2d(x, layer.weight, layer.bias, padding=1, groups=layer.groups)
            else:
                x = layer(x)
        return x


class DoubleConv(nn.Module):
    """Two inverted residuals, the first with the stride, the second with a residual connection."""

    def __init__(self, inp: int, oup: int, stride: int) -> None:
        super().__init__()
        self.double_conv = nn.Sequential(
            InvertedResidual(inp, oup, stride, residual=False, expand=2),
            InvertedResidual(oup, oup, 1, residual=True, expand=2),
        )

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.double_conv(x)
        return y


class InConv(nn.Module):
    """The stem: six picture channels to the first width at full resolution."""

    def __init__(self, inp: int, oup: int) -> None:
        super().__init__()
        self.inconv = nn.Sequential(InvertedResidual(inp, oup, 1, residual=False, expand=2))

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.inconv(x)
        return y


class Down(nn.Module):
    """Halve height and width."""

    def __init__(self, inp: int, oup: int) -> None:
        super().__init__()
        self.maxpool_conv = nn.Sequential(DoubleConv(inp, oup, 2))

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.maxpool_conv(x)
        return y

    def unhalved(self, x: Tensor) -> Tensor:
        """The same convolutions without the stride."""
        first, second = self.maxpool_conv.get_submodule("0.double_conv").children()
        assert isinstance(first, InvertedResidual)
        y: Tensor = second(first.unhalved(x))
        return y


class Up(nn.Module):
    """Double height and width unless they are the skip connection's, pad to it, concatenate and convolve."""

    def __init__(self, inp: int, oup: int) -> None:
        super().__init__()
        self.conv = DoubleConv(inp, oup, 1)

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        if x.shape[2:] != skip.shape[2:]:
            x = F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=True)
        dy, dx = skip.shape[2] - x.shape[2], skip.shape[3] - x.shape[3]
        if dy or dx:
            x = F.pad(x, [dx // 2, dx - dx // 2, dy // 2, dy - dy // 2])
        y: Tensor = self.conv(torch.cat([x, skip], dim=1))
        return y


class OutConv(nn.Module):
    """1x1 convolution to BGR."""

    def __init__(self, inp: int, oup: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inp, oup, 1)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.conv(x)
        return y


class AudioModel(nn.Module):
    """The audio branch: [B, 32, 16, 16] (16 features x 512) to [B, C, 10, 10] beside the deepest picture map."""

    def __init__(self, channels: tuple[int, int, int, int, int]) -> None:
        super().__init__()
        # The contract fixes 32 input channels, so the first block keeps them in every width.
        first, (_, c1, c2, c3, c4) = AUDIO_SHAPE[0], channels
        self.conv1 = InvertedResidual(first, c1, 1, residual=False, expand=2)
        self.conv2 = InvertedResidual(c1, c2, 1, residual=False, expand=2)
        self.conv3 = nn.Conv2d(c2, c3, 3, padding=1)
        self.bn3 = nn.BatchNorm2d(c3)
        self.conv4 = InvertedResidual(c3, c3, 1, residual=True, expand=2)
        self.conv5 = nn.Conv2d(c3, c4, 3, stride=2, padding=3)
        self.bn5 = nn.BatchNorm2d(c4)
        self.relu = nn.ReLU()
        self.conv6 = InvertedResidual(c4, c4, 1, residual=True, expand=2)
        self.conv7 = InvertedResidual(c4, c4, 1, residual=True, expand=2)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv2(self.conv1(x))
        x = self.conv4(self.relu(self.bn3(self.conv3(x))))
        x = self.relu(self.bn5(self.conv5(x)))
        y: Tensor = self.conv7(self.conv6(x))
        return y


class Generator(nn.Module):
    """UNet-328.

    ``forward(x, audio)``: x [B, 6, S, S] float 0..1 BGR (reference ROI, masked ROI), audio [B, 32, 16, 16];
    returns [B, 3, S, S] float 0..1 BGR. S is 320. Training begins with 160, where the outermost halving and doubling
    are left out: every layer below sees the face as large as it will at 320, and need not learn anew what it shows
    (the way of Karras et al. 2018, arXiv:1710.10196, whose inner layers never change their size either).
    """

    def __init__(self, width: Width = "full") -> None:
        super().__init__()
        self.width = width
        channels = CHANNELS[width]
        c0, c1, c2, c3, c4 = channels
        self.audio_model = AudioModel(channels)
        self.inc = InConv(6, c0)
        self.down1 = Down(c0, c0)
        self.down2 = Down(c0, c1)
        self.down3 = Down(c1, c2)
        self.down4 = Down(c2, c3)
        self.down5 = Down(c3, c4)
        self.fuse_conv = nn.Sequential(DoubleConv(c4 * 2, c4, 1), DoubleConv(c4, c3, 1))
        self.up1 = Up(c4, c2)
        self.up2 = Up(c3, c1)
        self.up3 = Up(c2, c0)
        self.up4 = Up(c1, c0)
        self.up5 = Up(c0 * 2, c0 // 2)
        self.outc = OutConv(c0 // 2, 3)

    def forward(self, x: Tensor, audio: Tensor) -> Tensor:
        return self.draw(x, self.audio_model(audio))

    def draw(self, x: Tensor, audio_map: Tensor) -> Tensor:
        """The picture half: ``audio_map`` is what the audio branch says, [B, C, 10, 10]."""
        x1 = self.inc(x)
        x2 = self.down1.unhalved(x1) if x.shape[-1] == SMALL_SIZE else self.down1(x1)
        x3 = self.down2(x2)
        x4 = self.down3(x3)
        x5 = self.down4(x4)
        x6 = self.down5(x5)
        y = self.fuse_conv(torch.cat([x6, audio_map], dim=1))
        y = self.up3(self.up2(self.up1(y, x5), x4), x3)
        y = self.up5(self.up4(y, x2), x1)
        return torch.sigmoid(self.outc(y))
