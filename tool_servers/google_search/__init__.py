"""Web search by a search engine's API: Google's, or another's by configuration.

engines.py    request and reply of each engine, pure functions
server.py     the MCP tool
"""
