"""The client side of tools: agentflow speaks to tool servers over MCP and never executes model text
itself.

    spec.py         what a tool, its configuration and its result are
    schema.py       JSON arguments against the tool's JSON schema
    wire.py         one HTTP POST, one JSON-RPC answer
    protocol.py     an MCP request as headers and bytes
    content.py      MCP's answers as specs and text
    mcp_client.py   MCP on top of these: list tools, call a tool
    faults.py       the infrastructure errors, with what decides whether to ask again
    state.py        what servers keep between the calls of one trajectory
    limits.py       calls at once, calls a second
    replicas.py     which URL takes the next call: least loaded, circuit breaker
    cache.py        results of pure tools on disk
    server.py       one configured server: all of these, and retries
    registry.py     ToolBox: every tool of every server under one roof, what the flow calls
    process.py      one embedded tool server as a child process
    guard.py        ends the servers' process groups with the process that supervises them
    supervisor.py   starts, watches, restarts and stops the embedded servers

A tool that fails inside its contract is a ``ToolResult`` with ``is_error``; a server that fails is
an ``InfraError``. Nothing here imports the trainer.
"""
