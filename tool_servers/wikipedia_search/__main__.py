from tool_servers.wikipedia_search.server import main

main()
