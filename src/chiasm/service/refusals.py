"""Requests that the service refuses: an HTTP status and a sentence for the client."""

from __future__ import annotations

from chiasm.errors import ArtifactError, ChiasmError


class Refusal(ChiasmError):
    """A request that the service refuses.

    Attributes:
        status: of HTTP, 400 to 599.
        code: one word for programs, e.g. ``"too_large"``.
        retry_after: seconds after which the client may try again; None if that will not help.
    """

    def __init__(
        self, status: int, code: str, sentence: str, *, retry_after: int | None = None
    ) -> None:
        super().__init__(sentence)
        self.status = status
        self.code = code
        self.retry_after = retry_after


def as_refusal(error: ChiasmError) -> Refusal:
    """Return an error with its status: 409 for a broken model folder, 422 for broken input."""
    if isinstance(error, Refusal):
        return error
    if isinstance(error, ArtifactError):
        return Refusal(409, "model_unusable", str(error))
    return Refusal(422, "bad_input", str(error))


def unknown_model(name: str, names: list[str]) -> Refusal:
    """Return the refusal of a name that no model has."""
    return Refusal(
        404,
        "unknown_model",
        f"There is no model {shortened(name)!r}; this service has {', '.join(names) or 'none'}.",
    )


def several_products(name: str, products: list[str]) -> Refusal:
    """Return the refusal of what only a single product has."""
    return Refusal(
        422,
        "several_products",
        f"{name} is a model of several products, and each has its own threshold and scores: ask "
        f"for {' or '.join(f'/v1/models/{product}' for product in products)}.",
    )


def shortened(text: str, longest: int = 60) -> str:
    """Return text for a message: printable, and at most ``longest`` characters."""
    printable = "".join(letter for letter in text if letter.isprintable())
    return printable if len(printable) <= longest else printable[: longest - 1] + "…"
