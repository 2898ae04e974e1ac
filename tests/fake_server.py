"""A server of videos and archives on this machine that fails in every way real ones do."""

import os
import re
import signal
import subprocess
import time
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

ROOT = Path(__file__).parent.parent
HTML = b"<html><body><h1>Before you continue</h1></body></html>"


@contextmanager
def fake_server(files, answers):
    """Serve `files` (name → bytes) as `answers` (name → how) say; gives (address, log of names).

    How: "ok", "slow", "truncated" (ends early, every time), "broken once" (ends early, then goes
    on), "html", a status such as 404, or a list of these, one a request for the whole file, the
    last for all that come after.
    """
    log = []

    class Handler(BaseHTTPRequestHandler):
        def do_HEAD(self):
            self.answer(with_body=False)

        def do_GET(self):
            self.answer(with_body=True)

        def log_message(self, *_):
            pass

        def answer(self, with_body):
            name = self.path.strip("/").split("/")[-1].split("=")[-1]
            how = answers.get(name, "ok" if name in files else 404)
            if isinstance(how, list):
                how = how[min(sum(one == name for one in log), len(how) - 1)]
            log.append(name)
            if isinstance(how, int):
                self.send_error(how)
            elif how == "html":
                self.reply(200, "text/html", HTML, len(HTML), with_body)
            else:
                self.send_file(name, how, with_body)

        def send_file(self, name, how, with_body):
            content = files[name]
            begin = re.match(r"bytes=(\d+)-", self.headers.get("Range", ""))
            start = int(begin[1]) if begin else 0
            if start >= len(content) and start:
                self.send_error(416)
                return
            body, length = content[start:], len(content) - start
            if how == "truncated":
                body = content[start : len(content) // 2]
            elif how == "broken once" and not start:
                body = content[: len(content) // 2]
            extra = {"Content-Range": f"bytes {start}-{len(content) - 1}/{len(content)}"}
            kinds = {"tar": "application/x-tar", "html": "text/html"}
            kind = kinds.get(name.rpartition(".")[2], "video/mp4")
            status = 206 if begin else 200
            self.reply(status, kind, body, length, with_body, how == "slow", **extra)

        def reply(self, status, kind, body, length, with_body, is_slow=False, **extra):
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(length))
            self.send_header("Accept-Ranges", "bytes")
            for key, value in extra.items() if status == 206 else ():
                self.send_header(key, value)
            self.end_headers()
            if not with_body:
                return
            try:
                for begin in range(0, len(body), 4096):
                    self.wfile.write(body[begin : begin + 4096])
                    time.sleep(0.02 if is_slow else 0)
            except ConnectionError:
                pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", log
    finally:
        server.shutdown()
        server.server_close()


@contextmanager
def killed(command, log):
    """A process of the command from its first request in `log` on; killed when the block ends."""
    before = len(log)
    with subprocess.Popen(command, cwd=ROOT, stderr=subprocess.DEVNULL) as process:
        while len(log) == before and process.poll() is None:
            time.sleep(0.005)
        yield process
        os.kill(process.pid, signal.SIGKILL)
