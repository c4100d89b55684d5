"""Kinds of files that are not read as pictures, known so that an error can name them and say what to do."""

import re
from pathlib import Path

UNREAD_SUFFIXES = frozenset(
    {
        *(".avif", ".heic", ".heif", ".jxl", ".qoi"),
        *(".exr", ".hdr", ".pam", ".pfm", ".ras", ".tga"),
        *(".arw", ".cr2", ".cr3", ".dng", ".nef", ".orf", ".raf", ".rw2"),
        *(".dds", ".ico", ".psd", ".svg", ".xcf"),
    }
)
"""Files with these endings are pictures too, of kinds that are not read."""

_CONVERT = "which is not read; convert it to JPEG or PNG"
_PICTURES = (
    (rb"....ftyp(avif|avis)", "an AVIF picture"),
    (rb"....ftyp(hei[cmsx]|hev[cmsx]|mif1|msf1)", "a HEIC picture"),
    (rb"....ftypcrx ", "a raw photograph (CR3)"),
    (rb"\xff\x0a|\0\0\0\x0cJXL \r\n\x87\n", "a JPEG XL picture"),
    (rb"P7\n", "a PAM picture"),
    (rb"P[Ff]\s", "a PFM picture (32-bit floats)"),
    (rb"\x76\x2f\x31\x01", "an OpenEXR picture"),
    (rb"#\?(RADIANCE|RGBE)", "a Radiance HDR picture"),
    (rb"\x59\xa6\x6a\x95", "a Sun raster picture"),
    (rb"8BPS", "a Photoshop document"),
    (rb"gimp xcf ", "a GIMP document"),
    (rb"\0\0\x01\0", "an icon of Windows"),
    (rb"qoif", "a QOI picture"),
    (rb"DDS ", "a DirectDraw surface"),
    (rb"FUJIFILMCCD-RAW|II(RO|RS|U\0)|MMOR", "a raw photograph"),
    (rb"(\xef\xbb\xbf)?\s*(<\?xml[^>]*>)?\s*(<!--.*?-->\s*)*(<!DOCTYPE svg[^>]*>\s*)?<svg\b", "an SVG drawing"),
)
_OTHERS = (
    (rb"version https://git-lfs", "is a Git LFS pointer, not the picture; run 'git lfs pull' where it comes from"),
    (rb"(\xef\xbb\xbf)?\s*<(?i:(!doctype\s+)?html)\b", "is a web page, not a picture; download the picture again"),
    (rb"%PDF-", "is a PDF document, not a picture; save its pages as PNG"),
    (rb"PK\x03\x04|\x1f\x8b|7z\xbc\xaf|Rar!", "is an archive, not a picture; unpack it"),
    (
        rb"....ftyp|RIFF....AVI |\x1a\x45\xdf\xa3|....moov",
        "is a video, not a picture; give its name the ending of its kind, such as .mp4",
    ),
    (rb"\x93NUMPY", "is an array of NumPy, not a picture; save it as PNG"),
)
_MARKS = tuple(
    (re.compile(mark, re.DOTALL), sentence)
    for mark, sentence in (*((mark, f"is {name}, {_CONVERT}") for mark, name in _PICTURES), *_OTHERS)
)
_SEARCHED = 4096  # bytes of the file
_LEAST_ZEROS = 64  # bytes that are no accident


def unread(root: Path | str, files: int, example: str) -> str:
    """Return the sentence that says how many files of kinds that are not read lie below ``root``, and one of them."""
    are = "file is of a kind" if files == 1 else "files are of kinds"
    return f"{root}: {files} {are} not read from a folder (such as {example}); convert pictures to JPEG or PNG"


def kind_of(data: bytes) -> str | None:
    """Return what a file that is not read is, and what to do, as the rest of a sentence that begins with its name.

    Args:
        data: The bytes of a file, of none of the kinds that are read.

    Returns:
        The rest of the sentence; None where the kind is not known.
    """
    if len(data) >= _LEAST_ZEROS and not data.strip(b"\0"):
        return "holds nothing but zeros, as after a copy that was interrupted; copy it again"
    return next((sentence for mark, sentence in _MARKS if mark.match(data[:_SEARCHED])), None)
