"""Files and fields of a multipart request, in memory and bounded."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import AsyncGenerator
from dataclasses import dataclass

from python_multipart.multipart import parse_options_header
from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import Request

from chiasm.service.admission import QueueSlot
from chiasm.service.refusals import Refusal, shortened

LONGEST_NAME = 120
_MOST_FIELDS = 24
_LONGEST_FIELD = 1024


@dataclass(frozen=True, slots=True, eq=False)
class Upload:
    """One file of a request.

    Attributes:
        role: the field's name, e.g. ``"rgb"``.
        name: the file's name without its folders and without control characters.
        content: its bytes.
    """

    role: str
    name: str
    content: bytes

    @property
    def where(self) -> str:
        """The field and the file, for messages; it ends like the file's name."""
        return f"{self.role}={self.name}"


class _InMemory(MultiPartParser):
    # The request guard and the queue bound the bodies; writing them to disk would cost more than
    # the verdict.
    spool_max_size = 2**62


async def read_form(request: Request, slot: QueueSlot) -> tuple[dict[str, Upload], dict[str, str]]:
    """Read the files and fields of a multipart body, by name.

    Raises ``Refusal`` if the body is not multipart, is damaged, or names a field twice.
    """
    content_type = request.headers.get("content-type", "")
    if not content_type.lower().startswith("multipart/form-data"):
        raise Refusal(
            415,
            "not_multipart",
            "The request must be multipart/form-data with one file per field, as 'curl -F "
            "rgb=@part.png -F xyz=@part.tiff' sends it; this one is "
            f"{shortened(content_type) or 'none'}.",
        )
    _, options = parse_options_header(content_type)
    charset = options.get(b"charset", b"utf-8").decode("latin-1")
    # Others decode into text that SQLite and JSON cannot hold, such as lone surrogates of UTF-7.
    if charset.lower() not in ("utf-8", "utf8"):
        raise Refusal(
            400,
            "damaged_request",
            f"The request's charset is {shortened(charset)!r}; this service reads only UTF-8.",
        )

    async def stream() -> AsyncGenerator[bytes, None]:
        async for chunk in request.stream():
            slot.hold(len(chunk))
            yield chunk

    try:
        form = await _InMemory(
            request.headers,
            stream(),
            max_files=_MOST_FIELDS,
            max_fields=_MOST_FIELDS,
            max_part_size=_LONGEST_FIELD,
        ).parse()
    except MultiPartException as error:
        raise Refusal(
            400, "damaged_request", f"The request's body cannot be read: {error.message}"
        ) from error
    except (UnicodeError, LookupError) as error:
        raise Refusal(
            400, "damaged_request", "The request's body cannot be read: its text is not UTF-8."
        ) from error
    files: dict[str, Upload] = {}
    fields: dict[str, str] = {}
    try:
        for role, value in form.multi_items():
            if role in files or role in fields:
                raise Refusal(
                    422, "bad_input", f"The field {shortened(role)!r} occurs twice in the request."
                )
            if isinstance(value, UploadFile):
                name = safe_name(value.filename or "")
                files[role] = Upload(role, name, value.file.read())
            else:
                fields[role] = value
    finally:
        await form.close()
    return files, fields


def safe_name(name: str) -> str:
    """Return a client's file name without folders and control characters, and shortened.

    Example:
        >>> safe_name("..\\\\..\\\\etc/passwd\\x00.png")
        'passwd.png'
    """
    last = re.split(r"[/\\]", name)[-1]
    clean = "".join(
        letter
        for letter in unicodedata.normalize("NFC", last)
        if not unicodedata.category(letter).startswith(("C", "Z")) or letter == " "
    ).strip()
    if len(clean) > LONGEST_NAME:
        clean = clean[: LONGEST_NAME - 9] + "…" + clean[-8:]
    return "upload" if clean in ("", ".", "..") else clean
