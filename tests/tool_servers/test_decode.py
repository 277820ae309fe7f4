"""Pages are decoded as browsers do, and feeds and other XML give their text."""

from __future__ import annotations

import codecs

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tool_servers.common.calls import ToolError
from tool_servers.web_search.decode import decode
from tool_servers.web_search.fetch import sniff
from tool_servers.web_search.markup import readable_xml, root_name
from tool_servers.web_search.page import Extraction, extract

POLISH = "Zażółć gęślą jaźń"
RUSSIAN = "Москва является столицей России и крупнейшим по численности населения городом."


@pytest.mark.parametrize(
    ("body", "charset", "text"),
    [
        (b"It\x92s \x93good\x94 \x80", "ISO-8859-1", "It’s “good” €"),
        (b"It\x92s", "us-ascii", "It’s"),
        ("①髙".encode("cp932"), "Shift_JIS", "①髙"),
        ("①".encode("cp932"), "windows-31j", "①"),
        ("①東京".encode("euc_jis_2004"), "euc-jp", "①東京"),
        ("똠방각하".encode("cp949"), "euc-kr", "똠방각하"),
        ("똠".encode("cp949"), "ks_c_5601-1987", "똠"),
        ("朱镕基€".encode("gb18030"), "gb2312", "朱镕基€"),
        ("香港嘅".encode("big5hkscs"), "big5", "香港嘅"),
        (POLISH.encode("iso8859-2"), "latin2", POLISH),
        (POLISH.encode("utf-16-le"), "utf-16", POLISH),
        (RUSSIAN.encode("cp1251"), "x-cp1251", RUSSIAN),
        (b"\xe9", "latin-1", "é"),
        (b"caf\xe9", "  'ISO-8859-15' ", "café"),
        ("é".encode(), "no-such-encoding", "é"),
        ("é".encode(), "zip", "é"),
        ("é".encode(), "", "é"),
        ("é".encode(), None, "é"),
        (codecs.BOM_UTF8 + "é".encode(), "latin1", "é"),
        (codecs.BOM_UTF16_BE + "é".encode("utf-16-be"), "utf-8", "é"),
        (codecs.BOM_UTF16_LE + "é".encode("utf-16-le"), None, "é"),
    ],
)
def test_label_means_what_browsers_take_it_for(body: bytes, charset: str, text: str) -> None:
    assert decode(body, charset, is_markup=False) == text


@pytest.mark.parametrize(
    ("declaration", "codec"),
    [
        ('<meta charset="iso-8859-2">', "iso8859-2"),
        ("<META CHARSET=windows-1250>", "cp1250"),
        (
            '<meta http-equiv="Content-Type" content="text/html; charset=iso-8859-2"/>',
            "iso8859-2",
        ),
        ('<!-- <meta charset="koi8-r"> --><meta charset="latin2">', "iso8859-2"),
        ('<?xml version="1.0" encoding="ISO-8859-2"?>', "iso8859-2"),
        ("<?xml version='1.0' encoding='windows-1250' standalone='yes'?>", "cp1250"),
        ('<meta charset="utf-16">', "utf-8"),
        ('<meta charset="no-such"><p>', "utf-8"),
    ],
)
def test_declaration_of_a_document_counts_where_the_header_says_nothing(
    declaration: str, codec: str
) -> None:
    page = f"{declaration}<p>{POLISH}</p>"
    assert POLISH in decode(page.encode(codec), None, is_markup=True)
    assert POLISH in decode(page.encode("utf-8"), "utf-8", is_markup=True)


@pytest.mark.parametrize("codec", ["utf-16-le", "utf-16-be"])
def test_utf_16_without_a_mark_is_known_by_its_first_element(codec: str) -> None:
    assert POLISH in decode(f"<p>{POLISH}</p>".encode(codec), None, is_markup=True)


def test_page_that_declares_nothing_is_guessed() -> None:
    assert decode((RUSSIAN * 20).encode("cp1251"), None, is_markup=False).startswith(RUSSIAN)
    cut_within_a_character = "é".encode()[:1]
    assert decode(b"abc" + cut_within_a_character, None, is_markup=False).startswith("abc")


