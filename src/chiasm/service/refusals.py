"""What the service refuses, each with a status of HTTP and a sentence for who asked."""

from __future__ import annotations

from chiasm.errors import ArtifactError, ChiasmError


class Refusal(ChiasmError):
    """A request that is not answered as asked.

    Attributes:
        status: of HTTP, 400 to 599.
        code: one word for programs, e.g. ``"too_large"``.
        retry_after: seconds after which it may be tried again; None where that will not help.
    """

    def __init__(
        self, status: int, code: str, sentence: str, *, retry_after: int | None = None
    ) -> None:
        super().__init__(sentence)
        self.status = status
        self.code = code
        self.retry_after = retry_after


def as_refusal(error: ChiasmError) -> Refusal:
    """Say which status an error has: broken input is 422, a broken model folder 409."""
    if isinstance(error, Refusal):
        return error
    if isinstance(error, ArtifactError):
        return Refusal(409, "model_unusable", str(error))
    return Refusal(422, "bad_input", str(error))


def unknown_model(name: str, known: list[str]) -> Refusal:
    """The refusal of a name that no model has."""
    return Refusal(
        404,
        "unknown_model",
        f"There is no model {shortened(name)!r}; this service has {', '.join(known) or 'none'}.",
    )


def shortened(text: str, longest: int = 60) -> str:
    """Text for a message, no longer than ``longest``, control characters left out."""
    clean = "".join(letter for letter in text if letter.isprintable())
    return clean if len(clean) <= longest else clean[: longest - 1] + "…"
