"""What a run is asked before anything expensive starts.

checks.py         the list of checks, cheapest first
static.py         the agentflow node, the algorithm, folders and devices
consistency.py    values that must fit each other: batch sizes, lengths, engine, attention
verl_options.py   no option of verl is ignored: each is honoured or refused
option_table.py   what becomes of every option
option.py         what becomes of one
model.py          the model's folder
data_files.py     data files as verl reads them
rows.py           every row can be asked and scored
columns.py        questions about whole Arrow columns
choice_columns.py multiple-choice golds that are a letter
reachable.py      endpoints and tool servers answer
installation.py   what `agentflow doctor` shows of packages and registries
run_lock.py       one run in a folder
"""
