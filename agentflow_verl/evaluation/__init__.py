"""Measuring the agent: ten benchmarks, a resumable runner, reports and comparisons. No trainer is
needed for any of it.

data_files.py   rows of parquet, JSON, CSV and TSV files
questions.py    a question, the ten benchmarks and their groups, and how a file's rows are read
settings.py     command line and configuration file as one validated record
output.py       places that a command will write to, tried before the work
model_server.py vLLM's or SGLang's own OpenAI server as a child process
vllm_memory.py  how much memory vLLM's takes on a CPU
session.py      model servers, tool servers and engines, and what the header says of them
leakage.py      drops tool results that hold a benchmark question
runner.py       trajectories and their scores, with retries
store.py        a run's folder: its header, its log, and what is left to do
progress.py     the progress bar with live accuracy
statistics.py   intervals and paired tests
summary.py      the figures of a run
plots.py        the pictures of a report
report.py       Markdown, JSON and HTML of a run
compare.py      paired differences of two runs
analyses.py     accuracy against turns, tool mix, and curves of training, from saved trajectories
rejudge.py      an LLM judge over the answers that a run saved
solve.py        one question, each step shown as it happens
"""
