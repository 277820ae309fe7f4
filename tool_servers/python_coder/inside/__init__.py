"""What runs inside bubblewrap: this folder is all it sees of the server. It imports nothing from
outside of it.

    kernel.py    calls into the kernel
    watch.py     the first process of each sandbox, once isolated: looks after the job
    starter.py   first process of all: forks and isolates the first process of each sandbox
    launcher.py  the job's process, once isolated: limits, then the program
    zygote.py   imports packages once, then forks a job's process into each sandbox

The starter is kept apart from the zygote because a fork costs what it has to copy: two large ones
would cost a job more than everything else together.
"""
