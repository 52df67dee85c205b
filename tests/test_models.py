"""The networks have the family's names and shapes and compute what the family's code computes."""

from __future__ import annotations

import copy
import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from lipwright import patch
from lipwright.contract import Rect
from lipwright.models.audio_encoder import AudioEncoder
from lipwright.models.generator import CHANNELS, Depthwise, Generator, Width
from lipwright.models.lean import lean
from networks import formula_weights

#: sha256 of the published networks' ``state_dict``: JSON of {key: shape}, sorted by key.
GENERATOR_STATE = "cf784334a4982a845feb231bcd81ee7f8a9655c4479f6c272ddb450a45247292"
ENCODER_STATE = "7eff8c8d5454d66c6f6ee0596c3591f571a9cd96946da9c79d52ac00222ceae6"


def state_hash(network: nn.Module) -> str:
    shapes = {key: list(value.shape) for key, value in network.state_dict().items()}
    return hashlib.sha256(json.dumps(shapes, sort_keys=True).encode()).hexdigest()


def parameters(network: nn.Module) -> int:
    return sum(p.numel() for p in network.parameters())


def test_state_of_the_generator_is_the_familys() -> None:
    generator = Generator()
    assert state_hash(generator) == GENERATOR_STATE
    assert parameters(generator) == 12_186_935


def test_state_of_the_audio_encoder_is_the_familys() -> None:
    encoder = AudioEncoder()
    assert state_hash(encoder) == ENCODER_STATE
    assert parameters(encoder) == 2_812_672


def test_generator_equals_the_familys(golden: Path) -> None:
    rng = np.random.default_rng(7)
    image = torch.from_numpy(rng.random((2, 6, 320, 320), dtype=np.float32))
    audio = torch.from_numpy(rng.standard_normal((2, 32, 16, 16)).astype(np.float32))
    with torch.inference_mode():
        output = formula_weights(Generator())(image, audio).numpy()
    with np.load(golden / "family.npz") as family:
        assert np.abs(output[:, :, ::8, ::8] - family["generator_output_every_8th_pixel"]).max() <= 1e-5


def test_what_it_draws_is_pasted_as_the_family_pastes_it(golden: Path) -> None:
    rng = np.random.default_rng(7)
    image = torch.from_numpy(rng.random((2, 6, 320, 320), dtype=np.float32)[:1])
    audio = torch.from_numpy(rng.standard_normal((2, 32, 16, 16)).astype(np.float32)[:1])
    with torch.inference_mode():
        output = formula_weights(Generator())(image, audio)[0].numpy()
    with np.load(golden / "patch.npz") as values:
        rect, expected = Rect(*values["rect"].tolist()), values["pasted_region"].astype(int)
    frame = np.random.default_rng(8).integers(0, 256, (720, 1280, 3), np.uint8)
    truncated = (output * 255).astype(np.uint8).transpose(1, 2, 0)  # the family does not round
    pasted = patch.paste(frame, rect, patch.crop(frame, rect, "cubic"), truncated, "cubic")
    around = pasted[rect.y1 - 2 : rect.y2 + 2, rect.x1 - 2 : rect.x2 + 2].astype(int)
    # Where the last bits of the network differ from one processor to another, truncating makes a level of it.
    assert np.abs(around - expected).max() <= 1
    assert (around == expected).mean() > 0.999


@pytest.mark.parametrize("width", ["full", "mobile"])
def test_lean_networks_draw_the_same_with_less(width: Width) -> None:
    rng = np.random.default_rng(3)
    image = torch.from_numpy(rng.random((1, 6, 320, 320), dtype=np.float32))
    audio = torch.from_numpy(rng.standard_normal((1, 32, 16, 16)).astype(np.float32))
    generator = formula_weights(Generator(width))
    with torch.inference_mode():
        expected = generator(image, audio)
        folded = lean(copy.deepcopy(generator))
        assert (folded(image, audio) - expected).abs().max() <= 1e-5
    assert not any(isinstance(part, nn.BatchNorm2d) for part in folded.modules())
    first = CHANNELS[width][0]
    assert folded.get_submodule("up5.conv.double_conv.0.conv.0").in_channels == first + 12


