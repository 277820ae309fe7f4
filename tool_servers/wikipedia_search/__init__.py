"""Passages of Wikipedia by BM25, from a local corpus or the live MediaWiki API.

corpus.py       JSON lines in, checked passages out
mediawiki.py    the live API
server.py       the MCP tool
"""
