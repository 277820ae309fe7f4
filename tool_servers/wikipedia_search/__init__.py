"""Passages from a local corpus by BM25.

    corpus.py    JSON lines in, checked passages out
    index.py     the index and its search
    server.py    the MCP tool
"""
