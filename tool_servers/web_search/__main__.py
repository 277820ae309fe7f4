from tool_servers.common import workers

workers.main("web_search")
