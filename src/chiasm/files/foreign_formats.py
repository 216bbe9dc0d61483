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


def how_to_save(path: Path) -> str:
    """Return a sentence on a file of a known foreign format; "" of any other.

    Example:
        >>> how_to_save(Path("a.XLSX"))
        'a.XLSX is a spreadsheet: save its table as CSV.'
    """
    sentence = _SENTENCES.get(path.suffix.lower())
    return f"{path} {sentence}." if sentence else ""
