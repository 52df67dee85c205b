"""Exported networks draw what torch draws, whatever is wrong is refused, and a refusal leaves nothing behind."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from lipwright import export
from lipwright.contract import FloatArray
from lipwright.errors import AvatarError, ContractError, LipwrightError, MissingExtraError
from lipwright.export import (
    EIGHT_BIT_LIMITS,
    PARITY_LIMIT,
    ROUNDING_LIMIT,
    Apart,
    ParityRecord,
    export_audio_encoder,
    export_generator,
)
from lipwright.models.audio_encoder import AudioEncoder
from lipwright.models.generator import Generator
from lipwright.runtimes import open_runtime
from lipwright.runtimes.choice import is_installed
from lipwright.runtimes.stored import rounded, stored_weights
from lipwright.training.base import exported_weights
from networks import formula_weights, mels, pictures, windows


@pytest.fixture(scope="module")
def generator() -> Generator:
    return formula_weights(Generator("mobile"))


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("export")


@pytest.fixture(scope="module")
def plain(generator: Generator, place: Path) -> tuple[Path, ParityRecord]:
    file = place / "plain.onnx"
    return file, export_generator(generator, file, pictures(1), windows(1), "f32")


@pytest.fixture(scope="module")
def halved(generator: Generator, place: Path) -> tuple[Path, ParityRecord]:
    """Exported from a file, as users do."""
    torch.save(generator.state_dict(), place / "weights.pth")
    file = place / "halved.onnx"
    return file, export_generator(place / "weights.pth", file, pictures(5), windows(5))


def ports(values: Any) -> dict[str, list[int | str]]:
    return {v.name: [d.dim_param or d.dim_value for d in v.type.tensor_type.shape.dim] for v in values}


def test_graph_is_the_contracts(plain: tuple[Path, ParityRecord]) -> None:
    model = onnx.load(plain[0])
    assert [(o.domain, o.version) for o in model.opset_import] == [("", 17)]
    assert ports(model.graph.input) == {"input": ["batch", 6, 320, 320], "audio": ["batch", 32, 16, 16]}
    assert ports(model.graph.output) == {"output": ["batch", 3, 320, 320]}
    kinds = {node.op_type for node in model.graph.node}
    assert kinds <= {"Conv", "Relu", "Add", "Concat", "Resize", "Sigmoid", "Constant"}, "no batch norm, no loose ends"


def test_record_of_an_export_in_f32(plain: tuple[Path, ParityRecord]) -> None:
    record = plain[1]
    assert 0 < record.max_abs_f32 <= PARITY_LIMIT == 1e-4
    assert (record.max_abs_rounded, record.rounded_vs_unrounded) == (None, None)
    assert (record.rounded_mean, record.rounded_p999, record.stored) == (None, None, "f32")
    assert (record.opset, record.n_inputs) == (17, 1)
    assert (record.torch, record.onnxruntime) == (torch.__version__, onnxruntime.__version__)


def test_record_of_an_export_with_rounded_weights(halved: tuple[Path, ParityRecord]) -> None:
    record = halved[1]
    assert record.n_inputs == 5
    assert record.max_abs_rounded is not None
    assert record.rounded_vs_unrounded is not None
    assert 0 < record.max_abs_f32 <= 1e-4
    assert 0 < record.max_abs_rounded <= 1e-4
    assert 1e-4 < record.rounded_vs_unrounded <= ROUNDING_LIMIT == 2 / 255
    assert record.stored == "f16"


def test_rounding_halves_the_file(plain: tuple[Path, ParityRecord], halved: tuple[Path, ParityRecord]) -> None:
    assert 0.5 < halved[0].stat().st_size / plain[0].stat().st_size < 0.53


def test_the_difference_in_the_record_is_the_files(
    plain: tuple[Path, ParityRecord], halved: tuple[Path, ParityRecord]
) -> None:
    first, second = (
        open_runtime(file, "generator", "onnxruntime").run(pictures(5), windows(5)) for file, _ in (plain, halved)
    )
    assert np.abs(first - second).max() == pytest.approx(halved[1].rounded_vs_unrounded, rel=1e-3)


def test_the_file_names_no_place_of_this_machine(halved: tuple[Path, ParityRecord]) -> None:
    content = halved[0].read_bytes()
    assert b"lipwright" not in content
    assert str(Path.cwd()).encode() not in content


def test_onnxruntime_folds_the_casts_away(halved: tuple[Path, ParityRecord], tmp_path: Path) -> None:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.optimized_model_filepath = str(tmp_path / "optimised.onnx")
    onnxruntime.InferenceSession(str(halved[0]), options, providers=["CPUExecutionProvider"])
    assert "Cast" in {node.op_type for node in onnx.load(halved[0]).graph.node}
    assert "Cast" not in {node.op_type for node in onnx.load(tmp_path / "optimised.onnx").graph.node}


def test_openvino_folds_the_casts_away(halved: tuple[Path, ParityRecord]) -> None:
    if not is_installed("openvino"):
        return
    import openvino

    compiled = openvino.Core().compile_model(str(halved[0]), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    layers = {n.get_rt_info()["layerType"].astype(str) for n in compiled.get_runtime_model().get_ordered_ops()}
    assert "Convolution" in layers
    assert "Convert" not in layers


def test_encoder(place: Path) -> None:
    encoder = formula_weights(AudioEncoder())
    record = export_audio_encoder(encoder, place / "encoder.onnx", mels(6))
    model = onnx.load(place / "encoder.onnx")
    assert ports(model.graph.input) == {"mel": ["batch", 1, 80, 16]}
    assert ports(model.graph.output) == {"feature": ["batch", 512]}
    assert record.max_abs_rounded is not None
    assert max(record.max_abs_f32, record.max_abs_rounded) <= PARITY_LIMIT


@pytest.fixture(scope="module")
def eighth(generator: Generator, place: Path) -> tuple[Path, ParityRecord]:
    """In 8 bits."""
    file = place / "eighth.onnx"
    return file, export_generator(generator, file, pictures(1), windows(1), "int8")


def test_record_of_an_export_in_eight_bits(eighth: tuple[Path, ParityRecord], plain: tuple[Path, ParityRecord]) -> None:
    file, record = eighth
    assert record.stored == "int8"
    assert record.max_abs_rounded is not None
    assert record.max_abs_rounded <= PARITY_LIMIT, "torch with rounded weights draws what the file draws"
    first, second = (open_runtime(f, "generator", "onnxruntime").run(pictures(1), windows(1)) for f in (plain[0], file))
    seen = Apart.of(first, second)
    assert (record.rounded_vs_unrounded, record.rounded_mean, record.rounded_p999) == pytest.approx(
        (seen.max_abs, seen.mean_abs, seen.p999_abs), rel=1e-3
    )
    assert 0 < seen.mean_abs <= EIGHT_BIT_LIMITS[0] == 0.5 / 255
    assert seen.mean_abs < seen.p999_abs <= EIGHT_BIT_LIMITS[1] == 4 / 255
    assert seen.p999_abs < seen.max_abs
    assert 0.26 < file.stat().st_size / plain[0].stat().st_size < 0.33


def test_openvino_draws_from_eight_bits_what_onnxruntime_does(eighth: tuple[Path, ParityRecord]) -> None:
    if not is_installed("openvino"):
        return
    runtimes = (open_runtime(eighth[0], "generator", name, "f32") for name in ("onnxruntime", "openvino"))
    first, second = (runtime.run(pictures(1), windows(1)) for runtime in runtimes)
    assert np.abs(first - second).max() <= 1e-4


def test_a_base_can_be_taken_from_eight_bits(
    eighth: tuple[Path, ParityRecord], plain: tuple[Path, ParityRecord]
) -> None:
    unrounded, base = stored_weights(plain[0]), exported_weights(eighth[0])
    assert base.keys() == exported_weights(plain[0]).keys()
    for name, values in base.items():
        np.testing.assert_array_equal(values, rounded(unrounded[name], "int8").astype(np.float16))


def even_encoder() -> AudioEncoder:
    """Without the far tails of random weights, which cost all others of their channel their steps."""
    encoder = formula_weights(AudioEncoder())
    with torch.no_grad():
        for weight in encoder.parameters():
            if weight.dim() > 1:
                weight.clamp_(-weight.std(), weight.std())
    return encoder


def test_encoder_in_eight_bits(place: Path) -> None:
    record = export_audio_encoder(even_encoder(), place / "encoder8.onnx", mels(3), "int8")
    assert record.max_abs_rounded is not None
    assert record.rounded_mean is not None
    assert record.max_abs_rounded <= PARITY_LIMIT
    assert 0 < record.rounded_mean <= EIGHT_BIT_LIMITS[0]
    assert (place / "encoder8.onnx").stat().st_size < 3_000_000


def test_apart_is_relative_to_outputs_beyond_1() -> None:
    expected = np.zeros(2000, np.float32)
    got = expected.copy()
    got[0], got[1:3] = 0.5, 0.25
    assert Apart.of(expected, got) == Apart(0.5, pytest.approx(1 / 2000), pytest.approx(0.25, rel=1e-2))  # type: ignore[arg-type]
    assert Apart.of(expected + 4, got + 4).max_abs == pytest.approx(0.125)
    got[7] = np.nan
    assert all(np.isnan([Apart.of(expected, got).max_abs, Apart.of(expected, got).p999_abs]))


def test_the_module_stays_as_it_is(place: Path) -> None:
    training = formula_weights(Generator("mobile")).train()
    before = {key: value.clone() for key, value in training.state_dict().items()}
    export_generator(training, place / "training.onnx", pictures(1), windows(1))
    assert training.training
    assert all(torch.equal(value, before[key]) for key, value in training.state_dict().items())
    assert len(before) == len(training.state_dict())


# --- refusals -------------------------------------------------------------------------------------------------------


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """A model of an earlier export, which a refused one must leave alone."""
    (tmp_path / "model.onnx").write_bytes(b"earlier")
    return tmp_path / "model.onnx"


def assert_refused(out: Path, message: str, error: type[LipwrightError], action: Callable[[], ParityRecord]) -> None:
    with pytest.raises(error, match=message):
        action()
    assert out.read_bytes() == b"earlier"
    assert list(out.parent.iterdir()) == [out]


def test_a_difference_between_torch_and_onnx_is_refused(
    out: Path, generator: Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    right = export._run_onnx
    monkeypatch.setattr(export, "_run_onnx", lambda *asked: right(*asked) + np.float32(2e-4))
    message = r"torch and onnxruntime differ by 2\.\d\de-04, the limit is 1\.00e-04"
    assert_refused(out, message, LipwrightError, lambda: export_generator(generator, out, pictures(1), windows(1)))


def test_a_difference_that_f32_itself_makes_is_not_refused(
    out: Path, generator: Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Hours of training were lost to it: every library is a little off where sums cancel, each its own way."""
    monkeypatch.setattr(export, "PARITY_LIMIT", 1e-9)
    done = export_generator(generator, out, pictures(1), windows(1), "f32")
    assert 1e-9 < done.max_abs_f32 < 1e-4
    assert out.read_bytes() != b"earlier"


