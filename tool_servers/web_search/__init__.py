"""Fetch a web page and return its passages nearest a query.

addresses.py    which addresses may be connected to
fetch.py        one page, its redirects followed one by one
decode.py       the text of a page's bytes, decoded as browsers do
markup.py       the readable text of HTML, feeds and other XML
page.py         a page's text and passages; runs in processes that can be killed
server.py       the MCP tool
"""
