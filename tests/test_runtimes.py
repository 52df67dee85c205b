"""One suite over every runtime, models made elsewhere, refusals, and the choice that auto makes."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any, get_args

import numpy as np
import onnx
import pytest
import torch
from onnx import ModelProto, TensorProto

import lipwright
from lipwright import patch
from lipwright.avatar.package import builtin_avatar
from lipwright.contract import AUDIO as AUDIO_SPEC
from lipwright.contract import FEATURE, INPUT, MEL, OUTPUT, FloatArray, TensorSpec, UInt8Array
from lipwright.errors import AvatarError, ContractError, LipwrightError, MissingExtraError, RuntimeUnavailableError
from lipwright.export import export_audio_encoder, export_generator
from lipwright.models.audio_encoder import AudioEncoder
from lipwright.models.generator import Generator
from lipwright.runtimes import Runtime, base, choice, onnx_card, open_float, open_runtime, redraw
from lipwright.runtimes import onnx as onnx_runtime
from lipwright.runtimes import torch as torch_runtime
from lipwright.runtimes.base import Precision, cpu_has
from lipwright.runtimes.choice import Question, cache_folder, choose, is_installed
from lipwright.runtimes.onnx_card import OnnxOnCard
from lipwright.runtimes.openvino import OpenVinoRuntime
from lipwright.runtimes.stored import Store, round_graph
from lipwright.runtimes.torch import TorchRuntime, has_weights, load_audio_encoder, load_generator
from networks import AUDIO, IMAGE, PICTURE, alien_output, formula_weights, mels, pictures, rois, windows, write_alien
from tools import make_borders

ON_ONNX = ["onnxruntime", *(["openvino"] if is_installed("openvino") else [])]
ALL = [*ON_ONNX, "torch"]


@pytest.fixture(scope="module")
def generator() -> Generator:
    return formula_weights(Generator("mobile"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, generator: Generator) -> Path:
    """Both networks, each as .onnx and .pth of the same name."""
    place = tmp_path_factory.mktemp("networks")
    encoder = formula_weights(AudioEncoder())
    torch.save(generator.state_dict(), place / "generator.pth")
    torch.save(encoder.state_dict(), place / "encoder.pth")
    export_generator(generator, place / "generator.onnx", pictures(1), windows(1), "f32")
    export_audio_encoder(encoder, place / "encoder.onnx", mels(1), "f32")
    return place


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache"


def model_for(runtime: str, folder: Path, kind: str = "generator") -> Path:
    return folder / f"{kind}{'.pth' if runtime.startswith('torch') else '.onnx'}"


# --- one suite over all ---------------------------------------------------------------------------------------------


#: As on a card, joined by IO binding, with the processor's memory in the card's place.
BOUND = "onnxruntime, bound"


@pytest.fixture(scope="module", params=[*ALL, BOUND])
def opened(request: pytest.FixtureRequest, folder: Path) -> Runtime:
    if request.param == BOUND:
        return OnnxOnCard(folder / "generator.onnx", "generator", "cpu", "f32", None)
    return open_runtime(model_for(request.param, folder), "generator", request.param, "f32")


@pytest.fixture(scope="module")
def expected(generator: Generator) -> FloatArray:
    """What torch in f32 draws for the first three inputs."""
    with torch.inference_mode():
        output: FloatArray = generator(torch.from_numpy(pictures(3)), torch.from_numpy(windows(3))).numpy()
    return output


def test_ports_are_the_contracts(opened: Runtime) -> None:
    assert opened.inputs == (INPUT, AUDIO_SPEC)
    assert opened.outputs == (OUTPUT,)
    assert opened.name in ALL
    assert opened.detail.startswith(f"{opened.name} CPU f32")


def test_equals_torch(opened: Runtime, expected: FloatArray) -> None:
    output = opened.run(pictures(3), windows(3))
    assert output.dtype == np.float32
    assert np.abs(output - expected).max() <= 1e-4


def test_a_batch_is_its_frames(opened: Runtime) -> None:
    batch = opened.run(pictures(3), windows(3))
    single = [opened.run(pictures(3)[i : i + 1], windows(3)[i : i + 1]) for i in range(3)]
    assert np.abs(batch - np.concatenate(single)).max() <= 1e-5


def test_no_frames_give_no_frames(opened: Runtime) -> None:
    assert opened.run(pictures(0), windows(0)).shape == (0, *PICTURE)


def test_output_belongs_to_the_caller(opened: Runtime) -> None:
    first = opened.run(pictures(1), windows(1))
    kept = first.copy()
    opened.run(pictures(2)[1:], windows(2)[1:])
    assert np.array_equal(first, kept)
    assert first.flags.writeable


def test_takes_read_only_and_strided_arrays(opened: Runtime, expected: FloatArray) -> None:
    flipped = np.ascontiguousarray(pictures(1)[:, :, :, ::-1])
    flipped.flags.writeable = False
    assert np.abs(opened.run(flipped[:, :, :, ::-1], windows(1)) - expected[:1]).max() <= 1e-4


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ((pictures(1),), "expected 2 arrays"),
        ((windows(1), pictures(1)), "input: expected float32"),
        ((pictures(1), windows(1).astype(np.float64)), "audio: expected float32"),
        ((pictures(1)[:, :3], windows(1)), r"\[1, 3, 320, 320\]"),
        ((pictures(2), windows(1)), "batch sizes differ"),
    ],
    ids=["too few", "swapped", "float64", "three channels", "batches"],
)
def test_wrong_arrays_are_refused(opened: Runtime, arrays: tuple[FloatArray, ...], message: str) -> None:
    with pytest.raises(ContractError, match=message):
        opened.run(*arrays)


# --- in 8 bits ------------------------------------------------------------------------------------------------------


def by_numpy(opened: Runtime, count: int) -> UInt8Array:
    """What ``redraw`` must give, within a level: scaled, masked and rounded around ``run``."""
    inputs = np.stack([patch.to_input(roi, roi) for roi in rois(count)])
    return np.stack([patch.from_output(output) for output in opened.run(inputs, windows(count))])


def test_redrawing_in_8_bits_is_what_numpy_makes_around_the_network(opened: Runtime) -> None:
    answer = redraw(opened, rois(3), windows(3))
    assert answer.rois.dtype == np.uint8
    assert answer.finite.tolist() == [True, True, True]
    off = np.abs(answer.rois.astype(int) - by_numpy(opened, 3))
    assert off.max() <= 1
    assert (off > 0).mean() < 1e-3
    assert answer.rois.std() > 1, "a picture, not one grey"


def test_a_redrawn_roi_belongs_to_the_caller_and_no_frames_give_none(opened: Runtime) -> None:
    first = redraw(opened, rois(1), windows(1)).rois
    kept = first.copy()
    redraw(opened, rois(2)[1:], windows(2)[1:])
    assert np.array_equal(first, kept)
    assert first.flags.writeable
    assert redraw(opened, rois(0), windows(0)).rois.shape == (0, 320, 320, 3)


def test_redrawing_takes_read_only_and_strided_rois(opened: Runtime) -> None:
    crops = np.zeros((2, 328, 328, 3), np.uint8)
    crops[:, 4:-4, 4:-4] = rois(2)
    crops.flags.writeable = False
    expected = redraw(opened, rois(2), windows(2)).rois
    assert np.array_equal(redraw(opened, crops[:, 4:-4, 4:-4], windows(2)).rois, expected)


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ((rois(1).transpose(0, 3, 1, 2), windows(1)), "roi: expected uint8"),
        ((rois(1).astype(np.float32), windows(1)), "roi: expected uint8"),
        ((rois(1), windows(1).astype(np.float64)), "audio: expected float32"),
        ((rois(2), windows(1)), "2 ROIs and 1 windows"),
    ],
    ids=["channels first", "float", "float64", "batches"],
)
def test_wrong_arrays_are_not_redrawn(opened: Runtime, arrays: Any, message: str) -> None:
    with pytest.raises(ContractError, match=message):
        redraw(opened, *arrays)


@pytest.mark.parametrize("runtime", [*ON_ONNX, BOUND])
@pytest.mark.parametrize("batch", ["n", 2])
@pytest.mark.parametrize("store", [TensorProto.FLOAT, TensorProto.FLOAT16], ids=["f32", "f16"])
def test_redrawing_by_a_model_from_elsewhere(tmp_path: Path, runtime: str, batch: int | str, store: int) -> None:
    """Other names and order of the ports, fp16 inside, a batch size of its own; and a picture that is no picture."""
    model = write_alien(
        tmp_path / "alien.onnx",
        image=(batch, *IMAGE),
        audio=(batch, *AUDIO),
        output=(batch, *PICTURE),
        audio_first=True,
        store=store,
    )
    bound = runtime == BOUND
    opened = OnnxOnCard(model, "generator", "cpu", "f32", None) if bound else open_runtime(model, "generator", runtime)
    heard = windows(3)
    heard[1] = np.nan
    answer = redraw(opened, rois(3), heard)
    assert answer.finite.tolist() == [True, False, True]
    inputs = np.stack([patch.to_input(roi, roi) for roi in rois(3)])
    for k in (0, 2):
        expected = patch.from_output(alien_output(inputs[k : k + 1], heard[k : k + 1])[0])
        assert np.abs(answer.rois[k].astype(int) - expected).max() <= 1


def test_on_a_card_nothing_but_8_bits_and_windows_is_sent(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What lies between the three networks is bound where it is: it is neither given nor fetched as an array."""
    opened = OnnxOnCard(folder / "generator.onnx", "generator", "cpu", "f32", None)
    sent: list[tuple[str, Any]] = []
    real = onnx_card._bound

    def bound(session: Any, given: dict[str, Any], wanted: list[str], memory: str) -> list[Any]:
        sent.extend((str(value.dtype), value.nbytes) for value in given.values() if isinstance(value, np.ndarray))
        return real(session, given, wanted, memory)

    monkeypatch.setattr(onnx_card, "_bound", bound)
    redraw(opened, rois(2), windows(2))
    assert sent == [("uint8", rois(2).nbytes), ("float32", windows(2).nbytes)]