def test_a_difference_made_by_rounding_is_refused(out: Path) -> None:
    """Its last weights are so large that fp16's steps show in the picture."""
    coarse = formula_weights(Generator("mobile"))
    with torch.no_grad():
        coarse.outc.conv.weight.mul_(50)
    message = r"storing the weights as f16 changes the output.*, the limit is 7\.84e-03: --store f32 changes it less"
    assert_refused(out, message, LipwrightError, lambda: export_generator(coarse, out, pictures(1), windows(1)))
    assert export_generator(coarse, out, pictures(1), windows(1), "f32").max_abs_rounded is None


def test_a_difference_made_by_eight_bits_is_refused(out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Random weights have tails that trained ones have not."""
    message = r"storing the weights as int8 .* mean difference, .* the limit is 1\.96e-03: --store f16 changes it less"
    encoder = formula_weights(AudioEncoder())
    assert_refused(out, message, LipwrightError, lambda: export_audio_encoder(encoder, out, mels(3), "int8"))
    monkeypatch.setattr(export, "EIGHT_BIT_LIMITS", (1, 1e-7))
    message = r"99\.9th percentile difference, .* the limit is 1\.00e-07"
    assert_refused(out, message, LipwrightError, lambda: export_audio_encoder(encoder, out, mels(1), "int8"))


def test_weights_beyond_fp16_are_refused(out: Path) -> None:
    huge = formula_weights(Generator("mobile"))
    with torch.no_grad():
        huge.audio_model.conv3.weight[0, 0, 0, 0] = 1e6
    assert_refused(out, "not exported", LipwrightError, lambda: export_generator(huge, out, pictures(1), windows(1)))


@pytest.mark.parametrize(
    ("images", "sounds", "message"),
    [
        (pictures(0), windows(0), "at least one input"),
        (pictures(2), windows(1), r"as many of each kind, got \[2, 1\]"),
        (pictures(1) * np.float32("nan"), windows(1), "no numbers"),
        (pictures(1)[:, :3], windows(1), "input: expected"),
    ],
    ids=["none", "unequal", "nan", "shape"],
)
def test_wrong_inputs_are_refused(
    images: FloatArray, sounds: FloatArray, message: str, out: Path, generator: Generator
) -> None:
    assert_refused(out, message, ContractError, lambda: export_generator(generator, out, images, sounds))


def test_a_missing_folder_is_named(tmp_path: Path, generator: Generator) -> None:
    with pytest.raises(AvatarError, match=r"nowhere.model\.onnx cannot be written"):
        export_generator(generator, tmp_path / "nowhere" / "model.onnx", pictures(1), windows(1))


def test_a_missing_onnx_is_named_with_the_pip_command(
    out: Path, generator: Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "onnx", None)
    message = r"onnx is not installed: pip install 'lipwright\[train\]'"
    assert_refused(out, message, MissingExtraError, lambda: export_generator(generator, out, pictures(1), windows(1)))
