"""Behind nginx: streams arrive event by event, although it buffers what it passes on by default."""
import http.client
import json
import pathlib
import shutil
import socket
import subprocess
import tempfile
import unittest

from support import ENDLESS, JSON, PATIENCE_S, ServerCase, wait_until

NGINX = shutil.which("nginx", path="/usr/sbin:/usr/bin:/usr/local/sbin")
SETTINGS = """
daemon off;
worker_processes 1;
pid {folder}/pid;
error_log {folder}/error.log;
events {{ worker_connections 64; }}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    server {{
        listen 127.0.0.1:{port};
        location / {{
            proxy_pass http://127.0.0.1:{backend};
            proxy_http_version 1.1;
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


class TestNginx(ServerCase):
    """One worker, so that a picture that never ends is surely under way."""
    flags = ("--workers", 1)

    def setUp(self):
        folder = pathlib.Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, folder, ignore_errors=True)
        self.port = free_port()
        settings = folder / "nginx.conf"
        settings.write_text(SETTINGS.format(folder=folder, port=self.port,
                                            backend=self.server.address[1]))
        nginx = subprocess.Popen([NGINX, "-e", folder / "error.log", "-c", settings])
        self.addCleanup(nginx.wait, PATIENCE_S)
        self.addCleanup(nginx.terminate)
        wait_until(lambda: is_open(self.port), "nginx")

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


if __name__ == "__main__":
    unittest.main()
