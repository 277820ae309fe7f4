"""Fetch a web page and return its passages nearest a query.

addresses.py    which addresses may be connected to
fetch.py        one page, its redirects followed one by one
page.py         a page's text and passages; runs in processes that can be killed
server.py       the MCP tool
"""
