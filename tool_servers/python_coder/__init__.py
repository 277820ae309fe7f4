"""One Python program, run once, in a sandbox that either holds or refuses to start.

limits.py       what a job may use, and what came of it
seccomp.py      the system calls a job may make, as a BPF program
bubblewrap.py   the command line that builds the file system of all jobs
inside/         what runs inside: a fork server that isolates each job before any code of it runs
fork_server.py  the fork server, from the outside
job.py          one sandbox, from the outside: program in, output out, kill
verdicts.py     what a job's end amounts to
slots.py        how many at once, and a user id for each
sandbox.py      run a program within a deadline
sessions.py     state kept between the calls of one trajectory
selftest.py     attacks the sandbox at start and says what got through
server.py       the MCP tool
"""
