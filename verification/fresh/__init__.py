"""Cases that every run of the judge draws anew, so that a table of answers passes none of them.

The vectors are public, and so are their answers. A seed decides everything: it is printed with each
report, and repeats it.
"""

from verification.fresh.cases import fresh_case, fresh_cases, fresh_ids, possible_ids

__all__ = ["fresh_case", "fresh_cases", "fresh_ids", "possible_ids"]
