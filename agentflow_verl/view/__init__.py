"""The viewer: a run's trajectories and curves as one HTML page.

runs.py        what a run's folder holds: entries of the trajectory log, metrics, options, tokenizer
advantages.py  the advantage of each trajectory, as the algorithm that trained on it has it
detail.py      one trajectory as the page shows it: turns, tokens, timeline
index.py       the table of all trajectories, small enough to be read at once, and how they are packed
html.py        the page: style, scripts and data in one file
serve.py       the same page over HTTP, following a live run
page/          style sheet and scripts, ES modules without a build step; vendor/ has the charting library
"""
