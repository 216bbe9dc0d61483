"""Words by which folders and tables say that a part is good or defective."""

from __future__ import annotations

GOOD = "good"  # the kind of a part without a defect
# How tables and folders say so; German ones have "i.O." and "n.i.O.".
GOOD_WORDS = frozenset({GOOD, "ok", "okay", "normal", "pass", "passed", "io", "i.o.", "i.o"})
DEFECTIVE_WORDS = frozenset(
    {
        *("nok", "not ok", "not_ok", "notok", "ng", "bad", "defect", "defective", "faulty"),
        *("anomaly", "anomalous", "anomal", "abnormal", "fail", "failed", "reject", "rejected"),
        *("nio", "n.i.o.", "n.i.o", "not good", "not_good"),
    }
)


def is_good(word: str) -> bool:
    """Return whether a word, such as the name of a folder, says that parts are good."""
    return word.strip().lower() in GOOD_WORDS


def is_defective(word: str) -> bool:
    """Return whether a word says that parts are defective, without naming the defect."""
    return word.strip().lower() in DEFECTIVE_WORDS
