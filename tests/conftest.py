"""What every test runs under: no log record of level ERROR, no silent skip in CI, development data only by fixture."""

from __future__ import annotations

import logging
import os
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest

from command import Command, Outcome

DEV_DATA = "LIPWRIGHT_DEV_DATA"
#: The one reason for which a test may be skipped when CI=true.
NO_DEV_DATA = f"{DEV_DATA} is not set"


def pytest_configure() -> None:
    """Give each of several processes side by side its own cores: what it runs sees a machine of so many and no more."""
    worker = os.environ.get("PYTEST_XDIST_WORKER")
    if worker and hasattr(os, "sched_setaffinity"):
        cores, workers = sorted(os.sched_getaffinity(0)), int(os.environ["PYTEST_XDIST_WORKER_COUNT"])
        os.sched_setaffinity(0, cores[int(worker.removeprefix("gw")) % len(cores) :: workers])


@pytest.fixture(scope="session")
def dev_data() -> Path:
    """The folder with the development recordings; skips the test where there is none."""
    folder = os.environ.get(DEV_DATA)
    if not folder:
        pytest.skip(NO_DEV_DATA)
    path = Path(folder)
    assert path.is_dir(), f"{DEV_DATA}={folder} is no folder"
    return path


@pytest.fixture(scope="session")
def golden(dev_data: Path) -> Path:
    """The folder with values made by the family's own code, beside the development recordings."""
    return dev_data.parent / "golden"


@pytest.fixture(autouse=True, scope="session")
def own_configuration(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keys to sign with are made in a folder of the tests' own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CONFIG_HOME", str(tmp_path_factory.mktemp("config")))
        yield


@pytest.fixture
def lipwright(capfd: pytest.CaptureFixture[str]) -> Command:
    """Run the command in this process."""
    from lipwright import cli

    def run(*args: str | Path) -> Outcome:
        with pytest.raises(SystemExit) as leaving:
            cli.main([str(arg) for arg in args])
        captured = capfd.readouterr()
        return Outcome(int(leaving.value.code or 0), captured.out, captured.err)

    return run


@pytest.fixture(autouse=True)
def no_error_log(request: pytest.FixtureRequest, caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """Fail a test in which anything logged at level ERROR, unless it says that it provokes that."""
    yield
    if request.node.get_closest_marker("allow_error_log") is None:
        records = caplog.get_records("setup") + caplog.get_records("call")
        errors = [f"{r.name}: {r.getMessage()}" for r in records if r.levelno >= logging.ERROR]
        assert not errors, f"logged at level ERROR: {errors}"


def forbid_skip(report: pytest.TestReport | pytest.CollectReport) -> None:
    """With CI=true turn a skip into a failure, unless it is for want of the development recordings."""
    forbidden = os.environ.get("CI") == "true" and report.skipped and not hasattr(report, "wasxfail")
    if forbidden and NO_DEV_DATA not in str(report.longrepr):
        report.outcome = "failed"
        report.longrepr = f"skipped, and CI allows no skip but for {DEV_DATA}: {report.longrepr}"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    forbid_skip(report)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    report = yield
    forbid_skip(report)
    return report
