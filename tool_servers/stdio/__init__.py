"""Any MCP server that speaks over standard input and output, served over HTTP like the others.

child.py      start the server's program so that it ends with this process
transport.py  messages to and from its standard streams, whatever else it prints
bridge.py     its tools, passed on with a deadline; whether it answers
server.py     command line
"""