@pytest.mark.parametrize("provider", ["cuda", "tensorrt"])
def test_a_generator_on_a_card_is_bound_there(provider: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With sessions on the processor in the place of those on a card: which are opened, and on what."""
    asked: list[tuple[str, str]] = []

    def open_session(model: Path, provider: str, precision: str, threads: int | None) -> Any:
        asked.append((model.name, provider))
        return onnx_runtime.library().InferenceSession(str(model), providers=["CPUExecutionProvider"])

    monkeypatch.setattr(onnx_runtime, "open_session", open_session)
    monkeypatch.setattr(onnx_card, "open_session", open_session)
    monkeypatch.setattr(onnx_card, "CARDS", dict.fromkeys(onnx_card.CARDS, "cpu"))
    opened = open_runtime(folder / "generator.onnx", "generator", f"onnxruntime:{provider}")
    assert isinstance(opened, OnnxOnCard)
    assert asked == [("generator.onnx", provider), ("to_inputs.onnx", "cuda"), ("from_outputs.onnx", "cuda")]
    encoder = open_runtime(folder / "encoder.onnx", "encoder", f"onnxruntime:{provider}")
    assert not isinstance(encoder, OnnxOnCard)


def test_what_onnxruntime_cannot_redraw_is_an_error_of_ours(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = OnnxOnCard(folder / "generator.onnx", "generator", "cpu", "f32", None)
    monkeypatch.setattr(opened, "_behind", opened._before)
    with pytest.raises(RuntimeUnavailableError, match=r"onnxruntime cannot run .*generator\.onnx"):
        redraw(opened, rois(1), windows(1))


@pytest.mark.parametrize("made", [make_borders.to_inputs(), make_borders.from_outputs()], ids=lambda m: m.graph.name)
def test_the_borders_are_those_that_the_tool_writes(made: ModelProto) -> None:
    kept = onnx.load(Path(lipwright.__file__).parent / "data" / "borders" / f"{made.graph.name}.onnx")
    assert kept == made


def test_openvino_compiles_a_generator_in_float_only_when_asked(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if not is_installed("openvino"):
        return
    opened = open_runtime(folder / "generator.onnx", "generator", "openvino", "f32")
    assert isinstance(opened, OpenVinoRuntime)
    redraw(opened, rois(1), windows(1))
    assert opened._float is None
    open_float(opened)
    assert opened._float is not None


def test_openvino_takes_no_other_weights_for_floats(folder: Path, tmp_path: Path) -> None:
    if not is_installed("openvino"):
        return
    model = Path(shutil.copy(folder / "generator.onnx", tmp_path / "generator.onnx"))
    opened = open_runtime(model, "generator", "openvino", "f32")
    os.utime(model, (1, 1))
    with pytest.raises(RuntimeUnavailableError, match=r"generator\.onnx was replaced since it was opened"):
        opened.run(pictures(1), windows(1))
    assert redraw(opened, rois(1), windows(1)).finite.all(), "what is open goes on"


# --- encoder, and what goes wrong -----------------------------------------------------------------------------------


@pytest.mark.parametrize("runtime", ALL)
def test_encoder(runtime: str, folder: Path) -> None:
    opened = open_runtime(model_for(runtime, folder, "encoder"), "encoder", runtime, "f32")
    with torch.inference_mode():
        expected = formula_weights(AudioEncoder())(torch.from_numpy(mels(5))).numpy()
    assert (opened.inputs, opened.outputs) == ((MEL,), (FEATURE,))
    assert np.abs(opened.run(mels(5)) - expected).max() / expected.max() <= 1e-4


@pytest.mark.parametrize("runtime", ON_ONNX)
def test_features_do_not_depend_on_the_batch(runtime: str, folder: Path) -> None:
    opened = open_runtime(folder / "encoder.onnx", "encoder", runtime, "f32")
    assert np.array_equal(opened.run(mels(5)), np.concatenate([opened.run(mels(5)[i : i + 1]) for i in range(5)]))


@pytest.mark.parametrize("runtime", ALL)
def test_threads(runtime: str, folder: Path, expected: FloatArray) -> None:
    before = torch.get_num_threads()
    try:
        opened = open_runtime(model_for(runtime, folder), "generator", runtime, "f32", threads=1)
    finally:
        torch.set_num_threads(before)
    assert "f32, 1 thread" in opened.detail
    assert "threads" not in opened.detail
    assert np.abs(opened.run(pictures(1), windows(1)) - expected[:1]).max() <= 1e-4


# --- precision and providers ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("runtime", ALL)
def test_lanes_work_side_by_side_and_change_no_bit(runtime: str, folder: Path) -> None:
    alone = open_runtime(model_for(runtime, folder), "generator", runtime)
    opened = open_runtime(model_for(runtime, folder), "generator", runtime, threads=2, lanes=2)
    assert opened.lanes == (1 if runtime == "torch" else 2)
    assert alone.lanes == 1
    shown, asked, heard = pictures(6), rois(6), windows(6)
    with ThreadPoolExecutor(opened.lanes) as pool:
        answers = list(pool.map(lambda k: opened.run(shown[k : k + 1], heard[k : k + 1]), range(6)))
        redrawn = list(pool.map(lambda k: redraw(opened, asked[k : k + 1], heard[k : k + 1]).rois, range(6)))
    for k in range(6):
        np.testing.assert_array_equal(answers[k], alone.run(shown[k : k + 1], heard[k : k + 1]))
        np.testing.assert_array_equal(redrawn[k], redraw(alone, asked[k : k + 1], heard[k : k + 1]).rois)


@pytest.mark.parametrize("runtime", ON_ONNX)
def test_weights_in_8_bits_are_redrawn_alike_in_two_lanes(runtime: str) -> None:
    """OpenVINO, left to itself, computes them in every stream at once, and answers nonsense now and then."""
    model = builtin_avatar() / "checkpoint" / "model_fast.onnx"
    alone = open_runtime(model, "generator", runtime, "f32")
    expected = [redraw(alone, rois(4)[k : k + 1], windows(4)[k : k + 1]).rois for k in range(4)]
    opened = open_runtime(model, "generator", runtime, "f32", threads=2, lanes=2)
    with ThreadPoolExecutor(opened.lanes) as pool:
        answers = list(pool.map(lambda k: redraw(opened, rois(4)[k : k + 1], windows(4)[k : k + 1]).rois, range(4)))
    np.testing.assert_array_equal(answers, expected)


@pytest.mark.parametrize("precision", ["bf16", "f16"])
@pytest.mark.parametrize("runtime", ALL)
def test_a_low_precision_is_active_or_refused(
    runtime: str, precision: Precision, folder: Path, expected: FloatArray
) -> None:
    try:
        opened = open_runtime(model_for(runtime, folder), "generator", runtime, precision)
    except RuntimeUnavailableError as error:
        assert precision in str(error)
        assert runtime != "torch" or not cpu_has(precision)
        return
    difference = np.abs(opened.run(pictures(1), windows(1)) - expected[:1])
    assert precision in opened.detail
    assert 1e-5 < difference.max() < 0.2, "it computes in f32 or not at all"
    assert difference.mean() < 0.02
    answer = redraw(opened, rois(1), windows(1))
    assert answer.finite.all()
    assert np.abs(answer.rois.astype(int) - by_numpy(opened, 1)).max() <= 2


@pytest.mark.parametrize("runtime", ["openvino", "torch"])
def test_a_picture_in_bf16_has_all_its_levels(runtime: str, folder: Path) -> None:
    """Rounded to bf16 at its end it would have 128 between 0.5 and 1."""
    if runtime not in ALL or not cpu_has("bf16"):
        return
    bright = open_runtime(model_for(runtime, folder), "generator", runtime, "bf16").run(pictures(1), windows(1))
    assert len(np.unique(bright[(bright > 0.5) & (bright < 1)])) > 1000


@pytest.mark.parametrize("runtime", ["openvino", "torch"])
def test_auto_precision_is_bf16_where_the_processor_has_it(runtime: str, folder: Path) -> None:
    if runtime not in ALL:
        return
    opened = open_runtime(model_for(runtime, folder), "generator", runtime)
    assert ("bf16" if cpu_has("bf16") else "f32") in opened.detail


def test_a_processor_told_to_use_less_is_taken_at_its_word(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(base, "cpu_flags", lambda: frozenset({"avx512_bf16", "avx512_fp16"}))
    for limit, has in {"": True, "all": True, "AVX512_CORE_BF16": True, "AVX512_CORE": False, "AVX2": False}.items():
        monkeypatch.setenv(base.ISA_LIMIT, limit)
        assert cpu_has("bf16") is has
        assert cpu_has("f32")
    monkeypatch.undo()
    script = (
        "import sys; from pathlib import Path; from lipwright.runtimes import open_runtime; "
        "print(open_runtime(Path(sys.argv[1]), 'generator', 'openvino').detail)"
    )
    limited = {**os.environ, base.ISA_LIMIT: "AVX2"}  # oneDNN reads it once, at the start of a process
    command = [sys.executable, "-c", script, str(folder / "generator.onnx")]
    done = subprocess.run(command, env=limited, capture_output=True, text=True, check=True)
    assert "openvino CPU f32" in done.stdout


@pytest.mark.parametrize(
    ("runtime", "remedy"),
    [
        ("onnxruntime:cuda", "pip install onnxruntime-gpu"),
        ("onnxruntime:tensorrt", "pip install onnxruntime-gpu"),
        ("onnxruntime:directml", "pip install onnxruntime-directml"),
        ("onnxruntime:coreml", "Apple's own machines"),
        ("torch:cuda", "install"),
    ],
)
def test_a_provider_that_is_not_there_is_an_error(
    runtime: str, remedy: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(RuntimeUnavailableError, match=remedy):
        open_runtime(model_for(runtime, folder), "generator", runtime)


def test_a_provider_that_silently_fell_back_is_an_error(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """onnxruntime built with CUDA starts on the processor where the driver is missing, with a warning at most."""
    real = onnx_runtime.library()
    session = SimpleNamespace(get_providers=lambda: ["CPUExecutionProvider"])
    pretended = SimpleNamespace(
        get_available_providers=lambda: ["CUDAExecutionProvider", "CPUExecutionProvider"],
        SessionOptions=real.SessionOptions,
        InferenceSession=lambda *_, **__: session,
    )
    monkeypatch.setattr(onnx_runtime, "library", lambda: pretended)
    with pytest.raises(RuntimeUnavailableError, match="CUDAExecutionProvider was asked for and did not start"):
        open_runtime(folder / "generator.onnx", "generator", "onnxruntime:cuda")


@pytest.mark.parametrize("runtime", ["onnxruntime:tpu", "openvino:tpu", "torch:tpu"])
def test_unknown_providers_are_refused(runtime: str, folder: Path) -> None:
    with pytest.raises(RuntimeUnavailableError, match="tpu"):
        open_runtime(model_for(runtime, folder), "generator", runtime)


def test_unknown_names_are_refused_and_the_legal_ones_listed(folder: Path) -> None:
    model = folder / "generator.onnx"
    with pytest.raises(RuntimeUnavailableError, match="auto, onnxruntime, openvino, torch"):
        open_runtime(model, "generator", "tensorflow")
    with pytest.raises(RuntimeUnavailableError, match="auto, f32, bf16, f16"):
        open_runtime(model, "generator", precision="int8")  # type: ignore[arg-type]
    with pytest.raises(RuntimeUnavailableError, match="threads must be 1 or more"):
        open_runtime(model, "generator", threads=0)


@pytest.mark.parametrize(
    ("module", "runtime", "error", "message"),
    [
        ("onnxruntime", "onnxruntime", RuntimeUnavailableError, "pip install onnxruntime"),
        ("openvino", "openvino", RuntimeUnavailableError, "pip install openvino"),
        ("torch", "torch", MissingExtraError, r"pip install 'lipwright\[train\]'"),
    ],
)
def test_a_missing_library_is_named_with_the_pip_command(
    module: str,
    runtime: str,
    error: type[LipwrightError],
    message: str,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(error, match=message):
        open_runtime(model_for(runtime, folder), "generator", runtime)


def test_a_broken_onnxruntime_is_recognised(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", ModuleType("onnxruntime"))
    with pytest.raises(RuntimeUnavailableError, match="pip uninstall -y onnxruntime onnxruntime-gpu"):
        open_runtime(folder / "generator.onnx", "generator", "onnxruntime")


def test_the_room_loads_no_library() -> None:
    code = "import sys, lipwright.runtimes; print(*{name.split('.')[0] for name in sys.modules})"
    loaded = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.split()
    assert not {"torch", "openvino", "onnxruntime"} & set(loaded)


# --- models made elsewhere ------------------------------------------------------------------------------------------


def assert_draws(runtime: str, model: Path) -> None:
    output = open_runtime(model, "generator", runtime, "f32").run(pictures(3), windows(3))
    assert np.abs(output - alien_output(pictures(3), windows(3))).max() <= 1e-5


@pytest.mark.parametrize("runtime", ON_ONNX)
@pytest.mark.parametrize("names", [("input", "audio"), ("visual_input", "audio_input"), ("audio", "image"), ("a", "b")])
@pytest.mark.parametrize("audio_first", [False, True])
def test_inputs_are_found_by_shape(runtime: str, names: tuple[str, str], audio_first: bool, tmp_path: Path) -> None:
    assert_draws(runtime, write_alien(tmp_path / "m.onnx", names, audio_first=audio_first))


@pytest.mark.parametrize("runtime", ON_ONNX)
@pytest.mark.parametrize("batch", [1, 2, 8])
def test_a_fixed_batch_is_filled_up(runtime: str, batch: int, tmp_path: Path) -> None:
    sizes = {"image": (batch, *IMAGE), "audio": (batch, *AUDIO), "output": (batch, *PICTURE)}
    assert_draws(runtime, write_alien(tmp_path / "m.onnx", **sizes))  # type: ignore[arg-type]


@pytest.mark.parametrize("runtime", ON_ONNX)
def test_free_sizes_are_no_obstacle(runtime: str, tmp_path: Path) -> None:
    free = write_alien(tmp_path / "m.onnx", image=("n", 6, "h", "w"), output=("n", "c", "h", "w"))
    assert_draws(runtime, free)


@pytest.mark.parametrize("runtime", ON_ONNX)
def test_weights_stored_as_fp16(runtime: str, tmp_path: Path) -> None:
    assert_draws(runtime, write_alien(tmp_path / "m.onnx", store=TensorProto.FLOAT16))


@pytest.mark.parametrize("runtime", ON_ONNX)
@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ({"image": ("n", "c", "h", "w"), "audio": ("n", "a", "b", "c")}, "cannot be told apart"),
        ({"extra_output": True}, "cannot be told apart"),
        ({"audio": ("n", 16, 16, 16)}, r"audio_input float32 \[N, 16, 16, 16\].*a generator takes input"),
        ({"image": (1, *IMAGE), "audio": (2, *AUDIO), "output": ("n", *PICTURE)}, "contradict"),
    ],
    ids=["ambiguous inputs", "ambiguous outputs", "wrong shape", "batches"],
)
def test_other_networks_are_refused_with_what_was_found(
    runtime: str, sizes: dict[str, Any], message: str, tmp_path: Path
) -> None:
    model = write_alien(tmp_path / "m.onnx", **sizes)
    with pytest.raises(ContractError, match=message):
        open_runtime(model, "generator", runtime)


@pytest.mark.parametrize("runtime", ["auto", *ALL])
def test_a_generator_is_no_encoder(runtime: str, folder: Path) -> None:
    with pytest.raises(ContractError):
        open_runtime(model_for(runtime, folder), "encoder", runtime)


@pytest.mark.parametrize("runtime", ["auto", *ALL])
def test_a_missing_model_is_named(runtime: str, tmp_path: Path) -> None:
    with pytest.raises(AvatarError, match=r"there is no model file .*nothing\.onnx"):
        open_runtime(tmp_path / "nothing.onnx", "generator", runtime)


def test_a_damaged_model_is_named(folder: Path, tmp_path: Path) -> None:
    half = tmp_path / "half.onnx"
    half.write_bytes((folder / "generator.onnx").read_bytes()[:100_000])
    with pytest.raises(AvatarError, match=r"half\.onnx is damaged"):
        open_runtime(half, "generator")


@pytest.mark.parametrize("runtime", ON_ONNX)
def test_weights_are_no_onnx_model(runtime: str, folder: Path) -> None:
    with pytest.raises(ContractError, match=r"reads \.onnx, not generator\.pth"):
        open_runtime(folder / "generator.pth", "generator", runtime)


@pytest.mark.parametrize("runtime", ON_ONNX)
def test_nothing_is_printed(runtime: str, folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    open_runtime(folder / "generator.onnx", "generator", runtime).run(pictures(1), windows(1))
    printed = capfd.readouterr()
    assert (printed.out, printed.err) == ("", "")


# --- weights for torch ----------------------------------------------------------------------------------------------

Change = Callable[[dict[str, torch.Tensor]], object]


@pytest.mark.parametrize(
    "wrap",
    [
        lambda s: s,
        lambda s: {"state_dict": s, "epoch": 3},
        lambda s: {"generator": s, "audio_encoder": {}},
        lambda s: {"model": {"state_dict": s}},
        lambda s: {f"module.{k}": v for k, v in s.items()},
        lambda s: {k: v.half() if v.is_floating_point() else v for k, v in s.items()},
        lambda s: {k: v for k, v in s.items() if not k.endswith("num_batches_tracked")},
    ],
    ids=["plain", "state_dict", "generator", "nested", "module", "half", "no counters"],
)
def test_weights_are_found_in_their_wrapping(wrap: Change, generator: Generator, tmp_path: Path) -> None:
    torch.save(wrap(dict(generator.state_dict())), tmp_path / "w.pth")
    loaded = load_generator(tmp_path / "w.pth")
    assert loaded.width == "mobile"
    assert not loaded.training
    assert all(torch.allclose(v, loaded.state_dict()[k], atol=2e-3) for k, v in generator.state_dict().items())


def test_full_width_is_recognised(tmp_path: Path) -> None:
    torch.save(Generator("full").state_dict(), tmp_path / "w.pth")
    assert load_generator(tmp_path / "w.pth").width == "full"


@pytest.mark.parametrize("prefix", ["audio_encoder.", "", "module.audio_encoder."])
def test_encoder_weights_with_and_without_prefix(prefix: str, tmp_path: Path) -> None:
    state = {prefix + k.removeprefix("audio_encoder."): v for k, v in AudioEncoder().state_dict().items()}
    torch.save(state, tmp_path / "w.pth")
    loaded = load_audio_encoder(tmp_path / "w.pth").state_dict()
    assert torch.equal(loaded["audio_encoder.0.conv_block.0.weight"], state[f"{prefix}0.conv_block.0.weight"])


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda s: {**s, "head.weight": torch.zeros(1)}, r"unknown: head\.weight"),
        (lambda s: {k: v for k, v in s.items() if k != "outc.conv.bias"}, r"missing: outc\.conv\.bias"),
        (lambda s: {**s, "outc.conv.bias": torch.zeros(4)}, r"another shape: outc\.conv\.bias"),
        (lambda s: {**s, "outc.conv.bias": torch.full((3,), torch.nan)}, r"no numbers: outc\.conv\.bias"),
        (lambda s: {**s, "inc.inconv.0.conv.6.weight": torch.zeros(24, 48, 1, 1)}, "no generator begins with 24"),
        (lambda _: {"audio_encoder.0.conv_block.0.weight": torch.zeros(1)}, "holds no generator"),
        (lambda _: [torch.zeros(1)], "holds list, not a state_dict"),
        (lambda s: {**s, "epoch": 3}, "more than a state_dict of a generator: epoch"),
    ],
    ids=["unknown", "missing", "shape", "nan", "width", "encoder", "list", "number"],
)
def test_wrong_weights_are_named(spoil: Change, message: str, generator: Generator, tmp_path: Path) -> None:
    torch.save(spoil(dict(generator.state_dict())), tmp_path / "w.pth")
    with pytest.raises(ContractError, match=message):
        load_generator(tmp_path / "w.pth")


class Trap:
    """Unpickling it would make a folder."""

    def __init__(self, place: Path) -> None:
        self.place = place

    def __reduce__(self) -> tuple[Callable[[str], None], tuple[str]]:
        return os.mkdir, (str(self.place),)


def test_weights_that_would_run_code_are_refused(tmp_path: Path) -> None:
    torch.save({"state_dict": Trap(tmp_path / "sprung")}, tmp_path / "w.pth")
    with pytest.raises(AvatarError, match=r"w\.pth is damaged or holds more than weights"):
        load_generator(tmp_path / "w.pth")
    assert not (tmp_path / "sprung").exists()


def test_truncated_weights_are_refused(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "w.pth").write_bytes((folder / "generator.pth").read_bytes()[:10_000])
    with pytest.raises(AvatarError, match=r"w\.pth is damaged"):
        load_generator(tmp_path / "w.pth")


def test_torch_takes_the_weights_beside_an_onnx_file(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "model_best.onnx").write_bytes(b"not read")
    with pytest.raises(RuntimeUnavailableError, match=r"put best_trainloss\.pth there"):
        open_runtime(tmp_path / "model_best.onnx", "generator", "torch")
    (tmp_path / "best_trainloss.pth").symlink_to(folder / "generator.pth")
    opened = open_runtime(tmp_path / "model_best.onnx", "generator", "torch")
    assert opened.detail.endswith("weights best_trainloss.pth")


@pytest.mark.parametrize("store", get_args(Store))
def test_torch_runs_what_was_exported(store: Store, folder: Path, expected: FloatArray, tmp_path: Path) -> None:
    """No .pth is beside it: the weights come out of the ONNX file, however they are stored there."""
    alone = Path(shutil.copy(folder / "generator.onnx", tmp_path / "alone.onnx"))
    if store != "f32":
        round_graph(alone, store)
    assert has_weights(alone)
    opened = open_runtime(alone, "generator", "torch", "f32")
    assert opened.detail.endswith("weights alone.onnx")
    plain = open_runtime(alone, "generator", "onnxruntime", "f32").run(pictures(3), windows(3))
    assert np.abs(opened.run(pictures(3), windows(3)) - plain).max() <= 1e-4
    assert store != "f32" or np.abs(plain - expected).max() <= 1e-4


def test_torch_runs_an_exported_encoder(folder: Path, tmp_path: Path) -> None:
    alone = Path(shutil.copy(folder / "encoder.onnx", tmp_path / "alone.onnx"))
    heard = [open_runtime(alone, "encoder", runtime, "f32").run(mels(5)) for runtime in ("torch", "onnxruntime")]
    assert np.abs(heard[0] - heard[1]).max() / heard[1].max() <= 1e-4
    with pytest.raises(ContractError, match="no generator"):
        open_runtime(alone, "generator", "torch")


def test_torch_has_no_weights_of_other_programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    alien = write_alien(tmp_path / "alien.onnx")
    assert not has_weights(alien)
    with pytest.raises(RuntimeUnavailableError, match="that lipwright exported"):
        open_runtime(alien, "generator", "torch")
    alone = Path(shutil.copy(folder / "generator.onnx", tmp_path / "alone.onnx"))
    monkeypatch.setitem(sys.modules, "onnx", None)
    assert not has_weights(alone)
    with pytest.raises(MissingExtraError, match="onnx"):
        open_runtime(alone, "generator", "torch")


class Card:
    """What is recorded for CUDA, done at once: the order of calls is that of a card."""

    def __init__(self, compute: Callable[[Any], Sequence[torch.Tensor]], arrays: list[Any], device: object) -> None:
        self.compute, self.shapes, self.device = compute, [a.shape for a in arrays], device

    def __call__(self, arrays: list[Any]) -> list[Any]:
        assert [a.shape for a in arrays] == self.shapes
        return [answer.numpy() for answer in self.compute([torch.tensor(a) for a in arrays])]


def test_each_batch_size_is_recorded_once_and_few_are_kept(
    folder: Path, expected: FloatArray, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = open_runtime(folder / "generator.pth", "generator", "torch", "f32")
    assert isinstance(opened, TorchRuntime)
    monkeypatch.setattr(torch_runtime, "Recorded", Card)
    monkeypatch.setattr(torch_runtime, "MOST_RECORDED", 2)
    monkeypatch.setattr(opened, "_records", True)
    assert np.abs(opened.run(pictures(3), windows(3)) - expected).max() <= 1e-4
    first = opened.recorded["run", 3]
    opened.run(pictures(1), windows(1))
    opened.run(pictures(3), windows(3))
    assert opened.recorded["run", 3] is first
    redraw(opened, rois(1), windows(1))
    opened.run(pictures(2), windows(2))
    assert list(opened.recorded) == [("run", 3), ("redraw", 1), ("run", 2)], "each computation has its own places"


def test_openvino_knows_all_sizes_beforehand(folder: Path) -> None:
    if not is_installed("openvino"):
        return
    opened = open_runtime(folder / "generator.onnx", "generator", "openvino")
    assert isinstance(opened, OpenVinoRuntime)
    assert opened._binding.batch == 1
    assert [port.shape for port in opened._binding.inputs] == [(1, *IMAGE), (1, *AUDIO)]


# --- auto -----------------------------------------------------------------------------------------------------------


class ScriptedClock:
    """Instead of the ``time`` module: no machine that is busy elsewhere makes the fast one slow."""

    def __init__(self) -> None:
        self.now = 0.0

    def perf_counter(self) -> float:
        return self.now


CLOCK = ScriptedClock()


class Scripted:
    """A runtime that takes as long as it is told, by the scripted clock, and always draws the same grey."""

    inputs = (INPUT, AUDIO_SPEC)
    outputs: tuple[TensorSpec, ...] = (OUTPUT,)

    def __init__(self, name: str, seconds: float, grey: float = 0.5) -> None:
        self.name, self.detail, self.lanes = name, f"{name} scripted", 1
        self.seconds, self.grey = seconds, grey

    def run(self, *arrays: FloatArray) -> FloatArray:
        CLOCK.now += self.seconds
        return np.full((len(arrays[0]), *PICTURE), self.grey, np.float32)


class Opener:
    """Opens what the script says and remembers what was asked for; a string is the reason not to open."""

    def __init__(self, **script: Scripted | str) -> None:
        self.script = script
        self.asked: list[str] = []

    def __call__(self, name: str) -> Runtime:
        self.asked.append(name)
        answer = self.script[name]
        if isinstance(answer, str):
            raise RuntimeUnavailableError(answer)
        return answer


@pytest.fixture
def question(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Question:
    monkeypatch.setattr(choice, "time", CLOCK)
    (tmp_path / "m.onnx").write_bytes(b"some model")
    return Question(tmp_path / "m.onnx", "generator", "auto", None, ("slow", "fast", "broken"))


def script(**changes: Scripted | str) -> Opener:
    usual: dict[str, Scripted | str] = {
        "slow": Scripted("slow", 0.03),
        "fast": Scripted("fast", 0.0),
        "broken": "no driver",
    }
    return Opener(**{**usual, **changes})


def test_auto_takes_the_fastest_that_works_and_says_why(question: Question) -> None:
    opener = script()
    chosen = choose(question, opener)
    assert chosen.name == "fast"
    assert opener.asked == ["slow", "fast", "broken"]
    for part in ("fast scripted", "auto: fastest here", "slow scripted", "broken: no driver"):
        assert part in chosen.detail


def test_auto_remembers(question: Question) -> None:
    choose(question, script())
    opener = script()
    chosen = choose(question, opener)
    assert opener.asked == ["fast"]
    assert "measured earlier" in chosen.detail


def test_auto_measures_anew_for_another_model(question: Question) -> None:
    choose(question, script())
    question.model.write_bytes(b"another model")
    opener = script()
    choose(question, opener)
    assert opener.asked == ["slow", "fast", "broken"]


def test_auto_measures_anew_when_the_remembered_one_fails(question: Question) -> None:
    choose(question, script())
    opener = script(fast="its library is gone")
    assert choose(question, opener).name == "slow"
    assert opener.asked == ["fast", "slow", "fast", "broken"]


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"runtime": "nonsense", "why": ""}', "\x00"])
def test_auto_survives_a_spoiled_memory(content: str, question: Question) -> None:
    choose(question, script())
    (memory,) = (cache_folder() / "runtimes").glob("*.json")
    memory.write_text(content, encoding="utf-8")
    assert choose(question, script()).name == "fast"
    assert json.loads(memory.read_text(encoding="utf-8"))["runtime"] == "fast"


def test_auto_works_without_a_cache(question: Question, own_cache: Path) -> None:
    own_cache.write_text("a file where the folder should be")
    assert choose(question, script()).name == "fast"


@pytest.mark.parametrize("grey", [0.9, float("nan")])
def test_auto_leaves_out_what_draws_something_else(grey: float, question: Question) -> None:
    chosen = choose(question, script(fast=Scripted("fast", 0.0, grey)))
    assert chosen.name == "slow"
    assert "away from that of slow" in chosen.detail


def test_auto_names_every_reason_when_nothing_works(question: Question) -> None:
    with pytest.raises(RuntimeUnavailableError, match="slow: no a; fast: no b; broken: no driver"):
        choose(question, script(slow="no a", fast="no b"))


def test_auto_on_a_real_generator(folder: Path, expected: FloatArray) -> None:
    opened = open_runtime(folder / "generator.onnx", "generator")
    assert np.abs(opened.run(pictures(3), windows(3)) - expected).mean() < 0.02
    assert "auto:" in opened.detail
    again = open_runtime(folder / "generator.onnx", "generator")
    assert again.name == opened.name
    assert ("measured earlier" in again.detail) == (len(ON_ONNX) > 1)


def test_auto_runs_the_encoder_exactly(folder: Path) -> None:
    opened = open_runtime(folder / "encoder.onnx", "encoder")
    assert opened.detail.startswith("onnxruntime CPU f32")
    assert not cache_folder().exists(), "nothing was measured"


def test_auto_runs_weights_in_torch(folder: Path) -> None:
    assert open_runtime(folder / "generator.pth", "generator").name == "torch"


def test_openvino_reports_nothing_to_its_makers(tmp_path: Path) -> None:
    look = (
        "import sys\n"
        "from lipwright.runtimes.openvino import library\n"
        "library()\n"
        "print(sys.modules['openvino_telemetry'])"
    )
    environment = {key: value for key, value in os.environ.items() if key != "CI"} | {"HOME": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", look], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout == "None\n"
    assert list(tmp_path.iterdir()) == []
