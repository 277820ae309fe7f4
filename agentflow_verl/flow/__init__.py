"""The agent: five modules around an evolving memory (paper section 3.1).

    question.py  a dataset row: what is asked, and what its scorer reads
    prompts/     one template per module, static parts first
    modules.py   one call per module
    parse/       what modules write, read into plans, arguments and verdicts
    replies.py   the JSON schemas of the frozen modules' replies, and how these are read
    memory.py    what earlier turns did, rendered into a token budget
    answer.py    the final answer in the generator's text: tags, boxes, labels
    statement.py what a line or a sentence of it states
    loop.py      analyse, then plan, execute, verify until STOP, then answer
    replay.py    a trajectory run again from its record, and what differs

Nothing here imports a trainer: it needs engines (engines/interface.py) and tools
(tools/toolbox.py).
"""
