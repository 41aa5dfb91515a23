"""The exit statuses of all `thanos` commands, and what each means."""

from enum import IntEnum

from thanos_torch.checkpoint import record


class ExitStatus(IntEnum):
    """What a `thanos` command reports to the shell."""

    DONE = 0
    FAILED = 1
    USAGE = 2
    NOT_DECIDABLE = 3
    LESS_THAN_ASKED = 4  # reserved: no command ends with it


MEANINGS = {
    ExitStatus.DONE: "done and verified",
    ExitStatus.FAILED: "failed, or could not be done",
    ExitStatus.USAGE: "bad command line; of verify: nothing was judged",
    ExitStatus.NOT_DECIDABLE: "nothing failed, but a certificate is not decidable",
    ExitStatus.LESS_THAN_ASKED: "less than asked (reserved)",
}

OF_VERDICT = {
    record.PASSED: ExitStatus.DONE,
    record.FAILED: ExitStatus.FAILED,
    record.NOT_DECIDABLE: ExitStatus.NOT_DECIDABLE,
}


def done_if(success: bool) -> ExitStatus:
    """DONE, or FAILED without success."""
    return ExitStatus.DONE if success else ExitStatus.FAILED
