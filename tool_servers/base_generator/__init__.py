"""One call to a language model: an OpenAI-compatible endpoint answers the query by itself.

chat.py      request and reply of the endpoint
server.py    the MCP tool
"""
