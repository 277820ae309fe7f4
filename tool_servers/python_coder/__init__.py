"""Run one Python program, once, in a sandbox that either holds or refuses to start.

server.py    the MCP tool
sandbox/     the sandbox from the outside: start it, give it programs, attack it at start
inside/      what runs inside it: isolates each job before any of its code runs
"""