def test_audio_encoder_equals_the_familys(golden: Path) -> None:
    rng = np.random.default_rng(7)
    rng.random((2, 6, 320, 320), dtype=np.float32)
    rng.standard_normal((2, 32, 16, 16))
    mel = torch.from_numpy(rng.uniform(-4, 4, (3, 1, 80, 16)).astype(np.float32))
    with torch.inference_mode():
        output = formula_weights(AudioEncoder())(mel).numpy()
    with np.load(golden / "family.npz") as family:
        expected = family["encoder_output"]
    scale = max(1.0, float(np.abs(expected).max()))
    assert np.abs(output - expected).max() / scale <= 1e-5


@pytest.mark.parametrize("width", list(CHANNELS))
@pytest.mark.parametrize("size", [160, 320])
def test_generator_runs_in_every_width_and_size(width: Width, size: int) -> None:
    generator = formula_weights(Generator(width))
    image, audio = torch.rand(1, 6, size, size), torch.randn(1, 32, 16, 16)
    with torch.inference_mode():
        output = generator(image, audio)
        silent = generator(image, torch.zeros_like(audio))
    assert output.shape == (1, 3, size, size)
    assert 0 < float(output.min()) < float(output.max()) < 1
    assert not torch.allclose(output, silent), "the sound changes nothing"


def test_mobile_width_is_a_third_of_the_full() -> None:
    assert parameters(Generator("mobile")) < parameters(Generator("full")) / 3


def test_feature_is_never_negative() -> None:
    with torch.inference_mode():
        feature = formula_weights(AudioEncoder())(torch.randn(4, 1, 80, 16))
    assert feature.shape == (4, 512)
    assert float(feature.min()) == 0.0 < float(feature.max())


@pytest.mark.parametrize("width", list(CHANNELS))
def test_every_layer_inside_sees_a_face_as_large_in_a_small_picture(width: Width) -> None:
    """What was learnt from small pictures holds in large ones: only the outermost halving is left out."""
    torch.manual_seed(0)
    generator = Generator(width).eval()
    ramp = torch.linspace(0, 1, 320)
    large = torch.stack([ramp.expand(320, 320), ramp[:, None].expand(320, 320), torch.outer(ramp, ramp)] * 2)[None]
    seen: list[torch.Tensor] = []
    for layer in (generator.down2, generator.down5, generator.fuse_conv, generator.up4):
        layer.register_forward_hook(lambda _layer, _asked, said: seen.append(said))
    with torch.inference_mode():
        heard = generator.audio_model(torch.rand(1, 32, 16, 16))
        drawn = generator.draw(large, heard), generator.draw(nn.functional.avg_pool2d(large, 2), heard)
    assert [picture.shape[-1] for picture in drawn] == [320, 160]
    for at_large, at_small in zip(seen[:4], seen[4:], strict=True):
        assert at_large.shape == at_small.shape
        inside = [each[..., 2:-2, 2:-2] for each in (at_large, at_small)]
        assert (inside[0] - inside[1]).abs().mean() < 0.05 * inside[0].std()


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("size", [16, 17])
def test_a_strided_depthwise_convolution_learns_what_torchs_own_would(size: int, bias: bool) -> None:
    torch.manual_seed(3)
    quick = Depthwise(8, 8, 3, 2, 1, groups=8, bias=bias).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    own = nn.Conv2d(8, 8, 3, 2, 1, groups=8, bias=bias)
    own.load_state_dict(quick.state_dict())
    x = torch.randn(2, 8, size, size).to(memory_format=torch.channels_last)
    wanted = torch.randn(2, 8, (size + 1) // 2, (size + 1) // 2)
    learnt = []
    for network in (quick, own):
        asked = x.clone().requires_grad_()
        answer = network(asked)
        (answer * wanted).sum().backward()
        learnt.append([answer, asked.grad, *(p.grad for p in network.parameters())])
    for mine, theirs in zip(*learnt, strict=True):
        assert mine is not None and theirs is not None
        torch.testing.assert_close(mine, theirs, rtol=1e-5, atol=1e-5)
    with torch.no_grad():
        assert torch.equal(quick.eval()(x), own(x))


def test_under_autocast_it_learns_in_bf16() -> None:
    quick = Depthwise(8, 8, 3, 2, 1, groups=8, bias=False)
    x = torch.randn(2, 8, 16, 16, requires_grad=True)
    with torch.autocast("cpu", torch.bfloat16):
        answer = quick(x)
    assert answer.dtype == torch.bfloat16
    answer.float().square().sum().backward()
    assert x.grad is not None and x.grad.dtype == quick.weight.grad.dtype == torch.float32  # type: ignore[union-attr]
