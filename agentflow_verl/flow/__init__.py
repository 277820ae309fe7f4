"""The agentic system: four frozen or trained modules around an evolving memory (paper section 3.1).

    records.py   Trajectory, Turn and their parts: what everything else reads
    question.py  a dataset row: what is asked, and what its scorer reads
    memory.py    what earlier turns did, rendered into a token budget
    prompts/     one template a module, static parts first
    modules.py   one call and one parser a module
    loop.py      analyse, then plan, execute, verify until STOP, then answer
    replay.py    a trajectory again from its record, and what is different

Nothing here imports a trainer: it needs engines (engines/interface.py) and tools
(tools/toolbox.py).
"""
