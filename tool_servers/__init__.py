"""Tools as MCP servers, one folder and one process each. Nothing here imports the training package.

common/              what every server shares: options, access, workers, logs, metrics, HTTP
base_generator/      one call to a language model
python_coder/        run one Python program in a sandbox
google_search/       a search engine's API
wikipedia_search/    BM25 passages from a local corpus, or the live MediaWiki API
web_search/          fetch a page, return its passages nearest a query
stdio/               any MCP server that speaks over standard input and output
"""
