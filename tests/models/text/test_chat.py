"""Columns of documents, and conversations through a chat template."""

import gzip
import json
from pathlib import Path
from typing import Any

import numpy
import pyarrow
import pytest
from pyarrow import parquet

from tests.models import tiny
from tests.models.conftest import SMALL, Thanos
from thanos_torch.models import RECORD, calibration_windows, evaluation_windows
from thanos_torch.text.chat import Chat
from thanos_torch.text.sources import read_text

TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}[{{ message.role }}]{{ message.content }}/"
    "{% endfor %}"
)
STRICT = (
    "{% for message in messages %}{% if message.role not in ('user', 'assistant') %}"
    "{{ raise_exception('Only user and assistant, got ' + message.content) }}{% endif %}"
    "{% if loop.first and message.role != 'user' %}{{ raise_exception('The user begins') }}"
    "{% endif %}{{ message.content }}{% endfor %}"
)
DATED = (
    "{{ strftime_now('%d %b %Y') }}{% for message in messages %}{{ message.content }}{% endfor %}"
)
HELLO = [{"role": "user", "content": "Hello"}, {"role": "assistant", "content": "Hi!"}]
BYE = [{"role": "user", "content": [{"type": "text", "text": "Bye"}]}]
RENDERED = "<bos>[user]Hello/[assistant]Hi!/<bos>[user]Bye/"
SHARED = [{"from": "human", "value": "Hello"}, {"from": "gpt", "value": "Hi!"}]


def tokenizer(chat: str | None = TEMPLATE, **options: Any) -> Any:
    return tiny.byte_tokenizer(bos=True, chat=chat, **options)


def written(folder: Path, name: str, rows: list[Any]) -> str:
    """A file of documents, whose suffix says how."""
    file = folder / name
    if name.endswith(".parquet"):
        parquet.write_table(pyarrow.Table.from_pylist(rows), file)
        return str(file)
    whole = json.dumps(rows) if "list" in name else "\n".join(map(json.dumps, rows))
    file.write_bytes(gzip.compress(whole.encode()) if name.endswith(".gz") else whole.encode())
    return str(file)


KINDS = ["lines.jsonl", "lines.json", "list.json", "rows.parquet", "lines.jsonl.gz"]


@pytest.mark.parametrize("name", KINDS)
def test_the_column_is_named(tmp_path: Path, name: str) -> None:
    rows = [{"id": row, "content": f"text {row}", "text": "other"} for row in range(2)]
    file = written(tmp_path, name, rows)
    found = read_text(file, "evaluation", column="content")
    assert (found.text, found.origin["column"]) == ("text 0\n\ntext 1", "content")
    assert read_text(file, "evaluation").text == "other\n\nother"
    assert read_text(file, "evaluation").origin["column"] == "text"
    windows = calibration_windows(tokenizer(), file, nsamples=1, seqlen=8, seed=0, column="content")
    assert windows.provenance()["column"] == "content"


@pytest.mark.parametrize("name", KINDS)
def test_conversations_go_through_the_template(tmp_path: Path, name: str) -> None:
    rows = [{"messages": HELLO, "id": 1}, {"messages": HELLO[:1], "id": 2}]
    file = written(tmp_path, name, rows)
    found = read_text(file, "evaluation", chat=Chat(tokenizer()))
    assert found.text == "<bos>[user]Hello/[assistant]Hi!/<bos>[user]Hello/"
    assert (found.rows, found.origin["column"]) == (2, "messages")
    assert found.origin["joined_by"] == "nothing"


def test_other_forms_of_messages(tmp_path: Path) -> None:
    rows = [{"conversations": SHARED}, {"conversations": BYE}]
    file = written(tmp_path, "shared.jsonl", rows)
    chat = Chat(tokenizer())
    assert read_text(file, "evaluation", column="conversations", chat=chat).text == RENDERED
    with pytest.raises(
        ValueError, match=r"no column \"messages\", but \['conversations'\]: choose"
    ):
        read_text(file, "evaluation", chat=chat)


