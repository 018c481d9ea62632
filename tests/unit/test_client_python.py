#!/usr/bin/python3
"""test_client_python.py HEADER_LAYOUT

Whether client/python/twinlease.py says of the library what twinlease.h says: sizes and offsets as
header_layout, which was compiled against the header, prints them; prototypes as the header has
them. Nothing is loaded, so this is also for sanitized builds."""

import ctypes
import os
import re
import subprocess
import sys
import unittest
import unittest.mock

ROOT = os.path.realpath(os.path.join(os.path.dirname(os.path.realpath(__file__)), "..", ".."))
HEADER = os.path.join(ROOT, "client", "include", "twinlease.h")

sys.path.insert(0, os.path.join(ROOT, "client", "python"))
sys.dont_write_bytecode = True
import twinlease  # noqa: E402

# The binding has the names itself.
NOT_NEEDED = {"twinlease_code_name", "twinlease_link_name", "twinlease_event_name"}

KINDS = {
    None: "void",
    ctypes.c_int: "int",
    ctypes.c_uint: "unsigned",
    ctypes.c_int64: "int64_t",
    ctypes.c_size_t: "size_t",
    ctypes.c_char_p: "const char *",
    ctypes.c_void_p: "pointer",
}


def kind_in_python(type_):
    if type_ in KINDS:
        return KINDS[type_]
    assert issubclass(type_, ctypes._Pointer), type_
    if issubclass(type_._type_, ctypes.Structure):
        return f"struct twinlease{type_._type_.__name__} *"
    return "pointer"


def kind_in_c(text, known):
    """Of a type, or of a parameter with its name."""
    text = re.sub(r"\s+", " ", text).strip()
    if text.startswith("const char *"):
        return "const char *"
    if "**" in text:
        return "pointer"
    if "*" in text:
        name = re.match(r"(?:const )?(struct \w+)", text).group(1)
        return f"{name} *" if name in known else "pointer"
    if text.startswith("enum "):
        return "int"
    return text.split(" ")[0]


def prototypes_in_c():
    with open(HEADER, encoding="utf-8") as file:
        text = re.sub(r"/\*.*?\*/|^#[^\n]*", " ", file.read(), flags=re.S | re.M)
    known = {f"struct twinlease_{name}" for name in structs_in_python()}
    found = {}
    for match in re.finditer(r"TWINLEASE_API\s([^#;]*?)(\w+)\(([^;]*)\)[^;)]*;", text):
        returns, name, parameters = match.groups()
        parameters = re.sub(r"\)\s*TWINLEASE_MUST_USE\s*$", "", parameters)
        kinds = [kind_in_c(one, known) for one in parameters.split(",")]
        found[name] = (kind_in_c(returns, known), [] if kinds == ["void"] else kinds)
    return found


def structs_in_python():
    return {
        name[1:]: value
        for name, value in vars(twinlease).items()
        if isinstance(value, type) and issubclass(value, ctypes.Structure)
    }


class Layout(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        done = subprocess.run([cls.program], capture_output=True, text=True, check=True)
        cls.lines = [line.split() for line in done.stdout.splitlines()]

    def rows(self, kind):
        return [line[1:] for line in self.lines if line[0] == kind]

    def test_structs(self):
        sizes = {name: int(size) for name, size in self.rows("struct")}
        self.assertEqual(
            sizes, {name: ctypes.sizeof(one) for name, one in structs_in_python().items()}
        )

    def test_members(self):
        for name, struct in structs_in_python().items():
            expected = [
                (member, int(offset), int(size))
                for owner, member, offset, size in self.rows("member")
                if owner == name
            ]
            fields = [(member, getattr(struct, member)) for member, _ in struct._fields_]
            self.assertEqual(
                expected, [(member, field.offset, field.size) for member, field in fields], name
            )

    def test_values(self):
        values = {name: int(value) for name, value in self.rows("value")}
        codes = {name: int(value) for name, value in self.rows("code")}
        for enum, prefix in ((twinlease.Link, "LINK_"), (twinlease.Event, "EVENT_")):
            self.assertEqual(
                {name: value for name, value in values.items() if name.startswith(prefix)},
                {prefix + one.name: one.value for one in enum},
            )
        self.assertEqual(codes, {one.name: one.value for one in twinlease.Code})
        flags = ("STATE_REQUIRED", "ACQUIRE_ANOTHER", "ACQUIRE_GRACE", "KEEP_ONCE", "KEEP_GRACE")
        for name in flags:
            self.assertEqual(values[name], getattr(twinlease, f"_{name}"))
        self.assertEqual(values["STOP_LEASED"], twinlease._STOP_LEASED)

    def test_every_code_but_two_has_an_exception(self):
        self.assertEqual(
            set(twinlease._ERRORS), set(twinlease.Code) - {twinlease.Code.OK, twinlease.Code.ERROR}
        )

    def test_prototypes(self):
        header = prototypes_in_c()
        self.assertEqual(set(header) - NOT_NEEDED, set(twinlease._PROTOTYPES))
        for name, (returns, parameters) in twinlease._PROTOTYPES.items():
            bound = (kind_in_python(returns), [kind_in_python(one) for one in parameters])
            self.assertEqual(header[name], bound, name)


class Values(unittest.TestCase):
    def test_what_c_would_cut_is_refused(self):
        for value in (2**63, -(2**63) - 1):
            self.assertRaises(ValueError, twinlease._integer, "count", value)
        self.assertEqual(twinlease._integer("count", 2**63 - 1), 2**63 - 1)
        self.assertRaises(TypeError, twinlease._integer, "count", 1.5)
        self.assertRaises(TypeError, twinlease._text, "feature", b"render")
        self.assertRaises(ValueError, twinlease._text, "feature", "ren\0der")
        self.assertRaises(ValueError, twinlease._path, "token", "client\0.tok")
        for seconds in (-0.001, float("nan"), float("inf"), 2**63):
            self.assertRaises(ValueError, twinlease._milliseconds, "wait", seconds)
        self.assertRaises(ValueError, twinlease._milliseconds, "retry", 2**32 / 1000, 2**32 - 1)

    def test_spans_are_rounded_up(self):
        for seconds, ms in ((None, 0), (0, 0), (0.0001, 1), (1, 1000), (1.0005, 1001)):
            self.assertEqual(twinlease._milliseconds("wait", seconds), ms)

    def test_instants(self):
        self.assertIsNone(twinlease._instant(0))
        self.assertEqual(
            twinlease._instant(1795252209123).isoformat(), "2026-11-21T09:10:09.123000+00:00"
        )

    def test_codes_of_a_later_library(self):
        self.assertIs(twinlease.Code(77), twinlease.Code.ERROR)
        self.assertIs(twinlease.Link(77), twinlease.Link.NONE)
        error = twinlease._error(code=77, seats=-1, message=b"neu: \xc3\xa4")
        made = twinlease._exception(error)
        self.assertIs(type(made), twinlease.TwinleaseError)
        self.assertEqual((str(made), made.seats), ("neu: ä", None))

    def test_a_missing_library_is_named(self):
        with unittest.mock.patch.dict(os.environ, TWINLEASE_LIBRARY="/nowhere/lib.so"):
            with self.assertRaisesRegex(OSError, "/nowhere/lib.so.*TWINLEASE_LIBRARY"):
                twinlease.version()


if __name__ == "__main__":
    Layout.program = sys.argv.pop(1)
    unittest.main(verbosity=0)
