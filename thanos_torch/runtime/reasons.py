"""Reasons of other libraries, for a message of one line."""

MOST = 600  # characters: some libraries list all that they know


def reason_of(error: Exception) -> str:
    """The whole text of an error on one line, cut after MOST characters."""
    text = " ".join(str(error).split())
    if not text or isinstance(error, LookupError):  # whose text is the missing key alone
        text = f"{type(error).__name__} {text}".strip()
    return text if len(text) <= MOST else f"{text[:MOST]}..."
