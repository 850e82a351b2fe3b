#!/usr/bin/env python3
"""Stands in for a mail service: shows the mails that are posted to it with the right token, and sends none."""

import json
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Mails(BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers["content-length"]))
        granted = self.headers["authorization"] == "Bearer swordfish"
        if granted:
            mail = json.loads(body)
            # In one piece: several mails may come at once.
            print(f"to {mail['to']}: {mail['subject']}\n", end="", flush=True)
        self.send_response(202 if granted else 401)
        self.end_headers()

    def log_message(self, *_):
        """Says nothing of each request."""


ThreadingHTTPServer(("127.0.0.1", 8025), Mails).serve_forever()
