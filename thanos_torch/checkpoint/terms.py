"""Terms of use that a user has to accept before a model is downloaded, and whether that was done.

What was accepted is noted in the cache folder, once for all models under the same terms.
"""

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from textwrap import fill
from typing import TypedDict

from thanos_torch.runtime.downloads import cache_folder
from thanos_torch.runtime.files import write_json
from thanos_torch.runtime.strangers import read_json

WIDTH = 80  # columns of what is shown


@dataclass(frozen=True)
class Terms:
    """Terms of use of a family of models.

    key      a short name, of which options and files are named
    title    as their author calls them
    author   who sets them
    address  where to read them
    version  the version that is meant, as the page of the terms names it
    policy   where to read what they prohibit
    notice   what a text file named NOTICE beside passed-on weights has to say
    duties   what they demand of whoever passes on a pruned model, in one sentence
    """

    key: str
    title: str
    author: str
    address: str
    version: str
    policy: str
    notice: str
    duties: str

    @property
    def option(self) -> str:
        """The command-line option that accepts them."""
        return f"--accept-{self.key}-terms"


GEMMA = Terms(
    key="gemma",
    title="Gemma Terms of Use",
    author="Google",
    address="https://ai.google.dev/gemma/terms",
    version="last modified March 24, 2025",
    policy="https://ai.google.dev/gemma/prohibited_use_policy",
    # Section 3.1 (4) of the terms, word for word.
    notice=(
        "Gemma is provided under and subject to the Gemma Terms of Use found at "
        "ai.google.dev/gemma/terms"
    ),
    duties=(
        "whoever passes it on must say that the files were modified, add a copy of these terms, "
        "and bind those who get it to the use restrictions"
    ),
)
# By the licence that a model's card names, spelt as model hubs do.
TERMS = {"gemma": GEMMA}


class _Acceptance(TypedDict):
    terms: str
    version: str
    accepted: str  # when


class TermsError(ValueError):
    """A model is under terms of use that nobody has accepted on this machine.

    Its text is one line; `explained` has all that a user needs to decide.
    """

    def __init__(self, model: str, terms: Terms, origin: str) -> None:
        """`origin` says where the weights come from, in a sentence or two."""
        super().__init__(
            f"{model} is under the {terms.title}, {terms.address}: read them, and if you accept "
            f"them say {terms.option} once, or call accept_terms({model!r})"
        )
        self.model, self.terms, self.origin = model, terms, origin

    def explained(self) -> str:
        """What the terms are, where to read them, what is downloaded, and how to accept."""
        terms = self.terms
        paragraphs = (
            f"{self.model} is under the {terms.title} of {terms.author}, {terms.version}. They "
            "bind everyone who uses the model, wherever it comes from. They cover a pruned model "
            f"too: {terms.duties}.",
            f"Read the terms: {terms.address}",
            f"What they prohibit: {terms.policy}",
            self.origin,
            f"If you accept the terms, say so once: {terms.option}",
            f"or in Python: accept_terms({self.model!r})",
        )
        return "\n".join(fill(each, WIDTH, break_on_hyphens=False) for each in paragraphs)


def is_accepted(terms: Terms) -> bool:
    """Whether a user of the cache folder has accepted this version of the terms."""
    try:
        noted = read_json(_note(terms), _Acceptance)
    except ValueError:  # nothing is noted, or the file is damaged
        return False
    return (noted["terms"], noted["version"]) == (terms.title, terms.version)


def note_acceptance(terms: Terms) -> None:
    """Note in the cache folder that the user accepts the terms, and when; once is enough."""
    if is_accepted(terms):
        return
    _note(terms).parent.mkdir(parents=True, exist_ok=True)
    now = datetime.now(UTC).isoformat(timespec="seconds")
    note = {"terms": terms.title, "version": terms.version, "address": terms.address}
    write_json(_note(terms), {**note, "accepted": now})


def _note(terms: Terms) -> Path:
    return cache_folder() / f"{terms.key}-terms-accepted.json"
