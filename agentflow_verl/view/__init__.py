"""The viewer: a run's trajectories and curves as one HTML page.

advantages.py  the advantage of each trajectory, as the algorithm that trained on it has it
detail.py      one trajectory as the page shows it: turns, tokens, timeline
index.py       the table of all trajectories, read at once, and the chunks behind it
html.py        the page: style, scripts and data in one file
serve.py       the same page over HTTP, following a live run

page/ has the style sheet and the scripts, ES modules without a build step; page/vendor/ the
charting library.
"""