@pytest.mark.parametrize("adds", [True, False])
def test_a_template_that_writes_bos_gets_no_second_one(tmp_path: Path, adds: bool) -> None:
    file = written(tmp_path, "chat.jsonl", [{"messages": HELLO}, {"messages": BYE}])
    words = tokenizer(adds=adds)

    def cut(bos: Any) -> list[str]:
        found = evaluation_windows(words, file, seqlen=10, chat=True, bos=bos)
        return [words.decode(window) for window in found.ids]

    whole = "".join(cut(None))
    assert RENDERED.startswith(whole)
    assert "".join(cut("first")) == "".join(cut("none")) == whole
    assert all(window.startswith("<bos>") for window in cut("each"))
    assert not any("<bos><bos>" in window for window in cut("each"))
    plain = tokenizer(TEMPLATE.replace("{{ bos_token }}", ""), adds=adds)
    first = evaluation_windows(plain, file, seqlen=10, chat=True, bos="first")
    assert plain.decode(first.ids[0]) == "<bos>[user]Hel"
    none = evaluation_windows(plain, file, seqlen=10, chat=True)
    assert plain.decode(none.ids[0]) == "[user]Hell"  # as apply_chat_template gives its ids
    record = none.provenance()
    assert len(record["chat_template_sha256"]) == 64
    assert record["chat_template_sha256"] != first.provenance().get("text_sha256")


def test_the_date_of_a_template_does_not_change_the_text(tmp_path: Path) -> None:
    file = written(tmp_path, "chat.jsonl", [{"messages": HELLO}])
    found = read_text(file, "evaluation", chat=Chat(tokenizer(DATED)))
    assert found.text == "26 Jul 2024HelloHi!"
    several = tokenizer()
    several.chat_template = {"tools": TEMPLATE, "rag": TEMPLATE}
    with pytest.raises(ValueError, match=r"chat needs one chat template: .*no default"):
        Chat(several)
    several.chat_template = {"tools": TEMPLATE, "default": "x"}
    assert read_text(file, "evaluation", chat=Chat(several)).text == "x"


SECRET = "SECRET words"
MALFORMED: list[tuple[Any, str]] = [
    (SECRET, "messages must be a list of messages, got a string"),
    (None, "messages must be a list of messages, got null"),
    ([], "messages must be a list of messages, got an empty list"),
    ({"role": "user", "content": SECRET}, "must be a list of messages, got an object"),
    ([SECRET], r'message 1 must be {"role": ..., "content": ...}, got a string'),
    ([HELLO[0], {"role": "user"}], r"message 2 must be .*, got the keys \['role'\]"),
    ([{"content": SECRET}], r"message 1 must be .*, got the keys \['content'\]"),
    ([{"role": 1, "content": SECRET}], "message 1 must have a string as its role, got a number"),
    ([{"role": "", "content": SECRET}], "must have a string as its role, got an empty one"),
    ([{"role": "user", "content": None}], "message 1, content must be a string, got null"),
    ([{"role": "user", "content": [{"type": "image", "url": SECRET}]}], "parts that are all text"),
    ([{"role": "user", "content": [SECRET]}], "a string, or a list of parts that are all text"),
    ([{"from": "human", "value": 3}], "message 1, value must be a string, got a number"),
    ([{"role": "assistant", "content": SECRET}], "chat template: The user begins$"),
    (
        [{"role": "tool", "content": SECRET * 99}],
        "does not fit the model's chat template: TemplateError$",
    ),
]


@pytest.mark.parametrize(("value", "message"), MALFORMED, ids=range(len(MALFORMED)))
@pytest.mark.parametrize("name", ["lines.jsonl", "list.json"])
def test_malformed_conversations(tmp_path: Path, name: str, value: Any, message: str) -> None:
    file = written(tmp_path, name, [{"messages": HELLO}, {"messages": value}])
    where = "document 2" if "list" in name else "line 2"
    with pytest.raises(ValueError, match=f"dataset .*{name}, {where}.*{message}") as caught:
        read_text(file, "evaluation", chat=Chat(tokenizer(STRICT)))
    assert "SECRET" not in str(caught.value)


def test_malformed_rows_of_tables(tmp_path: Path) -> None:
    file = written(tmp_path, "rows.parquet", [{"messages": HELLO}, {"messages": None}])
    with pytest.raises(ValueError, match="row 2, messages must be a list of messages, got null"):
        read_text(file, "evaluation", chat=Chat(tokenizer()))


def test_no_template(tmp_path: Path) -> None:
    file = written(tmp_path, "chat.jsonl", [{"messages": HELLO}])
    with pytest.raises(ValueError, match="chat needs a chat template, and the model's tokenizer"):
        evaluation_windows(tokenizer(None), file, seqlen=8, chat=True)


