from tool_servers.common import workers

workers.main("wikipedia_search")
