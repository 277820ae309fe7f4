"""Tools as MCP servers, one folder and one process each. Nothing here imports the training package.

    common/            what every server shares: options, lifetime, logs, deadline, the HTTP application
    python_coder/      run one Python program in a sandbox
    wikipedia_search/  BM25 passages from a local corpus
"""
