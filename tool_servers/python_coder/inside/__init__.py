"""Everything that runs inside bubblewrap. This folder is all that is mounted of the server.

kernel.py        system calls that Python has no function for
starter.py       first process: forks the init process of each sandbox
watcher.py       a sandbox's init process once isolated: memory, CPU time and fairness of its job
zygote.py        imports packages once, then forks a job's process into each sandbox
launcher.py      the job's process once isolated: limits, then the program
program_text.py  makes a program of text that holds one, as models write it

Modules here import nothing from outside the folder but the standard library. The starter is a
process apart from the zygote because a fork costs what it has to copy: forking two large processes
per job would cost more than everything else together.
"""
