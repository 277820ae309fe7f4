"""Measuring the agent: ten benchmarks, a resumable runner, reports and comparisons. No trainer is
needed for any of it.

questions.py    a question, the ten benchmarks and their capability groups, and how their files are read
options.py      the command line of ``agentflow eval``, ``solve`` and ``analyse``
settings.py     command line and configuration file as one validated record
vllm_server.py  vLLM's own OpenAI server as a child process
session.py      everything that answers: model servers, tool servers, engines, and what the header says of them
leakage.py      drops tool results that hold a benchmark question
runner.py       trajectories and their scores, with retries
store.py        a run's folder: its header, its log, and what is left to do
progress.py     the progress bar with live accuracy
statistics.py   intervals and paired tests
summary.py      the figures of a run
report.py       Markdown, JSON and HTML of a run (plots.py: its pictures)
compare.py      paired differences of two runs
analyses.py     accuracy against turns, tool mix, and curves of training, from saved trajectories
solve.py        one question, each step shown as it happens
command.py      what the command line calls
"""
