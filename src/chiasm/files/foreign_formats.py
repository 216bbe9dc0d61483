"""Files of other programs that no reader takes, and how what they hold is saved to be read."""

from __future__ import annotations

from pathlib import Path

_SCOPE = "is a scope's own format: save the waveform as CSV, in its menu or its program"
_SENTENCES = {
    **dict.fromkeys((".trc", ".wfm", ".isf", ".wvf", ".wdf", ".psdata"), _SCOPE),
    **dict.fromkeys(
        (".cfg", ".cff"),
        "belongs to a COMTRADE recording: save its channel as CSV with a column of time",
    ),
    ".tdms": "is LabVIEW's binary format: save it as CSV, or by npTDMS as .npz with fs",
    **dict.fromkeys((".xlsx", ".xls", ".ods"), "is a spreadsheet: save its table as CSV"),
    **dict.fromkeys(
        (".zip", ".gz", ".tar", ".7z", ".rar", ".bz2", ".xz"), "is packed: unpack it first"
    ),
    **dict.fromkeys((".doc", ".docx", ".pdf"), "is a document: save the measured values as CSV"),
}


# How files of these kinds begin, whatever they are called.
_TEXTS = frozenset({".csv", ".txt", ".tsv", ".asc", ".dat", ".prn", ".lvm", ".json", ".jsonl"})
_BEGINNINGS = (
    (b"\x1f\x8b", ".gz"),
    (b"PK\x03\x04", ".xlsx"),
    (b"\xd0\xcf\x11\xe0", ".xls"),
    (b"%PDF", ".pdf"),
    (b"TDSm", ".tdms"),
)


def disguised(path: Path) -> str:
    """Return a sentence on a file that is called a text and begins as another format; else ""."""
    if path.suffix.lower() not in _TEXTS or not path.is_file():
        return ""
    with path.open("rb") as stream:
        head = stream.read(32)
    suffix = next((s for begin, s in _BEGINNINGS if head.startswith(begin)), "")
    suffix = ".trc" if b"WAVEDESC" in head else suffix
    return f"{path} {_SENTENCES[suffix]}, whatever it is called." if suffix else ""


def how_to_save(path: Path) -> str:
    """Return a sentence on a file of a known foreign format; "" of any other.

    Example:
        >>> how_to_save(Path("a.XLSX"))
        'a.XLSX is a spreadsheet: save its table as CSV.'
    """
    sentence = _SENTENCES.get(path.suffix.lower())
    return f"{path} {sentence}." if sentence else ""
