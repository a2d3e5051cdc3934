"""Settings, and what the server says before it serves."""
import json
import pathlib
import socket
import struct
import subprocess
import tempfile
import unittest

from support import SERVER, TINY, Server, ask, environment, run_program, wait_until

SMALL_MACHINE = ["--workers", "1", "--threads", "1"]


def check_config(*flags, env=None):
    """The settings in force as --check-config prints them."""
    result = run_program(SERVER, "--check-config", *flags, env=env)
    assert result.returncode == 0, result.stderr
    return dict(line.split(" = ") for line in result.stdout.splitlines())


class TestQuestions(unittest.TestCase):

    def test_help(self):
        result = run_program(SERVER, "--help")
        self.assertEqual((result.returncode, result.stderr), (0, ""))
        for name in check_config(*SMALL_MACHINE):
            self.assertRegex(result.stdout, rf"(?m)^  {name} ", "a setting is missing in the help")

    def test_version(self):
        result = run_program(SERVER, "--version")
        self.assertEqual(result.returncode, 0)
        self.assertRegex(result.stdout, r"^brickworkd \d+\.\d+\.\d+\n$")

    def test_check_config_can_be_read_back(self):
        flags = ["--queue", "9", "--log-format", "json", "--model", str(TINY), "--threads", "1"]
        result = run_program(SERVER, "--check-config", *flags)
        with tempfile.NamedTemporaryFile("w") as file:
            file.write(result.stdout)
            file.flush()
            again = run_program(SERVER, "--check-config", "--config", file.name)
        self.assertEqual(again.stdout, result.stdout)


class TestPrecedence(unittest.TestCase):
    """Flag, then environment, then file, then default."""

    def setUp(self):
        self.file = tempfile.NamedTemporaryFile("w")
        self.addCleanup(self.file.close)

    def write(self, text):
        self.file.seek(0)
        self.file.truncate()
        self.file.write(text)
        self.file.flush()
        return self.file.name

    def test_order(self):
        path = self.write("# settings\n\n  queue=10 \n")
        env = {"BRICKWORK_QUEUE": "20"}
        self.assertEqual(check_config()["queue"], "256")
        self.assertEqual(check_config("--config", path)["queue"], "10")
        self.assertEqual(check_config("--config", path, env=env)["queue"], "20")
        self.assertEqual(check_config("--config", path, "--queue", "30", env=env)["queue"], "30")
        self.assertEqual(check_config("--queue=31", env=env)["queue"], "31")
        self.assertEqual(check_config(env={"BRICKWORK_CONFIG": path})["queue"], "10")

    def test_bad_settings(self):
        """Status 2, nothing on standard output, and one line that names where and what."""
        cases = [
            (["--queue", "7"], {}, "command line: queue: \"7\""),
            (["--queue", "many"], {}, "\"many\" is not an integer of 8..4096"),
            (["--queue", "8.5"], {}, "queue"), (["--queue", ""], {}, "queue"),
            (["--queue"], {}, "--queue needs a value"),
            (["--quiver", "8"], {}, "\"--quiver\""), (["queue"], {}, "\"queue\""),
            (["-h"], {}, "\"-h\""), (["--"], {}, "\"--\""),
            (["--listen", "nowhere"], {}, "\"nowhere\" is not host:port"),
            (["--listen", "localhost:80"], {}, "numeric"),
            (["--listen", "127.0.0.1:65536"], {}, "port"),
            (["--log-level", "loud"], {}, "\"loud\" is not debug"),
            (["--log-format", "xml"], {}, "logfmt or json"),
            (["--policy", "x"], {}, "\"x\" is not full, reject-only or fifo"),
            (["--workers", "64", "--threads", "256"], {}, "too many"),
            (["--model", "x" * 5000], {}, "model: too long"),
            ([], {"BRICKWORK_QUEUE": "1"}, "BRICKWORK_QUEUE"),
            ([], {"BRICKWORK_LISTEN": "x"}, "BRICKWORK_LISTEN"),
            ([], {"BRICKWORK_CONFIG": "/nonexistent"}, "/nonexistent"),
            (["--config", "/nonexistent"], {}, "/nonexistent"),
        ]
        for flags, env, message in cases:
            with self.subTest(" ".join(flags)[:60], **env):
                self.assert_usage(run_program(SERVER, "--check-config", *flags, env=env), message)

    def test_bad_files(self):
        for text, message in [("queue = 7\n", ":1: queue"), ("\n\nquiver = 8\n", ":3: there is no"),
                              ("queue 8\n", ":1: \"queue 8\""), ("= 8\n", ":1:"),
                              ("queue =\n", ":1: queue")]:
            with self.subTest(text):
                result = run_program(SERVER, "--config", self.write(text), "--check-config")
                self.assert_usage(result, message)

    def test_bad_simulations(self):
        """It is said which file is wrong, once: the trace or the model."""
        trace = self.write("{}\n")
        for flags, message in [(["--simulate", "/nonexistent"], "brickworkd: /nonexistent: No such file"),
                               (["--simulate", trace], f"brickworkd: {trace}: line 1"),
                               (["--simulate", "/dev/null", "--model", "/none"], "brickworkd: /none: No such file")]:
            with self.subTest(flags):
                self.assert_usage(run_program(SERVER, *flags), message)

    def assert_usage(self, result, message):
        self.assertEqual((result.returncode, result.stdout), (2, ""), result.stderr)
        self.assertIn(message, result.stderr)
        self.assertEqual(result.stderr.count("\n"), 1)


