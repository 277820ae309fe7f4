"""What every tool server shares.

    options.py    command line, checked before anything starts
    logs.py       one JSON object a line on standard error
    lifetime.py   die with the parent
    calls.py      deadline of a call, its text result, its infrastructure error
    serve.py      HTTP application, listening line, shutdown
"""
