from tool_servers.python_coder.server import main

main()
