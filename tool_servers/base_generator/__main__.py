from tool_servers.common import workers

workers.main("base_generator")
