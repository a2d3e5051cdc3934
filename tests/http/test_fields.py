"""Bodies that cannot be accepted: each gets its exact status and a pointer to the field."""
import json
import unittest

from support import JSON, ServerCase, ask

# Field, values that are refused. The field is also where the problem has to point.
OUT_OF_RANGE = {
    "model": ["", "x" * 96, 1, None, ["tiny-pg-32"]],
    "class": ["", "class 10", "x" * 96, 10, -1, 2**31, 2**40, 1.5, True, [], {}],
    "n": [0, 9, -1, "1", None, True, 2**40],
    "size": ["", "32", "32x", "x32", "32x32x32", "32X32", "-32x32", "32 x 32", "0x0", "0x32",
             "16x16", "33x32", "1000000x32", "9999999x32", "100000x100000", 32, None, [32, 32]],
    "steps": [0, -1, 257, 1.5, "x", "20", True, None, [], 2**40],
    "solver": ["", "ddim", "EULER", 0, None, True],
    "guidance": [-0.01, 20.01, 1e300, "1.5", None, True],
    "seed": [-1, 2**53, 1.5, "7", None, True],
    "index": [-1, 2**32 - 8, "0", 0.5, None, False],
    "skip": ["", "all", "None", "x" * 96, 1, None, True, [], {}, {"t_break": 0.5, "schedule": []}],
    "format": ["", "gif", "JPEG", "jpg", "image/png", 1, None],
    "quality": [0, 101, -1, 50.5, "90", None, True],
    "progressive": [0, 1, "true", "", None, []],
}

# What is inside skip, and where the problem has to point.
BAD_SKIPS = [
    ({"t_break": -0.1}, "/skip/t_break"),
    ({"t_break": 1.1}, "/skip/t_break"),
    ({"t_break": "0.5"}, "/skip/t_break"),
    ({"t_break": True}, "/skip/t_break"),
    ({"steps": [1]}, "/skip/steps"),
    ({"schedule": []}, "/skip/schedule"),
    ({"schedule": {}}, "/skip/schedule"),
    ({"schedule": [{"until": 1, "skip": []}] * 257}, "/skip/schedule"),
    ({"schedule": [1]}, "/skip/schedule/0"),
    ({"schedule": [{"until": 1}]}, "/skip/schedule/0"),
    ({"schedule": [{"skip": []}]}, "/skip/schedule/0"),
    ({"schedule": [{"until": 0, "skip": []}]}, "/skip/schedule/0"),
    ({"schedule": [{"until": 0.5, "skip": []}, {"until": 0.5, "skip": []}]}, "/skip/schedule/1"),
    ({"schedule": [{"until": 1.5, "skip": []}]}, "/skip/schedule/0/until"),
    ({"schedule": [{"until": "1", "skip": []}]}, "/skip/schedule/0/until"),
    ({"schedule": [{"until": 1, "skip": 0}]}, "/skip/schedule/0/skip"),
    ({"schedule": [{"until": 1, "skip": [8]}]}, "/skip/schedule/0/skip"),
    ({"schedule": [{"until": 1, "skip": [-1]}]}, "/skip/schedule/0/skip"),
    ({"schedule": [{"until": 1, "skip": ["0"]}]}, "/skip/schedule/0/skip"),
    ({"schedule": [{"until": 1, "skip": [3]}]}, "/skip/schedule/0/skip"),
    ({"schedule": [{"until": 1, "skip": [0, 1, 2]}]}, "/skip/schedule/0/skip"),
    ({"schedule": [{"until": 1, "skip": [], "also": 1}]}, "/skip/schedule/0/also"),
]

NOT_JSON = {
    "empty": b"",
    "blank": b" \r\n\t ",
    "cut": b'{"steps": 2',
    "two values": b'{"steps": 2} {}',
    "an array": b"[]",
    "a number": b"1",
    "null": b"null",
    "not UTF-8": b'{"class": "\xff\xfe"}',
    "half a character": b'{"class": "\xc3"}',
    "overlong slash": b'{"class": "\xc0\xaf"}',
    "half an escape": b'{"class": "\\ud8\xcd\x9c"}',
    "lone surrogate": b'{"class": "\\ud800"}',
    "NUL in text": b'{"class": "class 1\\u0000"}',
    "NUL after": b'{"steps": 2}\x00',
    "byte order mark": b'\xef\xbb\xbf{"steps": 2}',
    "UTF-16": '{"steps": 2}'.encode("utf-16"),
    "duplicate key": b'{"steps": 2, "steps": 3}',
    "duplicate key inside": b'{"skip": {"t_break": 0, "t_break": 1}}',
    "deep arrays": b"[" * 60_000,
    "deep objects": b'{"a":' * 12_000,
    "deep field": b'{"skip": ' + b"[" * 30_000 + b"]" * 30_000 + b"}",
    "NaN": b'{"guidance": NaN}',
    "Infinity": b'{"guidance": Infinity}',
    "overflow": b'{"guidance": 1e400}',
    "huge integer": b'{"seed": 99999999999999999999}',
    "leading zero": b'{"seed": 01}',
    "plus sign": b'{"seed": +1}',
    "hexadecimal": b'{"seed": 0x10}',
    "single quotes": b"{'steps': 2}",
    "comment": b'{"steps": 2} // two',
    "trailing comma": b'{"steps": 2,}',
}


