"""What every tool server shares.

options.py     command line, checked before anything starts
logs.py        one JSON object a line on standard error
lifetime.py    die with the parent
access.py      Host, Origin, bearer token
sockets.py     listening sockets
workers.py     several processes behind one port
tool.py        the MCP server of one tool
calls.py       deadline of a call, its text result, its infrastructure error
metrics.py     what is counted
serve.py       HTTP application, listening line, shutdown
web.py         HTTP as a client
upstream.py    a JSON service behind a tool
passages.py    text cut into passages, searched, shown
"""