@given(st.binary(max_size=300), st.none() | st.text(max_size=20), st.booleans())
def test_any_bytes_give_valid_text(body: bytes, charset: str | None, is_markup: bool) -> None:
    decode(body, charset, is_markup).encode()


@given(st.text(st.characters(exclude_categories=("Cs", "Cc"))))
def test_utf_8_that_is_named_comes_out_as_it_was(text: str) -> None:
    expected = text.removeprefix("\ufeff")
    assert decode(text.encode(), "utf-8", is_markup=True) == expected


RSS = """<?xml version="1.0" encoding="utf-8"?><rss version="2.0"><channel><title>News</title>
<item><title>Ferry</title><description><![CDATA[<p>It leaves at <b>7:45</b> from pier nine.</p>]]>
</description><link>https://example.org/ferry</link></item></channel></rss>"""
ATOM = """<feed xmlns="http://www.w3.org/2005/Atom"><title>Blog</title><entry><title>One</title>
<link href="https://example.org/1"/><content type="html">&lt;p&gt;Tea &amp;amp; cake&lt;/p&gt;
</content></entry></feed>"""
SITEMAP = """<urlset xmlns="http://www.sitemaps.org/schemas/sitemap/0.9">
<url><loc>https://example.org/a</loc><lastmod>2024-01-01</lastmod></url></urlset>"""
BOMB = """<!DOCTYPE x [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;&a;&a;">
<!ENTITY file SYSTEM "file:///etc/passwd">]><x><y>&b;&file;</y><z>rest</z></x>"""
XHTML = """<?xml version="1.0"?><!DOCTYPE html><html xmlns="http://www.w3.org/1999/xhtml"><head>
<title>Page</title></head><body><article><p>The Danube flows through ten countries.</p></article>
</body></html>"""


@pytest.mark.parametrize(
    ("source", "title", "parts"),
    [
        (RSS, "News", ["It leaves at 7:45 from pier nine.", "https://example.org/ferry"]),
        (ATOM, "Blog", ["Tea & cake", "https://example.org/1"]),
        (SITEMAP, "", ["https://example.org/a", "2024-01-01"]),
        (XHTML, "Page", ["The Danube flows through ten countries."]),
        (BOMB, "", ["rest"]),
        ("<a><b>one</b><b>two</b", "", ["one", "two"]),
        ("no markup at all", "", ["no markup at all"]),
    ],
)
def test_xml_gives_its_text(source: str, title: str, parts: list[str]) -> None:
    found = readable_xml(source)
    assert found.title == title
    for part in parts:
        assert part in found.text
    assert "aaaa" not in found.text and "root:" not in found.text


@pytest.mark.parametrize("kind", ["text/html", "text/plain", "text/xml", "application/rss+xml"])
def test_feed_is_read_whatever_its_type_is_called(kind: str) -> None:
    page = extract(Extraction(RSS.encode(), kind, None, "ferry pier", 3, 300))
    assert page.title == "News" and "pier nine" in page.passages[0].text


def test_title_is_cut() -> None:
    body = f"<html><head><title>{'long ' * 200}</title></head><body><p>Text.</p></body></html>"
    page = extract(Extraction(body.encode(), "text/html", None, "x", 1, 100))
    assert len(page.title) < 350 and "left out" in page.title


def test_root_is_found_after_comments_and_declarations() -> None:
    assert root_name("<?xml version='1.0'?><!-- <html> --><!DOCTYPE rdf [<!x>]><rdf:RDF>") == "rdf"
    assert root_name("plain") == ""


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (b"  <!doctype html><p>x", "text/html"),
        (b"<?xml version='1.0'?><a/>", "text/xml"),
        (b"hello", "text/plain"),
    ],
)
def test_page_without_a_type_is_sniffed(body: bytes, kind: str) -> None:
    assert sniff(body) == kind


def test_picture_without_a_type_is_no_text() -> None:
    with pytest.raises(ToolError, match="not text"):
        sniff(b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR")
