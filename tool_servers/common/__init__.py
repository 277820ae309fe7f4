"""What every tool server shares.

options.py      command line, checked before anything starts
logs.py         one JSON object per line on standard error
lifetime.py     end with the parent process
access.py       Host, Origin, bearer token
sockets.py      listening sockets
connections.py  limits of size, time and number before a request is seen
workers.py      several processes behind one port
tool.py         the MCP server of one tool
calls.py        deadline of a call, its text result, its infrastructure error
fingerprint.py  a hash of what shapes a server's answers
metrics.py      what is counted
serve.py        HTTP application, listening line, shutdown
web.py          HTTP as a client
upstream.py     a JSON service behind a tool
passages.py     text cut into passages, searched, shown
text.py         valid Unicode, secrets blanked, cuts
"""
