"""Every command of every page would be taken by its program, and is run by a test, or stands here with a reason."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from pages import PAGES_WITH_COMMANDS, ROOT, ShellLine, fault, lines_of

#: What a page tells to call, outside of blocks that run as they stand, and the test that runs it.
RUN_BY = {
    "lipwright demo": "test_cli.py::test_the_second_one_speaks_in_a_voice_of_her_own",
    "lipwright check": "test_docs_walks.py::test_the_page_of_vectors",
    "lipwright vectors": "test_docs_walks.py::test_the_page_of_vectors",
    "lipwright bench": "test_docs_walks.py::test_the_commands_of_the_page_of_performance",
    "lipwright prepare": "test_docs_walks.py::test_the_page_of_create",
    "lipwright train": "test_docs_walks.py::test_the_page_of_create",
    "lipwright create": "test_docs_walks.py::test_the_page_of_create",
    "lipwright export": "test_cli.py::test_export_writes_parity_into_the_avatar",
    "lipwright.training": "test_docs_walks.py::test_the_page_of_create",
    "tools.hearing": "test_train.py::test_ears_are_told_side_by_side",
    "tools.seam": "test_docs_walks.py::test_the_page_of_create",
    "lipwright serve": "test_docs_walks.py::test_the_page_of_serving",
    "tools.make_demo_sound": "test_speech_tools.py::test_the_sentences_of_the_demo_are_read_aloud_again",
    "tools.presenter.train": "test_presenter_build.py::"
    "test_a_presenter_is_trained_once_and_his_lips_move_as_far_as_was_asked",
    "tools.presenter.measure": "test_presenter_score.py::test_the_command_measures_both_tasks_beside_their_baselines",
    "tools.presenter.pack": "test_presenter_build.py::test_a_film_is_packed_as_the_shipped_encoder_hears_it",
    "tools.presenter.build": "test_presenter_build.py::test_a_second_presenter_shares_the_first_ones_encoder",
    "tools.presenter.renew_ear": "test_presenter_ear.py::test_generators_stay_and_the_avatar_is_bound_to_a_new_ear",
    "tools.sheet": "test_docs_walks.py::test_the_sheet_of_the_demo",
    "grpc_tools.protoc": "test_serve_grpc.py::test_the_generated_code_is_that_of_the_proto",
}
#: What no test runs as it stands; its options are checked all the same.
NOT_RUN = {
    "git": "fetches the repository",
    "cd": "the shell's own",
    "cp": "the shell's own",
    "export": "the shell's own",
    "source": "the shell's own",
    "apt": "the system's packages; .ci/run installs them",
    "docker": "needs Docker; test_deploy.py looks at what it is given",
    "systemctl": "needs systemd; test_deploy.py looks at the unit",
    "curl": "test_serve_http.py sends the same request",
    "your-program": "the reader's own",
    "pip": "installs; `make wheel` does it with every extra",
    "pytest": "runs tests; that its files are there is checked",
    "make demo": "the first step of .ci/run",
    "make test": "runs the tests",
    "make test-slow": "runs the slow ones",
    "make lint": "a step of .ci/run",
    "make types": "a step of .ci/run",
    "make format": "changes the checkout",
    "make bench": "minutes of a whole idle machine",
    "make bundle": "minutes; test_bundle.py has its parts",
    "make wheel": "minutes, and gigabytes that pip fetches",
    "tools.bundle": "minutes; test_bundle.py has its parts",
    "tools.refresh_models": "writes into the checkout; `lipwright export` does the same for one avatar",
    "tools.load": "an hour of load; test_load.py has its parts",
    "tools.gpu_bench": "needs a graphics card; test_gpu_bench.py has its parts",
    "tools.signing_cost": "wants an idle machine; a slow test of test_credentials.py has its parts",
    "tools.film_score": "needs films of people; test_prepare_films.py has its parts",
    "tools.film_thresholds": "needs films of people; test_prepare.py has its parts",
    "tools.speech.make_corpus": "hours; test_speech_tools.py has its parts",
    "tools.speech.pack_speech": "needs a corpus of hours; test_speech_training.py has its parts",
    "tools.speech.train_encoder": "needs a corpus of hours; test_speech_training.py has its parts",
    "tools.speech.measure": "needs a corpus of hours; test_speech_measure.py has its parts",
    "tools.presenter.convert_head": "needs the head, a download; test_presenter_render.py has its parts",
    "tools.presenter.make_script": "needs the head; test_presenter_render.py has its parts",
    "tools.presenter.render": "hours, and the head; test_presenter_render.py has its parts",
    "tools.presenter.clip": "needs the pictures of hours; test_presenter_render.py has its parts",
    "tools.presenter.grain": "needs the presenter's films; test_presenter_measure.py has its parts",
    "tools.presenter.lips": "needs recordings of people; test_presenter.py has its parts",
    "tools.presenter.make_people": "hours, and the head; test_base_generator.py has its parts",
    "tools.presenter.film_people": "hours, and the head; test_base_generator.py has its parts",
    "tools.presenter.train_base": "hours of a graphics card; test_base_generator.py has its parts",
    "tools.presenter.compare_base": "hours of a graphics card; test_base_generator.py has its parts",
}

LINES = [line for page in PAGES_WITH_COMMANDS for line in lines_of(page)]


@pytest.mark.parametrize("page", PAGES_WITH_COMMANDS, ids=lambda page: page.name)
def test_every_command_of_a_page_would_be_taken(page: Path) -> None:
    assert [found for line in lines_of(page) if (found := fault(line))] == []


def test_every_command_of_the_pages_is_run_or_excused() -> None:
    run = {line.action for line in LINES if line.runs}
    told = {line.action for line in LINES} - run
    assert sorted(told - set(RUN_BY) - set(NOT_RUN)) == [], "run it in a test, or say in NOT_RUN why not"
    assert not set(RUN_BY) & set(NOT_RUN)


def test_the_tests_that_run_commands_are_there() -> None:
    """And those that the reasons name."""
    named = {name for reason in NOT_RUN.values() for name in re.findall(r"test_\w+\.py", reason)}
    assert [name for name in sorted(named) if not (ROOT / "tests" / name).is_file()] == []
    for test in RUN_BY.values():
        file, _, name = test.partition("::")
        tree = ast.parse((ROOT / "tests" / file).read_text(encoding="utf-8"))
        assert not name or name in {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}, test


def test_pages_that_are_a_reference_show_commands_that_run() -> None:
    for name in ("avatar-format", "create", "performance", "protocol", "vectors", "serving", "credentials", "contract"):
        page = ROOT / "docs" / f"{name}.md"
        actions = {line.action for line in lines_of(page)}
        runs = "<!-- test -->" in page.read_text(encoding="utf-8")
        assert runs or actions & set(RUN_BY), f"{page.name} shows nothing that a test runs"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("```bash\nlipwright render x.wav --oout y.mp4\n```", "No such option: --oout"),
        ("```\nlipwright rendr x.wav\n```", "there is no command rendr"),
        ("    lipwright render x.wav -o y.mp4 --frames none\n", "a valid integer"),
        ("```bash\nlipwright render x.wav\n```", "Missing option '-o'"),
        ("Say `lipwright consent --nobody`.", "No such option: --nobody"),
        ("```bash\nlipwright render x.wav \\\n    -o y.mp4 --colour\n```", "No such option: --colour"),
        ("`make dema`", "there is no target dema"),
        ("    python -m tools.seam --frame_count 3", "unrecognized arguments: --frame_count"),
        ("    python -m tools.seem me.avatar", "there is no module tools.seem"),
        ("    python -m lipwright.training pack.npz", "required: run"),
        ("    PYTHONPATH=src python -m tools.speech.pack_speech mell C s.npz", "invalid choice: 'mell'"),
        ("`pip install 'lipwright[sing]'`", "there is no extra ['sing']"),
        ("`pytest -m slow tests/test_nothing.py`", "there is no tests/test_nothing.py"),
    ],
)
def test_what_would_be_refused_is_found(text: str, said: str, tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(f"# Page\n\n{text}\n")
    (line,) = lines_of(page)
    assert said in str(fault(line))


def test_what_is_no_command_is_left_alone(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("`lipwright.contract` holds it.\n\n```\n7 cli   one\n```\n\n```python\nmake = 3\n```\n")
    assert list(lines_of(page)) == []


def test_an_unknown_program_in_a_block_of_the_shell_is_told(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("```bash\nsing --loud  # at night\n```\n")
    assert [line.action for line in lines_of(page)] == ["sing"]
    assert [line.words for line in lines_of(page)] == [ShellLine("page.md", ("sing", "--loud")).words]
