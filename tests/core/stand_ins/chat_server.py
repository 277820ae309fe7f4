"""A chat endpoint in a process of its own that keeps connections and can be restarted on its port.

``python chat_server.py PORT LOG [die]``: prints its port, writes a line to LOG per request. With
``die`` it ends in the middle of each request after the first, without a byte of an answer.
"""

import json
import os
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

PORT, LOG, DIES = int(sys.argv[1]), Path(sys.argv[2]), "die" in sys.argv[3:]
ANSWER = json.dumps({"choices": [{"message": {"content": "fine"}}]}).encode()


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        with LOG.open("a") as log:
            log.write("request\n")
        if DIES and LOG.read_text().count("\n") > 1:
            os._exit(1)
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(ANSWER)))
        self.end_headers()
        self.wfile.write(ANSWER)

    def log_message(self, *_: object) -> None:
        pass


ThreadingHTTPServer.allow_reuse_address = True
server = ThreadingHTTPServer(("127.0.0.1", PORT), Handler)
print(server.server_port, flush=True)
server.serve_forever()
