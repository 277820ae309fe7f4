"""The sandbox, seen from the server. Nothing here knows MCP.

limits.py       what a job may use, its result, the errors
seccomp.py      the system calls a job may make, as a BPF program
bubblewrap.py   the command line that builds the file system of all jobs
fork_server.py  the process that forks sandboxes
job.py          one sandbox: program in, output out, kill
results.py      map the end of a job to a JobResult
slots.py        how many jobs at once, and a user id for each
runner.py       run a program within a deadline
sessions.py     state kept between the calls of one trajectory
probes.py       the programs of the self-test
selftest.py     attack the sandbox at start and say what got through
"""
