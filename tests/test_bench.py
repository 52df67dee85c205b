"""``lipwright bench``: every task in its own process, honest figures, tables and charts that say the same."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import xml.etree.ElementTree as ElementTree
from dataclasses import replace
from pathlib import Path
from typing import NoReturn
from unittest import mock

import cv2
import numpy as np
import pytest

from avatars import make_avatar
from lipwright import bench as bench_room
from lipwright import cli
from lipwright.audio.decode import SoundReader
from lipwright.avatar import Avatar, ModelRecord, Segment, builtin_sound
from lipwright.bench import Bench, Plan, bench, markdown, tables, walk, write_bench
from lipwright.bench.baseline import sequential, unpack
from lipwright.bench.chart import Bars, Lines, Series, draw
from lipwright.bench.children import measure
from lipwright.bench.growth import GROWTH, lasting, resized
from lipwright.bench.measures import STAGES, Failed, Measured, Pace, Task
from lipwright.bench.report import Curve, as_data
from lipwright.bench.schedule import Schedule, cost
from lipwright.bench.stages import stages
from lipwright.bench.walk import BATCH, tasks
from lipwright.render import Networks, Painter
from lipwright.trial import Look, Progress, Way, stamp

pytestmark = pytest.mark.alone

ONNX = Way("onnxruntime", "f32")


@pytest.fixture(scope="module")
def avatar(tmp_path_factory: pytest.TempPathFactory) -> Avatar:
    return make_avatar(tmp_path_factory.mktemp("avatar"))


def no_constant(name: str) -> NoReturn:
    raise AssertionError(f"{name} is no JSON")


# --- a whole run ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def found(avatar: Avatar) -> Bench:
    sizes = {"jobs": (2,), "lengths": (0.4,), "heights": ("480p",)}
    plan = Plan([ONNX], seconds=0.4, alone=4, warm_up=2, growth=GROWTH, **sizes)  # type: ignore[arg-type]
    return bench(avatar, plan)


def test_everything_is_measured(found: Bench) -> None:
    assert [type(result) for result in found.results] == [Measured] * 3, found.remarks()
    alone, whole, baseline = (found.measured(kind)[0] for kind in ("inference", "render", "baseline"))
    for measured in (alone, whole, baseline):
        assert 0 < measured.median_ms <= measured.p95_ms <= measured.p99_ms
        assert "onnxruntime CPU f32" in measured.detail
        assert measured.memory_mb is not None
        assert 50 < measured.memory_mb < 2000
    assert (alone.frames, whole.frames, baseline.frames) == (4, 10, 10)
    assert alone.cold_load_s is not None
    assert alone.first_frame_s is not None
    assert 0.1 < alone.cold_load_s < alone.first_frame_s
    assert found.baseline == baseline


def test_stages_are_those_of_a_frame(found: Bench) -> None:
    (whole,), (baseline,) = found.measured("render"), found.measured("baseline")
    assert list(whole.stages_ms) == list(STAGES)
    assert set(baseline.stages_ms) == set(STAGES)
    assert all(whole.stages_ms[stage] > 0 for stage in ("decode", "hear", "draw", "paste", "encode"))
    assert baseline.fps <= 1050 / sum(baseline.stages_ms.values()) * 3  # sequential: no faster than its stages


def test_growth_is_measured(found: Bench) -> None:
    assert [curve.name for curve in found.curves] == ["jobs at once", "length of the sound", "height of the picture"]
    for curve in found.curves:
        ((_, _, measured),) = curve.points
        assert isinstance(measured, Measured), measured
        assert measured.fps > 0
    (two,) = found.curves[0].points
    assert isinstance(two[2], Measured)
    assert two[2].fairness is not None
    assert 0 < two[2].fairness <= 1


def test_json_tables_and_charts_say_the_same(found: Bench, tmp_path: Path) -> None:
    paths = write_bench(found, tmp_path / "bench")
    assert [path.name for path in paths] == ["bench.json", "bench.md", "bench.svg", "bench.png"]
    data = json.loads(paths[0].read_text(encoding="utf-8"), parse_constant=no_constant)
    (whole,) = found.measured("render")
    assert found.baseline is not None
    ratio = whole.fps / found.baseline.fps
    assert data["times_the_baseline"] == {"onnxruntime/f32": pytest.approx(ratio)}
    page = paths[1].read_text(encoding="utf-8")
    assert f"{ratio:.2f} x" in page
    assert f"{whole.fps:.1f}" in page
    svg = ElementTree.fromstring(paths[2].read_text(encoding="utf-8"))
    words = [element.text for element in svg.iter("{http://www.w3.org/2000/svg}text")]
    assert {"onnxruntime/f32", *STAGES} <= set(words)
    assert cv2.imread(str(paths[3])) is not None
    assert found.stamp.processor in page


def test_the_stamp_names_the_machine() -> None:
    seen = stamp()
    assert seen.cores >= 1
    assert seen.libraries["onnxruntime"]
    assert seen.lipwright in seen.lines()[-2]


def test_both_ways_show_one_uncut_part_of_the_template(avatar: Avatar, tmp_path: Path) -> None:
    """Ten pictures of a part of three frames: across the cut it would be another film than `render` makes."""
    parts = [Segment(start=0, stop=2), Segment(start=2, stop=5), Segment(start=5, stop=avatar.frame_count)]
    cut = Avatar(avatar.path, avatar.manifest.changed(segments=parts, start_frame=3))
    path = [3, 4, 3, 2, 3, 4, 3, 2, 3, 4]
    networks, jpegs = Networks.open(cut, "onnxruntime"), unpack(cut, tmp_path)
    with mock.patch.object(Painter, "picture", autospec=True, side_effect=Painter.picture) as picture:
        stages(cut, networks, builtin_sound(), 10, tmp_path)
    assert [call.args[1] for call in picture.call_args_list] == path
    with mock.patch.object(cv2, "imread", side_effect=cv2.imread) as imread:
        sequential(cut, builtin_sound(), networks.generator, 10, tmp_path, jpegs, lambda _: None)
    assert [int(Path(call.args[0]).stem) for call in imread.call_args_list] == path


# --- tasks ----------------------------------------------------------------------------------------------------------


def a_task(avatar: Avatar, **more: object) -> Task:
    task = Task("inference", "it", str(avatar.path), str(builtin_sound()), "onnxruntime", "f32", frames=2)
    return replace(task, **more)  # type: ignore[arg-type]


def nothing(done: int, total: int) -> None:
    pass


def test_what_the_machine_cannot_do_is_said(avatar: Avatar) -> None:
    failed = measure(a_task(avatar, runtime="torch"), nothing)
    assert isinstance(failed, Failed)
    assert ".pth" in failed.reason


def test_a_process_that_dies_is_told_with_its_last_words(avatar: Avatar) -> None:
    failed = measure(a_task(avatar, kind="unknown"), nothing)
    assert isinstance(failed, Failed)
    assert "KeyError: 'unknown'" in failed.reason


def test_memory_is_that_of_the_task_and_not_of_its_parent(avatar: Avatar) -> None:
    ballast = np.ones(60_000_000)  # 480 MB
    measured = measure(a_task(avatar), nothing)
    assert isinstance(measured, Measured)
    assert measured.memory_mb is not None
    assert measured.memory_mb < 400
    assert ballast.nbytes == 480_000_000


def test_an_interrupt_ends_the_measured_process(avatar: Avatar) -> None:
    def interrupt(done: int, total: int) -> None:
        raise KeyboardInterrupt

    began = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        measure(a_task(avatar, frames=10**7), interrupt)
    assert time.monotonic() - began < 60
    own = subprocess.run(["ps", "--ppid", str(os.getpid()), "-o", "args"], capture_output=True, text=True, check=False)
    assert "lipwright.bench.worker" not in own.stdout


def test_the_plan_of_a_whole_bench(avatar: Avatar) -> None:
    every = [ONNX, Way("openvino", "f32"), Way("openvino", "bf16")]
    planned = tasks(avatar, Plan(every, alone=7), a_task(avatar, frames=25))
    labels = [(task.kind, task.label, task.frames, task.isa) for task in planned]
    assert labels[:3] == [("inference", str(way), 7, "") for way in every]
    assert ("render", "openvino/bf16", 25, "") in labels
    assert ("baseline", "baseline: sequential, onnxruntime/f32", 25, "") in labels
    common = [task for task in planned if task.isa]
    assert {task.kind for task in common} in ({"inference", "render"}, set())
    assert all(task.precision == "f32" for task in common)


def test_cards_are_measured_with_many_frames_a_call(avatar: Avatar) -> None:
    cards = [Way("torch:cuda", "f16"), Way("onnxruntime:tensorrt", "f16")]
    planned = tasks(avatar, Plan([ONNX, *cards]), a_task(avatar))
    alone = {(task.label, task.batch) for task in planned if task.kind == "inference"}
    together = {(f"{way}, {BATCH} frames a call", BATCH) for way in cards}
    assert alone == {(str(way), 1) for way in (ONNX, *cards)} | together


def test_times_of_a_batch_are_those_of_its_frames(avatar: Avatar) -> None:
    one, many = (measure(a_task(avatar, batch=batch, frames=10), nothing) for batch in (1, 20))
    assert isinstance(one, Measured)
    assert isinstance(many, Measured)
    assert many.median_ms < 8 * one.median_ms, "the whole call would take 20 times as long"


def test_without_ways_growth_alone_is_measured(avatar: Avatar) -> None:
    assert tasks(avatar, Plan([], growth=("jobs",)), a_task(avatar)) == []


def test_what_is_done_is_kept_when_it_is_stopped(avatar: Avatar) -> None:
    kept: list[tuple[int, list[str]]] = []

    def interrupt(step: Progress) -> None:
        if step.step.startswith("2 of 3"):
            raise KeyboardInterrupt

    def keep(found: Bench) -> None:
        kept.append((len(found.everything), found.remarks()))

    with pytest.raises(KeyboardInterrupt):
        bench(avatar, Plan([], seconds=0.2, warm_up=1, growth=("jobs",), jobs=(1, 2, 3)), interrupt, keep)
    ((count, remarks),) = kept
    assert count == 1
    assert "stopped after 1 of 3 measurements" in remarks


def test_the_time_that_is_left_follows_what_was_done(avatar: Avatar) -> None:
    now = [0.0]
    costs = [cost(a_task(avatar, frames=frames)) for frames in (1000, 1000, 2000)]
    assert costs[0] == costs[1] < costs[2] < 2 * costs[0] + 1
    assert cost(a_task(avatar, frames=1000), pixels=2) > costs[0]
    schedule = Schedule([200, 200, 400], lambda: now[0])
    assert schedule.words(0, 0.0) == "1 of 3"
    now[0] = 60.0
    assert schedule.words(1, 0.0) == "2 of 3, about 3 min left"
    now[0] = 210.0
    assert schedule.words(2, 0.75) == "3 of 3, about 30 s left"


def test_a_machines_bench_includes_full_hd(avatar: Avatar, monkeypatch: pytest.MonkeyPatch) -> None:
    planned: list[Task] = []

    def noted(task: Task, look: object) -> Failed:
        planned.append(task)
        return Failed(task.label, task.kind, "not today")

    monkeypatch.setattr(walk, "measure", noted)
    bench(avatar, Plan(seconds=0.2))
    (larger,) = [task for task in planned if task.size]
    assert (larger.kind, larger.runtime, larger.label) == ("render", "auto", "auto, 1440 x 1080")
    assert Path(larger.avatar).name == "1080p.avatar"


def test_torch_is_a_baseline_where_there_are_weights(avatar: Avatar, tmp_path: Path) -> None:
    (tmp_path / "weights.pth").write_bytes(b"not looked at here")
    with_weights = avatar.save(
        tmp_path / "w.avatar",
        manifest=avatar.manifest.changed(
            models=avatar.manifest.models.model_copy(
                update={"generator_weights": ModelRecord(file="checkpoint/best_trainloss.pth", licence="x", origin="y")}
            )
        ),
        contents={"checkpoint/best_trainloss.pth": tmp_path / "weights.pth"},
    )
    planned = tasks(with_weights, Plan([ONNX]), a_task(avatar))
    assert [task.runtime for task in planned if task.kind == "baseline"] == ["onnxruntime", "torch"]


# --- what growth is measured on -------------------------------------------------------------------------------------


def test_a_longer_sound_repeats_the_short_one(tmp_path: Path) -> None:
    longer = lasting(builtin_sound(), 31.0, tmp_path / "long.wav")
    with SoundReader(longer) as reader, SoundReader(builtin_sound()) as once:
        samples, short = np.concatenate(list(reader)), np.concatenate(list(once))
    assert len(samples) == 31 * 16_000
    assert np.abs(samples[len(short) : 2 * len(short)] - short).max() < 1e-4


def test_an_avatar_in_another_size(avatar: Avatar, tmp_path: Path) -> None:
    larger = resized(avatar, 720, tmp_path)
    sizes = larger.manifest.sizes
    assert (sizes.width, sizes.height, sizes.frames) == (960, 720, 12)
    assert larger.verify() == []
    assert np.abs(larger.rects - 3 * avatar.rects).max() <= 1


# --- figures, tables, charts ----------------------------------------------------------------------------------------


def test_percentiles_and_speed() -> None:
    pace = Pace.of([0.001 * k for k in range(1, 101)])
    assert (pace.median_ms, pace.p95_ms, pace.p99_ms) == pytest.approx((50.5, 95.05, 99.01))
    assert pace.fps == pytest.approx(100 / 5.05)
    assert Pace.of([0.01] * 10, whole=2.0).fps == pytest.approx(5)


def a_result(label: str, fps: float, kind: str = "render") -> Measured:
    return Measured(label, kind, "detail", 1.0, 2.0, 1000 / fps, 50, 60, fps, 300, None, 10, 2, {})  # type: ignore[arg-type]


def test_ratios_are_to_the_faster_baseline_and_empty_columns_go() -> None:
    results = [a_result("ours", 30), a_result("torch", 2, "baseline"), a_result("onnx", 10, "baseline")]
    (table,) = tables(Bench("x", stamp(), None, list(results)))
    assert table.head == ["end to end", "first frame", "median", "p95", "p99", "fps", "memory", "against the baseline"]
    assert [row[-1] for row in table.rows] == ["3.00 x", "0.20 x", "1.00 x"]
    larger = replace(a_result("larger", 20), size="1920 x 1080")
    other = Bench("x", stamp(), None, [*results, larger])
    assert [row[-1] for row in tables(other)[0].rows] == ["3.00 x", "", "0.20 x", "1.00 x"]
    assert as_data(other)["times_the_baseline"] == {"ours": 3.0}  # type: ignore[index]


def test_a_busy_machine_and_failures_are_remarked() -> None:
    failed = Failed("torch/f32", "render", "not installed")
    machine = replace(stamp(), cores=2)
    remarks = Bench(
        "x", machine, 1.9, [failed], [Curve("jobs", [("1", 1.0, replace(failed, label="1 job"))])]
    ).remarks()
    assert remarks == [
        "the machine was busy before the start (load 1.9 on 2 cores)",
        "torch/f32 (render): not installed",
        "1 job (render): not installed",
    ]
    assert Bench("x", machine, 0.1).remarks() == []
    assert "not installed" in markdown(Bench("x", machine, None, [failed]))
    assert json.dumps(as_data(Bench("x", machine, None, [a_result("a", 1)])), allow_nan=False)


def test_bars_are_as_long_as_their_values() -> None:
    bars = Bars("speed", ["a", "b"], [Series("x", [10, 20]), Series("y", [30, 0])], mark=25)
    svg, png = draw("title <&>", [bars, Lines("memory", ["1", "2"], [5, 10])], ["note"])
    root = ElementTree.fromstring(svg)
    boxes = [e for e in root.iter("{http://www.w3.org/2000/svg}rect") if e.get("height") == "17.0"]
    widths = [float(box.get("width", 0)) for box in boxes]
    assert widths == pytest.approx([w * widths[0] / 10 for w in (10, 30, 20, 0)], abs=0.2)
    picture = cv2.imdecode(np.frombuffer(png, np.uint8), cv2.IMREAD_COLOR)
    assert picture is not None
    assert picture.shape[1] == 1920
    blue = (picture == (178, 114, 0)).all(axis=2)
    assert abs(int(blue.sum(axis=1).max()) - round(2 * widths[2])) < 5


# --- the command ----------------------------------------------------------------------------------------------------


def test_the_command_prints_tables(
    avatar: Avatar, found: Bench, tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    plans: list[Plan] = []

    def measured_before(_avatar: Avatar, plan: Plan, look: Look, keep: walk.Keep) -> Bench:
        plans.append(plan)
        look(Progress("inference: it", 1, 2))
        keep(found)
        assert (tmp_path / "bench" / "bench.json").is_file()
        return found

    monkeypatch.setattr(bench_room, "bench", measured_before)
    options = ["--runtime", "onnxruntime/f32", "--seconds", "0.2", "--frames", "2", "--warm-up", "1"]
    with pytest.raises(SystemExit) as leaving:
        cli.main(["bench", str(avatar.path), "-o", str(tmp_path / "bench"), *options])
    assert not leaving.value.code
    assert plans == [Plan([ONNX], None, 0.2, 2, 1)]
    out = capfd.readouterr().out
    assert "against the baseline" in out
    assert "1.00 x" in out
    assert (tmp_path / "bench" / "bench.md").is_file()


@pytest.mark.parametrize(
    ("wanted", "growth"), [("all", GROWTH), ("sizes, jobs", ("jobs", "sizes")), ("lengths", ("lengths",))]
)
def test_growth_by_name(
    wanted: str, growth: tuple[str, ...], avatar: Avatar, found: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plans: list[Plan] = []

    def measured_before(_avatar: Avatar, plan: Plan, _look: Look, _keep: walk.Keep) -> Bench:
        plans.append(plan)
        return found

    monkeypatch.setattr(bench_room, "bench", measured_before)
    for runtime in ([], ["--runtime", "onnxruntime/f32"]):
        with pytest.raises(SystemExit) as leaving:
            cli.main(["bench", str(avatar.path), "-o", str(tmp_path / "bench"), "--scaling", wanted, *runtime])
        assert not leaving.value.code
    assert [(plan.ways, plan.growth) for plan in plans] == [([], growth), ([ONNX], growth)]


def test_unknown_growth_is_wrong_usage(avatar: Avatar, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as leaving:
        cli.main(["bench", str(avatar.path), "--scaling", "jobs,cores"])
    assert leaving.value.code == 2
    assert "cores" in capfd.readouterr().err


def test_the_worker_loads_no_library_of_networks_before_its_task() -> None:
    code = "import sys, lipwright.bench.worker; print(*{name.split('.')[0] for name in sys.modules})"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert not {"torch", "openvino", "onnxruntime"} & set(done.stdout.split())
