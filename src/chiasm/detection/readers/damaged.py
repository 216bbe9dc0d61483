"""Read all parts of a run once, and set aside those that cannot be read or prepared."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from chiasm.detection.readers.source import SampleRef
from chiasm.errors import DataError
from chiasm.samples import PreparedSample, Problem


@dataclass(eq=False)
class DamagedParts:
    """The parts of a run that cannot be used, found in passing.

    Attributes:
        problems: by the part's source, in the order in which they were found.
    """

    problems: dict[str, Problem] = field(default_factory=dict)

    def usable(
        self, refs: Sequence[SampleRef], parts: Sequence[PreparedSample]
    ) -> Iterator[PreparedSample | None]:
        """Yield each part, and None in the place of one that cannot be used.

        Args:
            refs: of the parts.
            parts: which are read when they are used.
        """
        for number, ref in enumerate(refs):
            try:
                yield parts[number]
            except (DataError, OSError) as error:
                sentence = str(error)
                if ref.source not in sentence:
                    sentence = f"{ref.source}: {sentence}"
                self.problems[ref.source] = Problem(ref.source, sentence, left_out=True)
                yield None

    def kept(self, refs: Sequence[SampleRef]) -> list[int]:
        """Return the positions of the parts that can be used."""
        return [number for number, ref in enumerate(refs) if ref.source not in self.problems]
