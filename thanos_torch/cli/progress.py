"""How commands show their progress: bars in a terminal, lines in a file.

Both go to the error stream, so that the standard output holds results alone.
"""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Event, Thread

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from thanos_torch.models import RunState
from thanos_torch.runtime.errors import Terminated
from thanos_torch.runtime.progress import has_progress, work_folder_of
from thanos_torch.runtime.strangers import printable

# Seconds without a line after which one says what is done: the first soon, because a new user
# wonders whether anything happens.
FIRST, QUIET = 10.0, 30.0


def bars(*columns: ProgressColumn) -> Progress:
    """Progress bars with more columns and the field `note`, in a terminal only."""
    errors = Console(stderr=True)
    return Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        *columns,
        TextColumn("{task.fields[note]}", style="dim", markup=False),
        console=errors,
        transient=True,
        disable=not errors.is_terminal,
    )


@contextmanager
def progress_bar(what: str, *, drawn: bool = True) -> Iterator[Callable[[str, int, int], None]]:
    """Show one progress bar; call the yielded function with (note, done, of).

    drawn  False where something else draws a bar in a terminal: then there are lines in a file only
    """
    lines = Lines()
    shown = bars(MofNCompleteColumn(), TimeRemainingColumn())
    in_file, shown.disable = shown.disable, shown.disable or not drawn
    with shown, lines.while_quiet(wanted=in_file):
        task = shown.add_task(what, total=None, note="")

        def show(note: str, done: int, of: int) -> None:
            shown.update(task, completed=done, total=of, note=printable(note))
            lines.state = f"{what}: " + (f"{done:,} of {of:,}, {note}" if of > 1 else note)

        yield show


class PruningProgress:
    """Shows how far a pruning run is, and says what is kept of it if a signal ends it.

    out  the folder of the result
    """

    def __init__(self, out: Path) -> None:
        self._work, self._out = work_folder_of(out), out
        self._state: RunState | None = None

    @contextmanager
    def shown(self) -> Iterator[Callable[[RunState], None]]:
        """Show the states that the yielded function is called with."""
        self._lines = Lines()
        self._bars = bars(MofNCompleteColumn(), _LeftColumn())
        with self._bars, self._lines.while_quiet(wanted=self._bars.disable):
            self._task = self._bars.add_task("pruning", total=None, note="", until=None)
            yield self._show

    @contextmanager
    def saying_what_is_kept(self) -> Iterator[None]:
        """Say how far the run came if a signal ends it."""
        try:
            yield
        except Terminated:
            print(f"thanos: {printable(self._kept())}", file=sys.stderr, flush=True)
            raise

    def _kept(self) -> str:
        state = self._state
        if state and state.blocks:
            done = f"{state.blocks} of {state.of_blocks} blocks are done"
            return f"{done} and kept in {self._work}: the same command goes on there"
        if not state and has_progress(self._out):
            return f"{self._work} is as it was: the same command goes on there"
        return "no block was done: the same command begins with the first"

    def _show(self, state: RunState) -> None:
        first, self._state = self._state is None, state
        until = None if state.left is None else time.monotonic() + state.left
        note = "checking the result" if state.note == "done" else state.note
        self._bars.update(
            self._task,
            completed=state.layers,
            total=state.of_layers,
            note=printable(note),
            until=until,
        )
        left = _words_left(state.left)
        self._lines.state = f"{note}, {state.layers:,} of {state.of_layers:,} layers{left}"
        if first and state.before:
            self._lines.say(
                f"goes on after block {state.before} of {state.of_blocks}, from {self._work}"
            )
        if state.finished is not None and self._bars.disable:
            layers = f"{state.finished:,} layer{'s' * (state.finished != 1)}"
            self._lines.say(f"{state.note}: {layers}, {state.seconds:.1f} s{left}")


def clock(seconds: float) -> str:
    """A time for people: `0:05`, `12:05`, `3:12:05`."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def _words_left(seconds: float | None) -> str:
    return "" if seconds is None else f", {clock(seconds)} left"


class _LeftColumn(ProgressColumn):
    """The time left until the moment in the task's field `until`."""

    def render(self, task: Task) -> Text:
        until = task.fields["until"]
        left = "-:--" if until is None else clock(max(0.0, until - time.monotonic()))
        return Text(left, style="progress.remaining")


class Lines:
    """Lines on the error stream. A thread prints `state` when there was none for some time."""

    def __init__(self) -> None:
        self.state = ""
        self._stream = sys.stderr  # others may redirect it in the meantime
        self._begun = self._last = time.monotonic()
        self._quiet = FIRST

    def say(self, line: str) -> None:
        """Print a line at once, also into a file."""
        self._last, self._quiet = time.monotonic(), QUIET
        print(printable(line), file=self._stream, flush=True)

    @contextmanager
    def while_quiet(self, *, wanted: bool) -> Iterator[None]:
        """Until the context is left, print the state whenever there was no line for some time."""
        ended = Event()
        thread = Thread(target=self._watch, args=(ended,), daemon=True)
        if wanted:
            thread.start()
        try:
            yield
        finally:
            ended.set()
            if wanted:
                thread.join()

    def _watch(self, ended: Event) -> None:
        while not ended.wait(max(0.1, self._last + self._quiet - time.monotonic())):
            if self.state and time.monotonic() - self._last >= self._quiet:
                self.say(f"{self.state}, at work for {clock(time.monotonic() - self._begun)}")