class TestFields(ServerCase):
    """One server refuses all of this and works afterwards."""

    def tearDown(self):
        self.assertEqual(ask(self.server, "GET", "/livez").status, 200)

    def test_values_out_of_range(self):
        for field, values in OUT_OF_RANGE.items():
            for value in values:
                with self.subTest(**{field: str(value)[:40]}):
                    self.refused(self.generate({field: value}), 422, "/" + field)

    def test_values_at_the_edge_of_the_range(self):
        """The neighbours of what is refused are accepted; otherwise the test above proves little."""
        good = [{"n": 8}, {"class": 9}, {"class": 0}, {"class": "CLASS 3"}, {"class": None},
                {"steps": 1}, {"guidance": 0}, {"guidance": 20}, {"seed": 0}, {"seed": 2**53 - 1},
                {"index": 2**32 - 9}, {"skip": {"t_break": 0}}, {"skip": {"t_break": 1}},
                {"quality": 1}, {"quality": 100}, {"progressive": True},
                {"progressive": False}, {"progressive": True, "format": "png"}, {"format": "webp"}, {"size": "32x48"}, {"model": "tiny-pg-32"},
                {"skip": {"schedule": [{"until": 1, "skip": [0, 1]}]}}]
        for body in good:
            with self.subTest(str(body)):
                response = self.generate({"steps": 1, **body})
                self.assertEqual(response.status, 200, response.body[:300])

    def test_bad_skips(self):
        for skip, pointer in BAD_SKIPS:
            with self.subTest(str(skip)[:60]):
                self.refused(self.generate({"skip": skip}), 422, pointer)

    def test_not_json(self):
        for name, body in NOT_JSON.items():
            with self.subTest(name):
                self.refused(self.generate(body), 400)

    def test_unknown_model(self):
        problem = self.refused(self.generate({"model": "dall-e-3"}), 404, "/model")
        self.assertEqual(problem["detail"],
                         'there is no model "dall-e-3"; GET /v1/models lists them')

    def test_unknown_class_lists_classes(self):
        problem = self.refused(self.generate({"class": "durians"}), 422, "/class")
        self.assertIn("class 0, class 1", problem["detail"])

    def test_size_names_the_nearest(self):
        problem = self.refused(self.generate({"size": "100x61"}), 422, "/size")
        self.assertRegex(problem["detail"], "nearest is (96x64|112x64)")
        problem = self.refused(self.generate({"size": "100000x100000"}), 422, "/size")
        self.assertIn("at most 262144 pixels", problem["detail"])

    def test_unknown_field(self):
        problem = self.refused(self.generate({"colour": "red"}), 422, "/colour")
        self.assertIn("class", problem["detail"], "it says which fields there are")

    def test_unknown_field_is_escaped_in_its_pointer(self):
        """RFC 6901: "~" is written ~0 and "/" is written ~1."""
        self.refused(self.generate({"a/b": 1}), 422, "/a~1b")
        self.refused(self.generate({"m~n": 1}), 422, "/m~0n")

    def test_unknown_field_of_any_text(self):
        """Long names may be cut, but never in the middle of a character."""
        for name in ["", " ", "\n", "é", "日本語", "x" * 5000, "x" * 39 + "é", "x" * 38 + "日",
                     "\U0001f34e" * 30]:
            with self.subTest(name[:50]):
                response = self.generate({name: 1})
                self.assertEqual(response.status, 422)
                pointer = response.json()["errors"][0]["pointer"]
                self.assertTrue(("/" + name).startswith(pointer), pointer)

    def test_texts_of_any_characters(self):
        """A problem that quotes the client's text is valid JSON whatever that text is."""
        for text in ["\"", "\\", "\n", "\x7f", "é" * 47, "日" * 31, "\U0001f34e" * 23, "%s%n"]:
            with self.subTest(text[:10]):
                self.refused(self.generate({"class": text}), 422, "/class")
                self.refused(self.generate({"model": text}), 404, "/model")

    def test_media_type(self):
        body = json.dumps({"steps": 1}).encode()
        for name in ["text/json", "application/json5", "application/jsonp", "application", "",
                     "application/x-www-form-urlencoded", "multipart/form-data; boundary=x"]:
            with self.subTest(name):
                self.refused(self.generate(body, {"Content-Type": name}), 415)
        self.refused(self.generate(body, {"X-Other": "1"}), 415)  # none at all

    def test_media_type_that_is_json(self):
        for name in ["application/json", "Application/JSON", "application/json;charset=utf-8",
                     "application/json ; charset=UTF-8"]:
            with self.subTest(name):
                response = self.generate(b'{"steps": 1}', {"Content-Type": name})
                self.assertEqual(response.status, 200)

    def test_largest_body(self):
        """65536 bytes are read, one more is too much."""
        for size, status in [(65536, 200), (65537, 413)]:
            body = b'{"steps": 1}'.ljust(size)
            self.assertEqual(self.generate(body, JSON).status, status)


if __name__ == "__main__":
    unittest.main()