class TestStart(unittest.TestCase):
    """A server that cannot start says why in one log line and exits with 1."""

    def assert_fails(self, reason, *flags):
        result = run_program(SERVER, "--listen", "127.0.0.1:0", *flags)
        self.assertEqual(result.returncode, 1, result.stderr)
        self.assertEqual(result.stderr.count("\n"), 1, result.stderr)
        self.assertIn("event=cannot-start", result.stderr)
        self.assertIn(reason, result.stderr)

    def test_model_is_missing(self):
        self.assert_fails("/nonexistent: No such file", "--model", "/nonexistent")
        self.assert_fails("no *.safetensors file in it can be served", "--model", "/")

    def test_model_is_broken(self):
        whole = TINY.read_bytes()
        length = struct.unpack("<Q", whole[:8])[0]
        header = json.loads(whole[8:8 + length])
        header["__metadata__"].pop("lego")
        other = json.dumps(header).encode()
        for name, data, reason in [
                ("empty", b"", "shorter than its 8-byte header"),
                ("text", b"This is not a model, it is a text." * 9, "absurdly large"),
                ("cut", whole[:-4], "past the end of the file"),
                ("cut header", whole[:100], "header runs past"),
                ("longer", whole + b"\0", "belong to none"),
                ("not json", whole[:8] + b"?" + whole[9:], "not JSON"),
                ("no metadata", struct.pack("<Q", len(other)) + other + whole[8 + length:],
                 "not a LEGO model")]:
            with self.subTest(name), tempfile.NamedTemporaryFile() as file:
                pathlib.Path(file.name).write_bytes(data)
                self.assert_fails(reason, "--model", file.name)

    def test_port_in_use(self):
        with socket.create_server(("127.0.0.1", 0)) as other:
            result = run_program(SERVER, "--model", TINY, "--listen",
                                 "127.0.0.1:%d" % other.getsockname()[1])
        self.assertEqual(result.returncode, 1)
        self.assertIn("Address already in use", result.stderr)


class TestLog(unittest.TestCase):

    def test_json_lines(self):
        server = Server("--log-format", "json")
        ask(server, "GET", "/%22%5c%0a%7f%c3%a4", headers={"X-Request-Id": "mine"})
        ask(server, "POST", "/v1/generate", {"steps": 1})
        server.stop()
        lines = [json.loads(line) for line in server.lines if line != "(end of the log)"]
        self.assertEqual([line["event"] for line in lines],
                         ["listening", "request", "request", "draining", "stopped"])
        self.assertEqual((lines[1]["status"], lines[1]["id"]), (404, "mine"))
        self.assertTrue(lines[1]["path"].startswith("/\"\\\n\x7f"), lines[1])
        self.assertEqual(lines[1]["peer"], "127.0.0.1")
        self.assertGreater(lines[2]["compute_ms"], 0)

    def test_level(self):
        """At warn a healthy server says nothing; its port is then the one it was given."""
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        command = [SERVER, "--model", TINY, "--log-level", "warn", "--listen", f"127.0.0.1:{port}"]
        with subprocess.Popen([str(word) for word in command], env=environment(), text=True,
                              stderr=subprocess.PIPE) as process:
            wait_until(lambda: self.listens(port) or process.poll() is not None, "a listener")
            process.terminate()
            self.assertEqual((process.communicate()[1], process.returncode), ("", 0))

    @staticmethod
    def listens(port):
        with socket.socket() as one:
            return one.connect_ex(("127.0.0.1", port)) == 0


class TestAddresses(unittest.TestCase):

    def test_all_addresses(self):
        server = Server("--listen", "0.0.0.0:0")  # the last flag of a name counts
        self.addCleanup(server.stop)
        server.address = "127.0.0.1", server.address[1]
        self.assertEqual(ask(server, "GET", "/livez").status, 200)


if __name__ == "__main__":
    unittest.main()
