"""Decode a page as browsers do (WHATWG HTML, "determining the character encoding").

In this order: a byte order mark, the charset of the HTTP header, what the document declares itself
(a meta element, an XML declaration), and where there is none of them a guess. Labels mean what the
WHATWG Encoding standard says, which is not what Python's codecs of the same name do: iso-8859-1 is
windows-1252, gb2312 is GB 18030.
"""

from __future__ import annotations

import codecs
import re

import charset_normalizer
import webencodings  # type: ignore[import-untyped]

PRESCAN_BYTES = 4_096
"""Where a declaration is looked for. The standard says 1,024; pages with long heads exist."""
GUESS_BYTES = 64 << 10

_BYTE_ORDER_MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF16_LE, "utf-16le"),
    (codecs.BOM_UTF16_BE, "utf-16be"),
)
# An XML document in UTF-16 without a mark begins with "<" in two bytes (XML 1.0, appendix F).
_UTF16_STARTS = ((b"<\0", "utf-16le"), (b"\0<", "utf-16be"))
_XML_DECLARATION = re.compile(rb"""^\s*<\?xml[^>]*?\bencoding\s*=\s*["']\s*([\w.:-]+)""")
_COMMENT = re.compile(rb"<!--.*?-->", re.DOTALL)
_META = re.compile(rb"<meta[\s/]([^>]*)", re.IGNORECASE)
_META_CHARSET = re.compile(rb"""\bcharset\s*=\s*["']?\s*([^\s"'/>;]+)""", re.IGNORECASE)
_FALLBACK = "windows-1252"
_PYTHON_CODECS = {"gbk": "gb18030", "euc-jp": "euc_jis_2004"}
"""Where the standard's decoder takes more than the codec that webencodings names."""


def decode(body: bytes, http_charset: str | None, is_markup: bool) -> str:
    """The text of ``body``. Bytes that do not fit the encoding become U+FFFD.

    ``http_charset``: the parameter of the Content-Type header, None where it has none.
    ``is_markup``: whether a declaration in the document counts.
    """
    for mark, marked in _BYTE_ORDER_MARKS:
        if body.startswith(mark):
            return _decode_with(body[len(mark) :], marked)
    name = _encoding_name(http_charset)
    if name is None and is_markup:
        name = _declared_encoding(body)
    if name is None:
        name = _guess_encoding(body)
    return _decode_with(body, name)


def _encoding_name(label: str | None) -> str | None:
    """The encoding that browsers take a label for. For labels that they do not know, such as
    "latin-1", that of Python; None where neither knows it.
    """
    if label is None:
        return None
    label = label.strip("\"' \t\r\n").encode("ascii", "replace").decode()
    encoding = webencodings.lookup(label)
    if encoding is None:
        try:
            b"x".decode(label, "replace")  # LookupError also for codecs that are not of text
            python_name = codecs.lookup(label).name
        except (LookupError, ValueError):
            return None
        encoding = webencodings.lookup(python_name)
        if encoding is None:
            return python_name
    if encoding.name == "replacement":
        return None
    return str(encoding.name)


def _declared_encoding(body: bytes) -> str | None:
    """The encoding that the document itself declares, None where it declares none."""
    for start, started in _UTF16_STARTS:
        if body.startswith(start):
            return started
    head = body[:PRESCAN_BYTES]
    declared = _XML_DECLARATION.search(head)
    label = declared.group(1) if declared else None
    if label is None:
        for meta in _META.finditer(_COMMENT.sub(b"", head)):
            if found := _META_CHARSET.search(meta.group(1)):
                label = found.group(1)
                break
    if label is None:
        return None
    name = _encoding_name(label.decode("ascii", "replace"))
    if name in ("utf-16le", "utf-16be"):
        return "utf-8"  # read as ASCII just now, so it cannot be UTF-16: the standard's rule
    if name == "x-user-defined":
        return _FALLBACK  # the standard's rule, too
    return name


def _guess_encoding(body: bytes) -> str:
    """UTF-8 where that fits, else what the frequencies of the letters say."""
    try:
        body.decode("utf-8")
        return "utf-8"
    except UnicodeDecodeError as error:
        if error.start and error.reason == "unexpected end of data":  # cut within a character
            return "utf-8"
    best = charset_normalizer.from_bytes(body[:GUESS_BYTES]).best()
    name = _encoding_name(best.encoding.replace("_", "-")) if best else None
    return name or _FALLBACK


def _decode_with(body: bytes, name: str) -> str:
    codec = _PYTHON_CODECS.get(name)
    if codec is not None:
        return body.decode(codec, "replace")
    encoding = webencodings.lookup(name)
    if encoding is None:
        return body.decode(name, "replace")
    return str(encoding.codec_info.decode(body, "replace")[0])