COLUMNS: list[tuple[Any, str, str]] = [
    (
        {"messages": HELLO},
        "text",
        r'line 1 has no column "text", but \[\'messages\'\]: .*--column; .*--chat$',
    ),
    ({"text": HELLO}, "text", "must have a string as its text, got a list of objects: .*--chat"),
    ({"text": [SECRET]}, "text", "must have a string as its text, got a list$"),
    ({"body": None}, "body", "line 1 must have a string as its body, got null"),
    ({"text": SECRET}, "", r'line 1 has no column "", but'),
]


@pytest.mark.parametrize(("row", "column", "message"), COLUMNS, ids=range(len(COLUMNS)))
def test_columns_that_hold_no_text(tmp_path: Path, row: Any, column: str, message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        read_text(written(tmp_path, "rows.jsonl", [row]), "evaluation", column=column)
    assert "SECRET" not in str(caught.value)


@pytest.mark.parametrize("name", ["pydoc", "plain.txt", "wiki.raw", "plain.txt.gz", "ids.npy"])
def test_what_has_no_columns(tmp_path: Path, name: str) -> None:
    file = tmp_path / name
    if name == "ids.npy":
        numpy.save(file, numpy.arange(40))
    elif name != "pydoc":
        file.write_bytes(gzip.compress(b"text") if name.endswith(".gz") else b"text")
    dataset = name if name == "pydoc" else str(file)
    for options in ({"column": "text"}, {"chat": True}):
        (asked,) = options
        with pytest.raises(ValueError, match=rf"{asked} is for .*{name}"):
            evaluation_windows(tokenizer(), dataset, seqlen=8, **options)


MISSING = [
    *("/nonexist", "./x.txt", "data/x.jsonl", "~/x", "../x", "a/b/c", "x.TXT", "x.npy", "data/"),
    *("data/x.parquet", "x.json.gz", "data/x.csv", "a\\b\\c"),
]


@pytest.mark.parametrize("name", MISSING)
def test_files_that_are_not_there(name: str) -> None:
    with pytest.raises(ValueError, match=r"^dataset .*: there is no such file or folder") as caught:
        evaluation_windows(tokenizer(), name, seqlen=8)
    assert name in str(caught.value)


@pytest.mark.parametrize("name", ["", "wikitext", "a b/c", "owner/name:", "owner/name:a:b"])
def test_names_that_nothing_has(name: str) -> None:
    with pytest.raises(
        ValueError, match="dataset must be pydoc, wikitext2, c4, a file, a folder, or"
    ):
        evaluation_windows(tokenizer(), name, seqlen=8)


def test_by_command(thanos: Thanos, tmp_path: Path) -> None:
    model = tmp_path / "model"
    tiny.random_model(tiny.llama_config(vocab_size=tiny.WORDS + 8)).save_pretrained(model)
    tokenizer().save_pretrained(model)
    rows = [{"messages": HELLO, "body": "Some text that is long enough."}] * 20
    file = written(tmp_path, "chat.jsonl", rows)
    small = (*SMALL[:-1], file)
    out = tmp_path / "out"
    done = thanos("prune", model, "--pattern", "2:4", "--out", out, *small, "--chat")
    assert done.status == 0, done.err
    record = json.loads((out / RECORD).read_text())
    assert record["settings"]["chat"] is True
    assert record["text"]["column"] == "messages"
    assert record["text"]["bos"] == "tokenizer"
    assert "--seed 0 --chat" in (out / "README.md").read_text()
    again = thanos("prune", model, "--pattern", "2:4", "--out", out, *small, "--chat")
    assert "holds the result of this very run already" in again.out
    short = ("--dataset", file, "--seqlen", 32, "--json", tmp_path / "result.json")
    done = thanos("eval", out, *short, "--column", "body")
    assert done.status == 0, done.err
    assert json.loads((tmp_path / "result.json").read_text())["text"]["column"] == "body"
    refused = thanos("eval", out, "--dataset", "/nonexist")
    assert refused.err == "thanos: dataset /nonexist: there is no such file or folder"
    refused = thanos(
        "prune", model, "--pattern", "2:4", "--out", tmp_path / "no", "--dataset", "./x"
    )
    assert refused.err == "thanos: dataset ./x: there is no such file or folder"
