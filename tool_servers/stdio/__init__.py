"""Any MCP server that speaks over standard input and output, served over HTTP like the others.

child.py     start the server's program so that it ends with this process
bridge.py    its tools, passed on with a deadline
server.py    command line
"""
