"""One Python program, run once, in a sandbox that either holds or refuses to start.

    limits.py      what a job may use, and what came of it
    seccomp.py     the system calls a job may make, as a BPF program
    bubblewrap.py  the command line that builds a job's namespaces and file system
    launcher.py    first process inside: applies limits, drops identity, runs the program
    process.py     one started sandbox, from the outside: output, memory watch, kill
    sandbox.py     slots: run a program within a deadline
    selftest.py    attacks the sandbox at start and says what got through
    server.py      the MCP tool
"""
