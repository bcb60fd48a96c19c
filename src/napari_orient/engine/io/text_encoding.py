"""Encoding of files of text: UTF-8, UTF-16 as Excel and PowerShell write it, or else Latin-1."""

from __future__ import annotations

import codecs
from pathlib import Path

from napari_orient.engine.errors import InputError

UTF16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
"""First bytes of text in UTF-16; without them its letters are not known from binary content."""

_READ_BYTES = 2**20
"""Bytes of a file that its encoding is looked for in at once; speed only."""


def text_encoding(path: Path, *, expected: str) -> str:
    """Name of the encoding of a file of text, as Python's ``open`` takes it.

    Parameters
    ----------
    expected : what the file should be, for the error: ``a STAR file``.

    Raises
    ------
    InputError
        If it is not text.
    """
    decoder, encoding = codecs.getincrementaldecoder("utf-8")(), "utf-8-sig"
    with path.open("rb") as stream:
        if stream.read(2) in UTF16:
            return "utf-16"
        stream.seek(0)
        while part := stream.read(_READ_BYTES):
            if b"\0" in part:
                raise InputError(f"{path} is not text; expected {expected}.")
            if encoding == "latin-1":
                continue
            try:
                decoder.decode(part)
            except UnicodeDecodeError:
                encoding = "latin-1"
    try:
        decoder.decode(b"", final=encoding != "latin-1")
    except UnicodeDecodeError:
        encoding = "latin-1"
    return encoding
