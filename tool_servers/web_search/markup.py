"""The readable text of HTML pages, feeds and other XML."""

from __future__ import annotations

import re
from typing import NamedTuple

import trafilatura
from lxml import etree  # type: ignore[import-untyped]
from lxml import html as lxml_html
from trafilatura.settings import Document

_DECLARATION = re.compile(r"^\s*<\?xml.*?\?>", re.DOTALL)
_ROOT = re.compile(r"<(?:[\w.-]+:)?([A-Za-z][\w.-]*)")
_SKIPPED = re.compile(r"<\?.*?\?>|<!--.*?-->|<!DOCTYPE(?:[^\[>]|\[.*?\])*>", re.DOTALL | re.I)
_TITLE_ELEMENTS = 50
"""The first so many elements in which the title of an XML document is looked for."""


class Readable(NamedTuple):
    """The title, an empty text where there is none, and the text of a document."""

    title: str
    text: str


def readable_html(source: str) -> Readable:
    """The main text of an HTML page; all of its text where no main part is found."""
    # lxml refuses a text that declares an encoding
    source = _DECLARATION.sub("", source)
    if not source.strip():
        return Readable("", "")
    found = trafilatura.bare_extraction(
        source, favor_recall=True, include_comments=False, with_metadata=True
    )
    title = text = ""
    if isinstance(found, Document):
        title, text = found.title or "", found.text or ""
    return Readable(title, text or trafilatura.html2txt(source))


def readable_xml(source: str) -> Readable:
    """The text of a feed or of another XML document: a line per element that has text.

    XHTML is read as HTML. What a feed holds as escaped HTML loses its tags. Entities of the
    document are not expanded, and nothing is loaded.
    """
    if root_name(source) == "html":
        return readable_html(source)
    parser = etree.XMLParser(
        recover=True, resolve_entities=False, no_network=True, load_dtd=False, huge_tree=False
    )
    # parsed from bytes of one known encoding: a text must not declare another
    body = _DECLARATION.sub("", source).strip().encode("utf-8", "replace")
    root = etree.fromstring(body, parser) if body else None
    if root is None:
        return Readable("", source)
    title, lines = "", []
    for number, element in enumerate(root.iter(etree.Element)):
        line = _element_text(element)
        is_title = str(element.tag).rpartition("}")[2] == "title"
        if line and is_title and not title and number < _TITLE_ELEMENTS:
            title = line
        if line:
            lines.append(line)
    return Readable(title, "\n".join(lines))


def root_name(source: str) -> str:
    """The name of a document's first element, in small letters without its prefix."""
    found = _ROOT.search(_SKIPPED.sub("", source[:10_000]))
    return found.group(1).lower() if found else ""


def _element_text(element: etree._Element) -> str:
    """The text directly in an element, and the address that a link of Atom has as an attribute."""
    parts = [element.text or "", *(child.tail or "" for child in element)]
    text = "".join(parts).strip()
    if "<" in text and ">" in text:
        text = _without_tags(text)
    if not text and element.get("href"):
        text = element.get("href") or ""
    return " ".join(text.split())


def _without_tags(text: str) -> str:
    try:
        fragment = lxml_html.fromstring(f"<div>{text}</div>")
    except (etree.ParserError, ValueError):
        return text
    return " ".join(fragment.itertext())
