"""brickwork health: what a health check runs. Ready is 0; anything else is 1 and says why in one line."""
import pathlib
import socket
import sys
import unittest

sys.path.append(str(pathlib.Path(__file__).resolve().parents[1] / "http"))
from support import COMMAND, ENDLESS, JSON, Client, Server, run_program, wait_until  # noqa: E402


def health(*options):
    result = run_program(COMMAND, "health", *options)
    return result.returncode, result.stdout, result.stderr


class TestHealth(unittest.TestCase):

    def start(self):
        server = Server()
        self.addCleanup(lambda: server.process.poll() is None and server.process.kill())
        return server, "http://%s:%d" % server.address

    def test_ready_then_draining(self):
        """A server that finishes its work is not ready: it answers on open connections, or refuses new ones."""
        server, url = self.start()
        for form in (url, url + "/"):
            self.assertEqual(health("--url", form, "--timeout-s", "60"), (0, f"{url}/readyz: ready\n", ""))
        client = Client(server)
        self.addCleanup(client.close)
        client.send("POST", "/v1/generate", ENDLESS, JSON)
        server.wait_for_pictures(ENDLESS["n"])
        server.signal()
        server.wait_for_log("draining")
        wait_until(lambda: health("--url", url)[0] == 1, "a server that is not ready")
        status, out, err = health("--url", url)
        self.assertEqual((status, out), (1, ""))
        self.assertRegex(err, rf"^brickwork: {url}/readyz: [^\n]+\n$")
        client.close()
        server.stop()

    def test_another_status(self):
        """Something answers, but not 200: a path of the server that is none."""
        server, url = self.start()
        self.assertEqual(health("--url", url + "/nowhere", "--timeout-s", "60"),
                         (1, "", f"brickwork: {url}/nowhere/readyz: status 404\n"))
        server.stop()

    def test_no_answer(self):
        """One that listens and says nothing is not ready, however long it might take."""
        with socket.create_server(("127.0.0.1", 0)) as silent:
            url = "http://127.0.0.1:%d" % silent.getsockname()[1]
            status, out, err = health("--url", url, "--timeout-s", "0.1")
        self.assertEqual((status, out), (1, ""))
        self.assertTrue(err.startswith(f"brickwork: {url}/readyz: "), err)

    def test_proxies_are_not_asked(self):
        server, url = self.start()
        result = run_program(COMMAND, "health", "--url", url, env={"http_proxy": "http://127.0.0.1:1"})
        self.assertEqual(result.returncode, 0, result.stderr)
        server.stop()

    def test_usage(self):
        for options, message in [
                (["--url", "127.0.0.1:8080"],
                 '--url: "127.0.0.1:8080" does not begin with http:// or https://'),
                (["--url", "http://" + "a" * 1024], "--url: too long"),
                *((["--url", url], f'--url: "{url}" is not a URL')  # with no host a path would be taken for one
                  for url in ("http://", "https:///x", "http://?a", "http://h:x")),
                (["--timeout-s", "0"], "--timeout-s: not a number of 0.1..3600"),
                (["--path", "/"], "there is no option --path; see --help")]:
            self.assertEqual(health(*options), (2, "", f"brickwork: {message}\n"))
        self.assertTrue(health("--help")[1].startswith("usage: brickwork health "))


if __name__ == "__main__":
    unittest.main()
