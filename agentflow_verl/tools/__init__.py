"""The client side of tools: agentflow speaks to tool servers over MCP and never executes model text
itself.

    types.py        what a tool and its result are
    truncation.py   a result cut to its limit, with a mark
    interface.py    what the flow asks of tools, and the base of what stands between
    toolbox.py      ToolBox: every tool of every server, what the flow calls
    tool_client.py  one configured server: calls with retries, the cache, a trajectory's state
    session.py      what servers keep between the calls of one trajectory
    schema.py       JSON arguments against the tool's JSON schema
    mcp/            the protocol: transport, event streams, requests, results
    embedded/       starts, watches, restarts and ends the servers that run with the agent

A tool that fails inside its contract is a ``ToolResult`` with ``is_error``; a server that fails is
an ``InfraError``. Nothing here imports the trainer.
"""
