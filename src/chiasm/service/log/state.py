"""Where the verdicts of a service go, in a word and in a sentence."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Literal

Mode = Literal["database", "delivering", "spool"]


@dataclass(frozen=True, slots=True)
class LogState:
    """Where verdicts go.

    Attributes:
        mode: into the database; to the disk while those that wait there are delivered; or to the
            disk while the database is away.
        since: when the database went away or came back, seconds since 1970.
        why: the database's last error, or "".
        waiting: verdicts on the disk of this service.
        trouble: why the disk cannot keep verdicts, or "".
        name_is_taken: another service reports under the same name.
    """

    mode: Mode
    since: float
    why: str
    waiting: int
    trouble: str
    name_is_taken: bool

    @property
    def sentences(self) -> list[str]:
        """What the operator should know; nothing if all is well."""
        said = []
        kept = f"{self.waiting} verdict{'s are' if self.waiting != 1 else ' is'}"
        if self.mode == "spool":
            since = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(self.since))
            said.append(
                f"The database of verdicts cannot be used since {since} UTC ({self.why}). Parts "
                f"are judged all the same: {kept} on this service's disk and will be delivered. "
                "History, drift and corrections have to wait. Check the database."
            )
        elif self.mode == "delivering":
            said.append(
                f"The database of verdicts is back; {kept} on this service's disk and being "
                "delivered."
            )
        elif self.waiting:
            said.append(f"{kept} on the disk, left by services that were killed; being delivered.")
        if self.mode != "database" and self.trouble:
            said.append(
                f"The disk cannot keep verdicts: {self.trouble}. No verdict is given until it can, "
                "or the database is back. Free space there."
            )
        if self.name_is_taken:
            said.append(
                "Another service reports under the name of this one, so that only one of them is "
                "listed. Give one another --replica."
            )
        return said
