"""Behind nginx: streams arrive event by event, although it buffers what it passes on by default, and both read the same
requests out of whatever bytes a client sends."""
import collections
import http.client
import json
import pathlib
import re
import shutil
import socket
import subprocess
import tempfile
import unittest

from support import ENDLESS, JSON, PATIENCE_S, ServerCase, wait_until
from test_smuggling import BAD_CHUNKS, BODY, CHUNKED, CHUNKS, CODINGS, COUNT, HEADS, HUGE, LENGTH, LENGTHS, SMUGGLED, post

NGINX = shutil.which("nginx", path="/usr/sbin:/usr/bin:/usr/local/sbin")
SETTINGS = """
daemon off;
worker_processes 1;
pid {folder}/pid;
error_log {folder}/error.log;
events {{ worker_connections 64; }}
http {{
    log_format passed "$http_x_request_id $upstream_status";
    access_log {folder}/access.log passed;
    client_body_timeout 1;
    client_header_timeout 1;
    keepalive_timeout 1;
    upstream backend {{
        server 127.0.0.1:{backend};
        keepalive 1;
    }}
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    server {{
        listen 127.0.0.1:{port};
        location / {{
            proxy_pass http://backend;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
        }}
    }}
}}
"""


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def is_open(port):
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


class NginxCase(ServerCase):

    def setUp(self):
        folder = pathlib.Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, folder, ignore_errors=True)
        self.access = folder / "access.log"
        self.port = free_port()
        settings = folder / "nginx.conf"
        settings.write_text(SETTINGS.format(folder=folder, port=self.port,
                                            backend=self.server.address[1]))
        nginx = subprocess.Popen([NGINX, "-e", folder / "error.log", "-c", settings])
        self.addCleanup(nginx.wait, PATIENCE_S)
        self.addCleanup(nginx.terminate)
        wait_until(lambda: is_open(self.port), "nginx")


class TestStreams(NginxCase):
    """One worker, so that a picture that never ends is surely under way."""
    flags = ("--workers", 1)

    def open_stream(self, body):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE_S)
        self.addCleanup(connection.close)
        connection.request("POST", "/v1/generate", body,
                           {**JSON, "Accept": "text/event-stream"})
        return connection, connection.getresponse()

    def test_events_arrive_one_by_one(self):
        """Steps are seen of a request that is far from done, and leaving it cancels it."""
        connection, stream = self.open_stream(json.dumps({**ENDLESS, "n": 1}))
        self.assertEqual(stream.status, 200)
        names = []
        while names.count(b"progress") < 3:
            line = stream.readline()
            self.assertTrue(line, names)
            if line.startswith(b"event: "):
                names.append(line[7:].strip())
        self.assertEqual(names[0], b"queued")
        self.assertNotIn(b"completed", names)
        stream.close()
        connection.close()
        self.server.wait_for_pictures(0)


class TestSmuggling(NginxCase):
    """nginx sends everything over one kept connection, on which a smuggled request would show: the server would see it,
    nginx would not, and whoever comes next would get its answer."""

    def forms(self):
        """Requests that are hard to read, each with one after it, or in it, or with a body that never ends."""
        inside = b"0\r\n\r\n" + SMUGGLED
        lengths = [*(length % COUNT for length in LENGTHS), *HUGE]
        chunked = [*CHUNKED, *(chunks % (COUNT, BODY) for chunks in BAD_CHUNKS)]
        yield from (post(coding + b"\r\n" + LENGTH, CHUNKS + SMUGGLED) for coding, _ in CODINGS)
        yield from (post(coding + b"\r\nContent-Length: %d" % len(inside), inside) for coding, _ in CODINGS)
        yield from (post(b"Content-Length: " + length, BODY + SMUGGLED) for length in lengths)
        yield post(LENGTH + b"\r\nContent-Length: 0", BODY + SMUGGLED)
        yield post(b"Content-Length: 0\r\n" + LENGTH, BODY + SMUGGLED)
        yield post(b"Transfer-Encoding: chunked\r\n" + LENGTH, inside)
        yield post(b"Connection: Content-Length\r\n" + LENGTH, BODY + SMUGGLED)
        yield from (head + SMUGGLED for head, _ in HEADS)
        yield from (post(b"Transfer-Encoding: chunked", chunks + SMUGGLED) for chunks in chunked)

    def send(self, message):
        """Everything the client sends, and nothing it is answered, which may be anything."""
        with socket.create_connection(("127.0.0.1", self.port), PATIENCE_S) as client:
            try:
                client.sendall(message)
                while client.recv(65536):
                    pass
            except ConnectionError:
                pass

    def passed(self):
        """How often nginx has passed on a request of each id."""
        lines = (line.rsplit(" ", 1) for line in self.access.read_text(errors="replace").splitlines())
        return collections.Counter(name for name, status in lines if status != "-")

    def taken(self):
        """How often the server has taken one up."""
        return collections.Counter(match.group(1) for line in list(self.server.lines)
                                   if (match := re.search(r"event=request id=(\S+)", line)))

    def test_both_read_the_same(self):
        forms = list(self.forms())
        for i, form in enumerate(forms):
            self.send(form)
            for name in (f"a{i}", f"b{i}"):
                connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE_S)
                connection.request("GET", "/v1/models", headers={"X-Request-Id": name, "Connection": "close"})
                answer = connection.getresponse()
                self.assertEqual((answer.status, answer.headers["X-Request-Id"]), (200, name), form)
                self.assertEqual(json.loads(answer.read())["object"], "list", form)
                connection.close()
        last = f"b{len(forms) - 1}"
        wait_until(lambda: self.taken()[last] and self.passed()[last], "the logs")
        self.assertGreater(self.passed()["smuggled"], 0)  # some are plain pipelines, to nginx as to the server
        self.assertEqual(self.taken()["smuggled"], self.passed()["smuggled"])
        self.assertEqual(self.taken().total(), self.passed().total())


if __name__ == "__main__":
    unittest.main()
