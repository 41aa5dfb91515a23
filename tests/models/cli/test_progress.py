"""What a run says while it works: lines in a file, where it goes on, how far it came."""

import io
import os
import re
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.models.cli.test_signals import interrupted
from tests.models.conftest import SMALL, Outcome, Thanos
from thanos_torch import parse_pattern
from thanos_torch.cli import progress
from thanos_torch.cli import prune as prune_command
from thanos_torch.models import RunState
from thanos_torch.pruning.cost import PlannedLayer
from thanos_torch.pruning.forecast import Forecast
from thanos_torch.pruning.plan import LayerOptions
from verification import certify

BLOCK = re.compile(r"block (\d) of 3: 7 layers, \d+\.\d s, \d+:\d\d left")


@pytest.fixture
def run(thanos: Thanos, dense: Path, tmp_path: Path) -> Callable[..., Outcome]:
    """`thanos prune` to `out`, in a folder of its own."""
    return lambda *more: thanos("prune", dense, "--pattern", "2:4", "--out", "out", *SMALL, *more)


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def blocks_told(lines: list[str]) -> list[str]:
    return [found[1] for line in lines if (found := BLOCK.fullmatch(line))]


def test_a_file_gets_a_line_a_block_and_the_output_the_result(run: Callable[..., Outcome]) -> None:
    done = run()
    assert done.status == 0
    lines = done.err.splitlines()
    assert blocks_told(lines) == ["1", "2", "3"]
    assert len(lines) == 3
    assert "block 1" not in done.out


@pytest.fixture
def in_third_block(monkeypatch: pytest.MonkeyPatch) -> Callable[[signal.Signals], None]:
    """Call it with a signal, which then ends the next run in its third block."""

    def arm(number: signal.Signals) -> None:
        if signal.getsignal(number) is signal.SIG_IGN:  # as a shell has SIGINT in the background
            monkeypatch.setattr(signal, "getsignal", lambda _: signal.SIG_DFL)
        calls: list[None] = []

        def judge(*args: Any, **options: Any) -> Any:
            calls.append(None)
            if len(calls) == 15:
                os.kill(os.getpid(), number)
            return certify(*args, **options)

        monkeypatch.setattr(prune_command, "certify", judge)

    return arm


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_an_interrupt_says_how_far_it_came_and_a_resume_where_it_goes_on(
    run: Callable[..., Outcome],
    in_third_block: Callable[[signal.Signals], None],
    number: signal.Signals,
) -> None:
    in_third_block(number)
    ended = run()
    assert ended.status == 128 + number
    assert ended.err.splitlines()[2:] == [
        f"thanos: ended by {number.name}",
        "thanos: 2 of 3 blocks are done and kept in out.partial: the same command goes on there",
    ]
    done = run()
    assert done.status == 0
    first, *others = done.err.splitlines()
    assert first == "goes on after block 2 of 3, from out.partial"
    assert blocks_told(others) == ["3"]


def test_an_interrupt_before_the_first_block_is_done(
    run: Callable[..., Outcome], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prune_command, "certify", interrupted(certify))
    said = run().err.splitlines()[-1]
    assert said == "thanos: no block was done: the same command begins with the first"


def test_outputs_that_are_computed_again_are_shown(
    run: Callable[..., Outcome],
    in_third_block: Callable[[signal.Signals], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    states: list[RunState] = []
    shown = progress.PruningProgress._show

    def show(self: progress.PruningProgress, state: RunState) -> None:
        states.append(state)
        shown(self, state)

    in_third_block(signal.SIGTERM)
    assert run("--activations", "memory").status == 128 + signal.SIGTERM
    monkeypatch.setattr(progress.PruningProgress, "_show", show)
    assert run("--activations", "memory").status == 0
    again = [state.note for state in states if "once more" in state.note]
    assert again == [f"block {number} of 3: its outputs once more" for number in (1, 2)]
    assert {state.before for state in states} == {2}
    assert states[-1].left is not None


def test_a_command_that_is_silent_for_long_says_that_it_works(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    printed = io.StringIO()
    monkeypatch.setattr("sys.stderr", printed)
    monkeypatch.setattr(progress, "FIRST", 0.05)
    monkeypatch.setattr(progress, "QUIET", 60.0)
    with progress.progress_bar("packing") as show:
        show("model-1.safetensors", 3, 1234)
        deadline = time.monotonic() + 20
        while not printed.getvalue() and time.monotonic() < deadline:
            time.sleep(0.01)
    said = printed.getvalue()
    assert re.fullmatch(r"packing: 3 of 1,234, model-1.safetensors, at work for 0:00\n", said)


def test_the_clock() -> None:
    assert [progress.clock(each) for each in (0.4, 65, 3599.6, 45296)] == [
        "0:00",
        "1:05",
        "1:00:00",
        "12:34:56",
    ]


def layers() -> list[PlannedLayer]:
    """Two blocks: a small layer, and one that costs far more."""
    choice = LayerOptions(parse_pattern("2:4"))
    shapes = [(64, 64), (2048, 2048)]
    return [
        PlannedLayer(f"{block}.w", shape, block, f"{block}.w", choice, 0)
        for block, shape in enumerate(shapes)
    ]


def test_the_forecast_weighs_blocks_and_learns_the_speed_of_each_stage() -> None:
    forecast = Forecast(layers(), 2, 4096, 512)
    small, large = (forecast.of_block(n, pruned=True, passed_on=True) for n in (0, 1))
    assert forecast.seconds(large, {}, 1.0) is None  # nothing was measured yet
    assert sum(large.values()) > 100 * sum(small.values())
    # The machine takes three times the modelled seconds, but ten times for certificates.
    slower = {stage: (10 if stage == "certificates" else 3) * s for stage, s in small.items()}
    forecast.learn(small, slower)
    expected = 3 * sum(large.values()) + 7 * large["certificates"]
    assert forecast.seconds(large, {}, 0.0) == pytest.approx(expected)
    # What is done of the block at work is not left.
    begun = forecast.of_beginning(1, ["1.w"])
    rest = forecast.seconds(large, begun, 0.0)
    assert rest == pytest.approx(3 * (large["calibration"] / 2 + large["storing"]))


def test_the_forecast_follows_a_change_of_speed() -> None:
    forecast = Forecast(layers(), 2, 4096, 512)
    cost = forecast.of_block(1, pruned=True, passed_on=True)
    for factor in (1.0, *([4.0] * 12)):
        forecast.learn(cost, {stage: factor * part for stage, part in cost.items()})
    # The first block has 1.5 % of the weight of all.
    assert forecast.seconds(cost, {}, 0.0) == pytest.approx(4 * sum(cost.values()), rel=0.02)


def test_within_the_first_block_the_forecast_goes_by_what_is_done() -> None:
    forecast = Forecast(layers(), 2, 4096, 512)
    cost = forecast.of_block(1, pruned=True, passed_on=False)
    begun = forecast.of_beginning(1, [])
    rate = 2.5
    left = forecast.seconds(cost, begun, rate * sum(begun.values()))
    assert left == pytest.approx(rate * (sum(cost.values()) - sum(begun.values())))
