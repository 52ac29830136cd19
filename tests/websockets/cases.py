"""The cases of the Autobahn|Testsuite, for a Python that is not 2.7.

The suite's programs are Python 2 and Twisted; what a case does and what it expects
of its peer is neither. This module runs the case files alone, as pip has installed
them, in a small Python 2 of their own: a string is octets (here a str of latin-1,
which keeps each octet as it is), and `autobahn` is the few names that they ask for.

Who plays them against a server is `conformance.py`.
"""

import binascii
import importlib.abc
import importlib.machinery
import importlib.util
import re
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

# Python 2 in the case files, and what it is in Python 3.
TRANSLATIONS = [
    # Never ends by itself; the suite does not play it either.
    (re.compile(r"^from case9_9_1 import \*$", re.M), ""),
    (re.compile(r"^( *)print +(.*)$", re.M), r"\1print(\2)"),
    # There `Case` is a class that does not derive from `object`.
    (re.compile(r"\(object, Case, ?\)"), "(Case,)"),
    (re.compile(r"\) / self\.p\.autoFragmentSize"), ") // self.p.autoFragmentSize"),
    (re.compile(r"\bimport binascii\b"), "import case_binascii as binascii"),
    (re.compile(r", pkg_resources, hashlib, binascii"), ", hashlib\nimport case_pkg_resources as pkg_resources"),
    (re.compile(r"\bautobahn\.websocket\.(protocol|compress|utf8validator)\b"), r"case_\1"),
]

STATE_CLOSED, STATE_CONNECTING, STATE_CLOSING, STATE_OPEN = range(4)


def octets(text):
    """The bytes of a Python 2 string."""
    return text if isinstance(text, bytes) else text.encode("latin-1")


class Offer:
    """A client's offer of permessage-deflate (RFC 7692 section 5.1)."""

    def __init__(
        self,
        acceptNoContextTakeover=True,
        acceptMaxWindowBits=True,
        requestNoContextTakeover=False,
        requestMaxWindowBits=0,
    ):
        self.acceptNoContextTakeover = acceptNoContextTakeover
        self.acceptMaxWindowBits = acceptMaxWindowBits
        self.requestNoContextTakeover = requestNoContextTakeover
        self.requestMaxWindowBits = requestMaxWindowBits

    def header(self):
        """As one element of Sec-WebSocket-Extensions."""
        return "; ".join(
            ["permessage-deflate"]
            + ["client_no_context_takeover"] * self.acceptNoContextTakeover
            + ["client_max_window_bits"] * self.acceptMaxWindowBits
            + ["server_no_context_takeover"] * self.requestNoContextTakeover
            + [f"server_max_window_bits={self.requestMaxWindowBits}"] * bool(self.requestMaxWindowBits)
        )


class Utf8Validator:
    """Whether a whole text is UTF-8: all that the cases ask, when they are made."""

    def reset(self):
        pass

    def validate(self, text):
        try:
            octets(text).decode()
        except UnicodeDecodeError:
            return (False, False)
        return (True, True)


class Loader(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Imports `case` and `case1_2_3` from the suite, translated."""

    def __init__(self, suite):
        self.directory = Path(suite, "case")
        testdata = lambda package, name: str(Path(suite, name))
        self.provided = {
            "case_binascii": {"b2a_hex": hexadecimal, "hexlify": hexadecimal},
            "case_pkg_resources": {"resource_filename": testdata},
            "case_protocol": {"WebSocketProtocol": SimpleNamespace(STATE_OPEN=STATE_OPEN)},
            "case_utf8validator": {"Utf8Validator": Utf8Validator},
            "case_compress": {
                "PerMessageDeflateOffer": Offer,
                "PerMessageDeflateOfferAccept": None,
                "PerMessageDeflateResponse": SimpleNamespace,
                "PerMessageDeflateResponseAccept": None,
            },
        }

    def find_spec(self, name, path=None, target=None):
        if name in self.provided or (name.startswith("case") and self.file(name).exists()):
            return importlib.machinery.ModuleSpec(name, self)
        return None

    def exec_module(self, module):
        name = module.__name__
        module.__dict__.update(self.provided.get(name, {}))
        if name not in self.provided:
            run(self.file(name), module)

    def file(self, name):
        return self.directory / f"{name}.py"


def hexadecimal(text):
    return binascii.b2a_hex(octets(text)).decode()


def run(file, module):
    # As latin-1, since a literal of Python 2 holds the octets of its file.
    source = file.read_text(encoding="latin-1")
    for pattern, replacement in TRANSLATIONS:
        source = pattern.sub(replacement, source)
    source = re.sub(r"\bcoding[=:]\s*\S+", "", source.split("\n", 1)[0]) + "\n" + source.partition("\n")[2]
    module.__dict__.update(xrange=range, unichr=chr)
    exec(compile(source, str(file), "exec"), module.__dict__)


def same(one, other):
    """Whether events are equal, be their payloads octets or strings of Python 2."""
    plain = lambda event: tuple(part.decode("latin-1") if isinstance(part, bytes) else part for part in event)
    return [plain(event) for event in one] == [plain(event) for event in other]


def load(suite):
    """All cases, by their numbers: `{"1.1.1": class, ...}`, in the suite's order."""
    sys.meta_path.insert(0, Loader(suite))
    every = ModuleType("every_case")
    run(Path(suite, "case", "__init__.py"), every)
    sys.modules["case"].Case.compare = lambda self, one, other: same(one, other)
    return {case.__name__.removeprefix("Case").replace("_", "."): case for case in every.Cases}
