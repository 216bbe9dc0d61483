"""A row of the log of verdicts, and the tables that it lies in."""

from __future__ import annotations

from dataclasses import dataclass, fields

VERSION = 1
TABLES = """
CREATE TABLE IF NOT EXISTS verdicts (
  id TEXT PRIMARY KEY, time REAL NOT NULL, model TEXT NOT NULL, model_hash TEXT NOT NULL,
  wing TEXT NOT NULL, source TEXT NOT NULL, input_sha256 TEXT NOT NULL, score REAL, p_value REAL,
  threshold REAL, decision TEXT NOT NULL, latency_ms REAL NOT NULL, error TEXT NOT NULL
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS verdicts_by_time ON verdicts (time);
CREATE INDEX IF NOT EXISTS verdicts_by_model ON verdicts (model, time);
CREATE TABLE IF NOT EXISTS corrections (
  number INTEGER PRIMARY KEY, verdict TEXT NOT NULL REFERENCES verdicts (id) ON DELETE CASCADE,
  time REAL NOT NULL, says TEXT NOT NULL, by TEXT NOT NULL
);
CREATE INDEX IF NOT EXISTS corrections_by_verdict ON corrections (verdict);
"""
# Of several corrections the newest counts; all are kept.
WITH_CORRECTION = """
SELECT v.*, c.says, c.by, c.time AS corrected FROM verdicts v LEFT JOIN corrections c
ON c.number = (SELECT max(number) FROM corrections WHERE verdict = v.id)
"""
# Of a version, one row for each input: a part that was sent again is still one part. Of several
# rows that counts of which something was said last, and else the newest that is no error.
ONE_OF_EACH_INPUT = f"""
SELECT * FROM (
  SELECT *, row_number() OVER (
    PARTITION BY input_sha256 ORDER BY correction DESC NULLS LAST, decision = 'error', time DESC, id
  ) AS nth FROM ({WITH_CORRECTION.replace("v.*,", "v.*, c.number AS correction,")}
    WHERE v.model = ? AND v.model_hash = ? AND v.time >= ?)
) WHERE nth = 1
"""


@dataclass(frozen=True, slots=True)
class LoggedVerdict:
    """A row of the log.

    Attributes:
        id: 32 hexadecimal digits.
        time: seconds since 1970, UTC.
        model: name in the address.
        model_hash: of the version that judged.
        wing: ``"detector"`` or ``"classifier"``.
        source: what the client called the part, cleaned.
        input_sha256: over the files' bytes.
        score: raw score of a part, or probability of the kind decided for; None on error.
        p_value: None where there is none.
        threshold: above which a score is an alarm; None where there is none.
        decision: ``"defective"``, ``"good"``, ``"undecided"``, a kind, or ``"error"``.
        latency_ms: from the whole request to the verdict.
        error: a sentence, or "".
    """

    id: str
    time: float
    model: str
    model_hash: str
    wing: str
    source: str
    input_sha256: str
    score: float | None
    p_value: float | None
    threshold: float | None
    decision: str
    latency_ms: float
    error: str = ""


_COLUMNS = tuple(field.name for field in fields(LoggedVerdict))
INSERT = f"INSERT INTO verdicts VALUES ({', '.join('?' * len(_COLUMNS))})"
