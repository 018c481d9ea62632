"""Licences from a pair of Twinlease nodes: libtwinlease for Python, by ctypes alone.

    import twinlease

    with twinlease.Twinlease("client.tok") as licences:
        with licences.acquire("render", wait=60) as lease:
            ...                         # call lease.renew() whenever lease.renew_in is 0
        with licences.keep("render"):
            ...                         # or have a thread of the library do all that

One file, to be copied or installed; it needs nothing but Python 3.9 and libtwinlease.so.0. What the
dynamic linker does not find is named by the environment variable TWINLEASE_LIBRARY.

Units: spans are seconds (float), instants are datetime objects in UTC. Instants are the node's and
for display; what a lease is worth is counted in spans, on this machine's boot clock, so that a
wrong or stepping wall clock changes nothing.

Errors: whatever libtwinlease refuses raises TwinleaseError or one of its subclasses, one for each
code; str() of it is a sentence that says what is wrong and what to do. Arguments of a type that C
does not know raise TypeError or ValueError.

Threads: a Twinlease may be used by any number of threads at once. A Lease as well, but one call on
it waits for the other. No call holds the interpreter's lock while it waits for a node. After
os.fork() only the parent may go on; what the child has is a dead copy.

Ownership: close what you open, best by `with`. Leaving the block of a Lease or a Keeper gives its
seats back; closing a Twinlease stops its keepers, and leases stay leased: the state folder knows
them, and the next acquire() of this machine finds them. What is still open when the interpreter
ends is closed then.
"""

import atexit
import contextlib
import ctypes
import dataclasses
import datetime
import enum
import math
import os
import threading
import weakref
from ctypes import POINTER, byref, c_char, c_char_p, c_int, c_int64, c_size_t, c_uint, c_void_p

__all__ = [
    "Twinlease",
    "Lease",
    "Keeper",
    "verify",
    "version",
    "Code",
    "Link",
    "Event",
    "LeaseFacts",
    "Change",
    "Kept",
    "NodeStatus",
    "Status",
    "TwinleaseError",
    "UsageError",
    "NoSeat",
    "NoNode",
    "NotAuthorised",
    "LeaseLost",
    "VerificationFailed",
    "BadFile",
    "Refused",
    "BadAnswer",
    "Untrusted",
    "StateUnusable",
    "Interrupted",
]


# ---- outcomes ------------------------------------------------------------------------------------


class Code(enum.IntEnum):
    """enum twinlease_code; also the exit codes of the twinlease tool."""

    OK = 0
    ERROR = 1
    USAGE = 2
    NO_SEAT = 3
    NO_NODE = 4
    NOT_AUTHORISED = 5
    LEASE_LOST = 6
    VERIFICATION = 7
    BAD_FILE = 8
    REFUSED = 9
    BAD_ANSWER = 10
    UNTRUSTED = 11
    STATE = 12
    INTERRUPTED = 13

    @classmethod
    def _missing_(cls, value):
        return cls.ERROR  # a later library's


class Link(enum.IntEnum):
    """enum twinlease_link: which link of the chain verify() found broken."""

    NONE = 0
    PUBLISHER = 1
    ENTITLEMENT = 2
    INSTANCE = 3
    LEASE = 4
    TIME = 5

    @classmethod
    def _missing_(cls, value):
        return cls.NONE


class Event(enum.IntEnum):
    """enum twinlease_event: what a keeper tells."""

    ACQUIRED = 1  # a lease is held: a new one, or one found in the state folder
    RENEWED = 2
    TROUBLE = 3  # it could not be renewed, and is good until it expires
    LOST = 4  # it is over: expired, or ended from outside. No seat is held
    DENIED = 5  # no seat to be had


class TwinleaseError(Exception):
    """What libtwinlease refused. str() is a sentence for people.

    code        Code
    problem     stable code of the node's problem document, or ""
    link        Link, of VerificationFailed
    http_status of the node's answer; 0: there was none
    request_id  X-Request-Id of the answer, for the node's log, or ""
    seats, seats_used   of NoSeat, if the node said so; else None
    next_seat   of NoSeat: when the next seat is expected back (datetime), or None
    """

    def __init__(self, message, code=Code.ERROR):
        super().__init__(message)
        self.message = message
        self.code = code
        self.problem = self.request_id = ""
        self.link = Link.NONE
        self.http_status = 0
        self.seats = self.seats_used = self.next_seat = None


class UsageError(TwinleaseError):
    """An argument is missing or not valid."""


class NoSeat(TwinleaseError):
    """Every seat is leased; asking again later may help."""


class NoNode(TwinleaseError):
    """No node answers, or none can serve now."""


class NotAuthorised(TwinleaseError):
    """The node does not accept the token or the secret."""


class LeaseLost(TwinleaseError):
    """The lease has ended or is not known."""


class VerificationFailed(TwinleaseError):
    """A signature, a binding or a date does not hold; see `link`."""


class BadFile(TwinleaseError):
    """A file is missing, unreadable, malformed or out of date."""


class Refused(TwinleaseError):
    """The node understands the request and refuses it."""


class BadAnswer(TwinleaseError):
    """What answers does not speak like a Twinlease node."""


class Untrusted(TwinleaseError):
    """The certificate of the node does not verify."""


class StateUnusable(TwinleaseError):
    """The state folder cannot be used, and the caller requires it."""


class Interrupted(TwinleaseError):
    """interrupt(), or what was waiting, ended the wait."""


_ERRORS = {
    Code.USAGE: UsageError,
    Code.NO_SEAT: NoSeat,
    Code.NO_NODE: NoNode,
    Code.NOT_AUTHORISED: NotAuthorised,
    Code.LEASE_LOST: LeaseLost,
    Code.VERIFICATION: VerificationFailed,
    Code.BAD_FILE: BadFile,
    Code.REFUSED: Refused,
    Code.BAD_ANSWER: BadAnswer,
    Code.UNTRUSTED: Untrusted,
    Code.STATE: StateUnusable,
    Code.INTERRUPTED: Interrupted,
}


# ---- the header, in ctypes -----------------------------------------------------------------------
# The names are those of twinlease.h with a `_` for `struct twinlease_`; a test compares sizes,
# offsets, values and prototypes with the header.

_STATE_REQUIRED = 1 << 0
_ACQUIRE_ANOTHER = 1 << 0
_ACQUIRE_GRACE = 1 << 1
_KEEP_ONCE = 1 << 0
_KEEP_GRACE = 1 << 1
_STOP_LEASED = 1 << 0


class _error(ctypes.Structure):
    _fields_ = [
        ("code", c_int),
        ("link", c_int),
        ("http_status", c_int),
        ("problem", c_char * 48),
        ("request_id", c_char * 64),
        ("seats", c_int64),
        ("seats_used", c_int64),
        ("next_seat_ms", c_int64),
        ("message", c_char * 768),
        ("reserved", ctypes.c_uint64 * 8),
    ]


class _waiting(ctypes.Structure):
    _fields_ = [
        ("size", c_size_t),
        ("why", POINTER(_error)),
        ("waited_ms", c_int64),
        ("left_ms", c_int64),
        ("next_try_ms", c_int64),
    ]


class _change(ctypes.Structure):
    _fields_ = [
        ("size", c_size_t),
        ("event", c_int),
        ("lease", c_void_p),
        ("error", POINTER(_error)),
        ("next_try_ms", c_int64),
    ]


_warning_fn = ctypes.CFUNCTYPE(None, c_void_p, c_char_p)
_waiting_fn = ctypes.CFUNCTYPE(c_int, c_void_p, POINTER(_waiting))
_change_fn = ctypes.CFUNCTYPE(None, c_void_p, POINTER(_change))


class _options(ctypes.Structure):
    _fields_ = [
        ("size", c_size_t),
        ("token_path", c_char_p),
        ("state_dir", c_char_p),
        ("instance_thumbprint", c_char_p),
        ("flags", c_uint),
        ("connect_ms", c_uint),
        ("attempt_ms", c_uint),
        ("deadline_ms", c_uint),
        ("warning", _warning_fn),
        ("warning_context", c_void_p),
        ("retry_ms", c_uint),
    ]


class _acquire_options(ctypes.Structure):
    _fields_ = [
        ("size", c_size_t),
        ("count", c_int64),
        ("duration_seconds", c_int64),
        ("scope_ref", c_char_p),
        ("flags", c_uint),
        ("wait_ms", c_int64),
        ("waiting", _waiting_fn),
        ("waiting_context", c_void_p),
    ]


class _keep_options(ctypes.Structure):
    _fields_ = [
        ("size", c_size_t),
        ("count", c_int64),
        ("duration_seconds", c_int64),
        ("scope_ref", c_char_p),
        ("flags", c_uint),
        ("lease", c_void_p),
        ("changed", _change_fn),
        ("context", c_void_p),
    ]


class _kept(ctypes.Structure):
    _fields_ = [
        ("size", c_size_t),
        ("held", c_int),
        ("count", c_int64),
        ("acquired_ms", c_int64),
        ("expires_ms", c_int64),
        ("expires_in_ms", c_int64),
        ("renew_in_ms", c_int64),
        ("next_try_ms", c_int64),
        ("feature", c_char * 72),
        ("lease_ref", c_char * 40),
        ("scope_ref", c_char * 40),
        ("home", c_char * 40),
        ("error", _error),
        ("reserved", ctypes.c_uint64 * 8),
    ]


class _verify_options(ctypes.Structure):
    _fields_ = [
        ("size", c_size_t),
        ("publisher_key_pem", c_char_p),
        ("entitlement", c_char_p),
        ("lease_token", c_char_p),
        ("instance_jwks", c_char_p),
        ("feature", c_char_p),
        ("count_min", c_int64),
        ("now_ms", c_int64),
        ("tolerance_seconds", c_int64),
    ]


_OUT = POINTER(c_void_p)  # an opaque object that the caller owns from then on
_ERROR = POINTER(_error)

# function: (what it returns, its parameters). Enums are int, opaque objects are void *.
_PROTOTYPES = {
    "twinlease_version": (c_char_p, []),
    "twinlease_open": (c_int, [POINTER(_options), _OUT, _ERROR]),
    "twinlease_close": (None, [c_void_p]),
    "twinlease_interrupt": (None, [c_void_p]),
    "twinlease_resume": (None, [c_void_p]),
    "twinlease_reload": (c_int, [c_void_p, _ERROR]),
    "twinlease_instance_jwks": (c_char_p, [c_void_p]),
    "twinlease_instance_ref": (c_char_p, [c_void_p]),
    "twinlease_instance_thumbprint": (c_char_p, [c_void_p]),
    "twinlease_state_folder": (c_char_p, [c_void_p]),
    "twinlease_acquire": (c_int, [c_void_p, c_char_p, POINTER(_acquire_options), _OUT, _ERROR]),
    "twinlease_renew": (c_int, [c_void_p, c_void_p, _ERROR]),
    "twinlease_release": (c_int, [c_void_p, c_void_p, _ERROR]),
    "twinlease_lease_free": (None, [c_void_p]),
    "twinlease_lease_ref": (c_char_p, [c_void_p]),
    "twinlease_lease_origin_ref": (c_char_p, [c_void_p]),
    "twinlease_lease_scope_ref": (c_char_p, [c_void_p]),
    "twinlease_lease_feature": (c_char_p, [c_void_p]),
    "twinlease_lease_home": (c_char_p, [c_void_p]),
    "twinlease_lease_count": (c_int64, [c_void_p]),
    "twinlease_lease_created_ms": (c_int64, [c_void_p]),
    "twinlease_lease_expires_ms": (c_int64, [c_void_p]),
    "twinlease_lease_expires_in_ms": (c_int64, [c_void_p]),
    "twinlease_lease_renew_in_ms": (c_int64, [c_void_p]),
    "twinlease_lease_resumed": (c_int, [c_void_p]),
    "twinlease_lease_unconfirmed": (c_int, [c_void_p]),
    "twinlease_lease_token": (c_char_p, [c_void_p]),
    "twinlease_lease_entitlement": (c_char_p, [c_void_p]),
    "twinlease_list": (c_int, [c_void_p, _OUT, _ERROR]),
    "twinlease_recorded": (c_int, [c_void_p, _OUT, _ERROR]),
    "twinlease_list_count": (c_size_t, [c_void_p]),
    "twinlease_list_at": (c_void_p, [c_void_p, c_size_t]),
    "twinlease_list_free": (None, [c_void_p]),
    "twinlease_keep": (c_int, [c_void_p, c_char_p, POINTER(_keep_options), _OUT, _ERROR]),
    "twinlease_keeper_read": (c_int, [c_void_p, POINTER(_kept)]),
    "twinlease_keeper_stop": (c_int, [c_void_p, c_uint, _ERROR]),
    "twinlease_verify": (c_int, [POINTER(_verify_options), _ERROR]),
    "twinlease_status": (c_int, [c_void_p, _OUT, _ERROR]),
    "twinlease_status_origin_ref": (c_char_p, [c_void_p]),
    "twinlease_status_token_expires_ms": (c_int64, [c_void_p]),
    "twinlease_status_node_count": (c_size_t, [c_void_p]),
    "twinlease_status_node_url": (c_char_p, [c_void_p, c_size_t]),
    "twinlease_status_node_code": (c_int, [c_void_p, c_size_t]),
    "twinlease_status_node_message": (c_char_p, [c_void_p, c_size_t]),
    "twinlease_status_free": (None, [c_void_p]),
}

_LIBRARY = "libtwinlease.so.0"
_loading = threading.Lock()
_loaded = None


def _library():
    """The shared library, loaded when it is needed first."""
    global _loaded
    with _loading:
        if _loaded is None:
            path = os.environ.get("TWINLEASE_LIBRARY") or _LIBRARY
            try:
                library = ctypes.CDLL(path)
            except OSError as problem:
                raise OSError(
                    f"{path} cannot be loaded ({problem}); install libtwinlease, or name its file "
                    "in TWINLEASE_LIBRARY"
                ) from None
            for name, (returns, parameters) in _PROTOTYPES.items():
                function = getattr(library, name, None)
                if function is None:
                    raise OSError(f"{path} has no {name}(); install a current libtwinlease")
                function.restype, function.argtypes = returns, parameters
            _loaded = library
    return _loaded


def _exception(error):
    """The exception for a filled struct."""
    code = Code(error.code)
    made = _ERRORS.get(code, TwinleaseError)(_string(error.message), code)
    made.problem, made.request_id = _string(error.problem), _string(error.request_id)
    made.link, made.http_status = Link(error.link), error.http_status
    if error.seats >= 0:
        made.seats, made.seats_used = error.seats, error.seats_used
    made.next_seat = _instant(error.next_seat_ms)
    return made


def _call(name, *arguments):
    """A function that ends with a struct twinlease_error."""
    error = _error()
    if getattr(_library(), name)(*arguments, byref(error)) != Code.OK:
        raise _exception(error)


def _make(name, *arguments):
    """The same for one that gives an object."""
    made = c_void_p()
    _call(name, *arguments, byref(made))
    return made.value


# ---- values --------------------------------------------------------------------------------------


def _string(value):
    return value.decode("utf-8", "replace")


def _text(name, value):
    """An argument that may be None."""
    if value is None:
        return None
    if not isinstance(value, str):
        raise TypeError(f"{name} is {type(value).__name__}, not str")
    if "\0" in value:
        raise ValueError(f"{name} contains a NUL character")
    return value.encode("utf-8")


def _path(name, value):
    if value is None:
        return None
    value = os.fsencode(value)
    if b"\0" in value:
        raise ValueError(f"{name} contains a NUL character")
    return value


def _integer(name, value, highest=2**63 - 1):
    """ctypes would cut silently what does not fit."""
    if not isinstance(value, int):
        raise TypeError(f"{name} is {type(value).__name__}, not int")
    if not -(2**63) <= value <= highest:
        raise ValueError(f"{name} is {value}; at most {highest} is allowed")
    return value


def _milliseconds(name, seconds, highest=2**63 - 1):
    """A span that may be None, for 0. Rounded up, so that little does not become nothing."""
    if seconds is None:
        return 0
    if not 0 <= seconds < math.inf:
        raise ValueError(f"{name} is {seconds} seconds")
    return _integer(name, math.ceil(seconds * 1000), highest)


def _seconds(ms):
    return ms / 1000


def _instant(ms):
    if not ms:
        return None
    return datetime.datetime(1970, 1, 1, tzinfo=datetime.timezone.utc) + datetime.timedelta(
        milliseconds=ms
    )


@dataclasses.dataclass(frozen=True)
class LeaseFacts:
    """A lease at a moment. Spans in seconds, instants by the node's clock."""

    ref: str
    origin_ref: str
    scope_ref: str
    feature: str
    home: str  # node_ref of the node that decides about it
    count: int
    created: datetime.datetime
    expires: datetime.datetime
    expires_in: float  # for which it may still be used; 0: no longer
    renew_in: float  # until it should be renewed; 0: now
    resumed: bool  # acquire() found it in the state folder
    unconfirmed: bool  # acquire() was content with it (grace), and no node has confirmed it since
    token: str  # JWS
    entitlement: str  # JWS


def _facts(pointer):
    library = _library()

    def text(name):
        return _string(getattr(library, f"twinlease_lease_{name}")(pointer))

    return LeaseFacts(
        **{
            name: text(name)
            for name in ("ref", "origin_ref", "scope_ref", "feature", "home")
            + ("token", "entitlement")
        },
        count=library.twinlease_lease_count(pointer),
        created=_instant(library.twinlease_lease_created_ms(pointer)),
        expires=_instant(library.twinlease_lease_expires_ms(pointer)),
        expires_in=_seconds(library.twinlease_lease_expires_in_ms(pointer)),
        renew_in=_seconds(library.twinlease_lease_renew_in_ms(pointer)),
        resumed=bool(library.twinlease_lease_resumed(pointer)),
        unconfirmed=bool(library.twinlease_lease_unconfirmed(pointer)),
    )


@dataclasses.dataclass(frozen=True)
class Change:
    """What a keeper tells. lease: None with DENIED; error: with TROUBLE, LOST and DENIED;
    next_try: seconds until something is asked again, None: never."""

    event: Event
    lease: LeaseFacts = None
    error: TwinleaseError = None
    next_try: float = None


@dataclasses.dataclass(frozen=True)
class Kept:
    """How a keeper stands. What is not known is "" or None; spans in seconds."""

    held: bool
    feature: str
    count: int
    lease_ref: str
    scope_ref: str
    home: str
    acquired: datetime.datetime
    expires: datetime.datetime
    expires_in: float
    renew_in: float
    next_try: float  # None: never
    error: TwinleaseError  # why the last try failed; None: it did not


@dataclasses.dataclass(frozen=True)
class NodeStatus:
    url: str
    code: Code  # OK: ready
    message: str  # why not; "" if ready


@dataclasses.dataclass(frozen=True)
class Status:
    origin_ref: str  # "" if this machine has not enrolled
    token_expires: datetime.datetime  # until then the client token may enrol
    nodes: list  # of NodeStatus


# ---- proof ---------------------------------------------------------------------------------------


def verify(
    publisher_key,
    entitlement,
    lease_token,
    instance_jwks,
    *,
    feature=None,
    count=1,
    now=None,
    tolerance=300,
):
    """Verifies offline that the publisher's key signed the entitlement, that the entitlement names
    the instance's key, that this key signed the lease token, and that both are valid.

    publisher_key   PEM text of the key the program trusts
    feature, count  what the lease must be of, and how many seats it must have at least
    now             a datetime with a time zone; None: this machine's wall clock
    tolerance       whole seconds by which clocks may differ

    Raises VerificationFailed, whose `link` names what is broken, or UsageError."""
    options = _verify_options(
        size=ctypes.sizeof(_verify_options),
        publisher_key_pem=_text("publisher_key", publisher_key),
        entitlement=_text("entitlement", entitlement),
        lease_token=_text("lease_token", lease_token),
        instance_jwks=_text("instance_jwks", instance_jwks),
        feature=_text("feature", feature),
        count_min=_integer("count", count),
        now_ms=0 if now is None else math.floor(now.timestamp() * 1000),
        tolerance_seconds=_integer("tolerance", tolerance) or -1,
    )
    _call("twinlease_verify", byref(options))


def version():
    """Of the library: "0.1.0"."""
    return _string(_library().twinlease_version())


# ---- a handle ------------------------------------------------------------------------------------

_open = weakref.WeakSet()  # handles that the end of the interpreter closes


@atexit.register
def _close_all():
    for handle in list(_open):
        with contextlib.suppress(TwinleaseError):
            handle.close()


def _beside(take, ended):
    """take() in another thread, so that signals (Control-C) are seen in this one meanwhile: in a
    callback from C what a signal handler raises would be lost. If one raises, sets `ended`, which
    take() heeds, gives back what it took nevertheless, and goes on raising."""
    taken, done = [], threading.Event()

    def run():
        try:
            taken.append((take(), None))
        except BaseException as problem:  # pylint: disable=broad-except
            taken.append((None, problem))
        done.set()

    threading.Thread(target=run, name="twinlease acquire", daemon=True).start()
    try:
        done.wait()  # an interrupted join() may take the thread for ended
    except BaseException:
        ended.set()
        done.wait()
        ((lease, _),) = taken
        if lease is not None:
            with contextlib.suppress(TwinleaseError), lease:
                pass
        raise
    ((lease, problem),) = taken
    if problem is not None:
        raise problem
    return lease


class Twinlease:
    """This machine, as a client of one pair of nodes.

    token    path of a .tok file, or of a folder of which the newest valid one is used. None:
             $TWINLEASE_TOK
    state    folder of what must survive a restart, made if absent. "": nothing is stored. None:
             $TWINLEASE_STATE, else the place that twinlease.h names
    instance_thumbprint   of the instance's key (RFC 7638): refuses a token that another key signed
    state_required        raise StateUnusable where else a warning would do
    connect, attempt, deadline, retry   seconds: for a node to accept, for its answer while another
             is left to ask, for a whole call, and to go on asking after every node has failed.
             None: 1, 2, 10 and 3
    warning  called with a sentence when something could be done better; must not use this object

    Talks to nobody yet. Raises UsageError, BadFile, VerificationFailed, StateUnusable."""

    def __init__(
        self,
        token=None,
        state=None,
        *,
        instance_thumbprint=None,
        state_required=False,
        connect=None,
        attempt=None,
        deadline=None,
        retry=None,
        warning=None,
    ):
        self._handle = None
        self._process = os.getpid()
        self._inside = 0
        self._gate = threading.Condition()
        self._keepers = set()

        def warn(_context, sentence):
            warning(_string(sentence))

        # the library calls it as long as the handle is open
        self._warning = _warning_fn(warn) if warning else _warning_fn()

        def span(name, seconds):
            return _milliseconds(name, seconds, 2**32 - 1)

        options = _options(
            size=ctypes.sizeof(_options),
            token_path=_path("token", token),
            state_dir=_path("state", state),
            instance_thumbprint=_text("instance_thumbprint", instance_thumbprint),
            flags=_STATE_REQUIRED if state_required else 0,
            connect_ms=span("connect", connect),
            attempt_ms=span("attempt", attempt),
            deadline_ms=span("deadline", deadline),
            retry_ms=span("retry", retry),
            warning=self._warning,
        )
        self._handle = _make("twinlease_open", byref(options))
        _open.add(self)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def __del__(self):
        # A half-made object has no more than what __init__ came to.
        if getattr(self, "_handle", None) is not None:
            self.close()

    @contextlib.contextmanager
    def _busy(self):
        """The handle, if there is one, is not freed meanwhile."""
        with self._gate:
            handle = self._handle
            self._inside += 1
        try:
            yield handle
        finally:
            with self._gate:
                self._inside -= 1
                self._gate.notify_all()

    @contextlib.contextmanager
    def _use(self):
        if self._process != os.getpid():
            raise ValueError("this Twinlease is the parent process's")
        with self._busy() as handle:
            if handle is None:
                raise ValueError("this Twinlease is closed")
            yield handle

    def close(self):
        """Stops the keepers, interrupts what other threads are about, and ends the handle. Leases
        stay leased. May be called again. What it raises is why a keeper's seat could not be given
        back."""
        if self._process != os.getpid():
            return
        for keeper in list(self._keepers):
            keeper._refuse_own_thread()
        with self._gate:
            handle, self._handle = self._handle, None
        if handle is None:
            return
        _open.discard(self)
        _library().twinlease_interrupt(handle)
        self._wait_for_others()  # from here on nobody can start a keeper
        try:
            with contextlib.ExitStack() as stack:
                for keeper in list(self._keepers):
                    stack.callback(keeper.stop)
        finally:
            self._wait_for_others()  # who stops a keeper, too
            _library().twinlease_close(handle)

    def _wait_for_others(self):
        with self._gate:
            self._gate.wait_for(lambda: not self._inside)

    # ---- leases ----

    def acquire(
        self,
        feature,
        *,
        count=1,
        duration=0,
        scope=None,
        another=False,
        grace=False,
        wait=0,
        waiting=None,
    ):
        """Takes `count` seats of the feature and returns a Lease. One that this machine has already
        and that no running program uses is found and renewed instead.

        duration   whole seconds the lease shall last; 0: as long as the site gives
        scope      scope_ref, where several publishers have a feature of this name
        another    take a further seat even if there is a lease to be found
        grace      if no node answers, be content with a recorded lease as long as it is valid
        wait       seconds to go on asking while there is no seat or no node
        waiting    waiting(why, waited, left, next_try) is called before each pause, in a thread of
                   its own, with the exception that would have been raised, and seconds. If it
                   returns something true, the wait ends with Interrupted; what it raises ends the
                   wait and is raised

        Raises NoSeat, NoNode, NotAuthorised, Refused, BadAnswer, Untrusted, StateUnusable,
        UsageError, Interrupted."""
        raised, ended = [], threading.Event()

        def ask(_context, now):
            try:
                if waiting is None or ended.is_set():
                    return ended.is_set()
                now = now.contents
                spans = (now.waited_ms, now.left_ms, now.next_try_ms)
                return bool(waiting(_exception(now.why.contents), *map(_seconds, spans)))
            except BaseException as problem:  # pylint: disable=broad-except
                raised.append(problem)
                return 1

        options = _acquire_options(
            size=ctypes.sizeof(_acquire_options),
            count=_integer("count", count),
            duration_seconds=_integer("duration", duration),
            scope_ref=_text("scope", scope),
            flags=(_ACQUIRE_ANOTHER if another else 0) | (_ACQUIRE_GRACE if grace else 0),
            wait_ms=_milliseconds("wait", wait),
            waiting=_waiting_fn(ask),
        )
        feature = _text("feature", feature)

        def take():
            with self._use() as handle:
                return Lease(self, _make("twinlease_acquire", handle, feature, byref(options)))

        try:
            return _beside(take, ended) if wait else take()
        except Interrupted:
            if raised:
                raise raised[0]
            raise

    def _leases(self, name):
        with self._use() as handle:
            owner = _List(_make(name, handle))
        library = _library()
        return [
            Lease(self, library.twinlease_list_at(owner.pointer, index), owner)
            for index in range(library.twinlease_list_count(owner.pointer))
        ]

    def list(self):
        """The active leases of this machine, as a node knows them: a list of Lease."""
        return self._leases("twinlease_list")

    def recorded(self):
        """The leases in the state folder, whoever uses them; asks nobody."""
        return self._leases("twinlease_recorded")

    def keep(
        self,
        feature,
        *,
        count=1,
        duration=0,
        scope=None,
        once=False,
        lease=None,
        changed=None,
    ):
        """Starts a Keeper: a thread of the library that acquires a lease, renews it in time, and
        takes another when it is lost. Returns at once.

        once      when a lease was held and lost, do not take another
        lease     the Lease to begin with, which is the keeper's from then on
        changed   called with a Change, in the keeper's thread; may use this object and read the
                  keeper, but not stop it. What it raises goes to sys.unraisablehook

        Raises UsageError."""
        return Keeper(self, feature, count, duration, scope, once, lease, changed)

    # ---- the rest ----

    def status(self):
        """Asks each node of the client token whether it can serve: a Status."""
        library = _library()
        with self._use() as handle:
            pointer = _make("twinlease_status", handle)
        try:
            return Status(
                origin_ref=_string(library.twinlease_status_origin_ref(pointer)),
                token_expires=_instant(library.twinlease_status_token_expires_ms(pointer)),
                nodes=[
                    NodeStatus(
                        _string(library.twinlease_status_node_url(pointer, index)),
                        Code(library.twinlease_status_node_code(pointer, index)),
                        _string(library.twinlease_status_node_message(pointer, index)),
                    )
                    for index in range(library.twinlease_status_node_count(pointer))
                ],
            )
        finally:
            library.twinlease_status_free(pointer)

    verify = staticmethod(verify)

    def interrupt(self):
        """Ends calls that are under way, in whatever thread, and fails later ones, with
        Interrupted, until resume(). Keepers go on."""
        with self._use() as handle:
            _library().twinlease_interrupt(handle)

    def resume(self):
        with self._use() as handle:
            _library().twinlease_resume(handle)

    def reload(self):
        """Reads the client token again. If it cannot be used, or is another instance's, all stays
        as it was. Raises BadFile, VerificationFailed."""
        with self._use() as handle:
            _call("twinlease_reload", handle)

    def _own(self, name):
        with self._use() as handle:
            return _string(getattr(_library(), name)(handle))

    @property
    def instance_jwks(self):
        """Public keys of the instance (RFC 7517), for verify() elsewhere."""
        return self._own("twinlease_instance_jwks")

    @property
    def instance_ref(self):
        return self._own("twinlease_instance_ref")

    @property
    def instance_thumbprint(self):
        """RFC 7638, of the key that signed the client token."""
        return self._own("twinlease_instance_thumbprint")

    @property
    def state_folder(self):
        """The folder in use, or "" if nothing is stored."""
        with self._use() as handle:
            return os.fsdecode(_library().twinlease_state_folder(handle))


class _List:
    """Owns the leases of a list until the last of them is gone."""

    def __init__(self, pointer):
        self.pointer, self._process = pointer, os.getpid()

    def __del__(self):
        if self._process == os.getpid():
            _library().twinlease_list_free(self.pointer)


class Lease:
    """Seats of a feature. Made by Twinlease.acquire(), list() and recorded().

    As a context manager it gives its seats back at the end, if it still has them and nothing
    else has gone wrong with it; what fails then is raised unless an exception is under way."""

    def __init__(self, twinlease, pointer, owner=None):
        self._twinlease, self._pointer, self._owner = twinlease, pointer, owner
        self._process = os.getpid()
        self._lock = threading.RLock()

    def __enter__(self):
        return self

    def __exit__(self, kind, *_):
        try:
            if self.expires_in > 0:
                self.release()
        except TwinleaseError:
            if kind is None:
                raise
        finally:
            self.close()

    def __del__(self):
        if getattr(self, "_pointer", None) is not None:
            self.close()

    def __repr__(self):
        with self._lock:
            if self._pointer is None:
                return "<twinlease.Lease, closed>"
            facts = self.facts()
        return (
            f"<twinlease.Lease {facts.ref}: {facts.count} of {facts.feature}, "
            f"for {facts.expires_in:.0f} s>"
        )

    @contextlib.contextmanager
    def _use(self):
        with self._lock:
            if self._pointer is None or self._process != os.getpid():
                raise ValueError("this Lease is closed, or a keeper's")
            yield self._pointer

    def close(self):
        """Frees the object, not the seat. May be called again."""
        if self._process != os.getpid():
            return
        with self._lock:
            if self._owner is None and self._pointer is not None:
                _library().twinlease_lease_free(self._pointer)
            self._pointer = self._owner = None

    def renew(self):
        """Renews; the lease then has its new end and its new token. With NoNode, BadAnswer and
        Untrusted it is as good as before, until it expires. LeaseLost is final."""
        with self._use() as lease, self._twinlease._use() as handle:
            _call("twinlease_renew", handle, lease)

    def release(self):
        """Gives the seats back. Done also if the lease had ended before."""
        with self._use() as lease, self._twinlease._use() as handle:
            _call("twinlease_release", handle, lease)

    def facts(self):
        """All of it at this moment: LeaseFacts."""
        with self._use() as lease:
            return _facts(lease)

    def __getattr__(self, name):
        """The fields of LeaseFacts, each as of now."""
        if name in LeaseFacts.__dataclass_fields__:
            return getattr(self.facts(), name)
        raise AttributeError(f"a Lease has no {name}")


class Keeper:
    """A thread of the library that holds a lease. Made by Twinlease.keep(). As a context manager it
    stops at the end; a release that fails then raises unless an exception is under way."""

    def __init__(self, twinlease, feature, count, duration, scope, once, lease, changed):
        self._pointer = None
        self._stopping = False
        self._thread = None  # once something was told
        self._lock = threading.Lock()
        self._twinlease = twinlease
        own = weakref.ref(self)

        def tell(_context, change):
            keeper = own()
            if keeper is not None:
                keeper._thread = threading.get_ident()
            change = change.contents
            changed(
                Change(
                    event=Event(change.event),
                    lease=_facts(change.lease) if change.lease else None,
                    error=_exception(change.error.contents) if change.error else None,
                    next_try=_seconds(change.next_try_ms) if change.next_try_ms >= 0 else None,
                )
            )

        # the library calls it as long as the thread runs
        self._changed = _change_fn(tell) if changed else _change_fn()
        options = _keep_options(
            size=ctypes.sizeof(_keep_options),
            count=_integer("count", count),
            duration_seconds=_integer("duration", duration),
            scope_ref=_text("scope", scope),
            flags=_KEEP_ONCE if once else 0,
            changed=self._changed,
        )
        feature = _text("feature", feature)
        with twinlease._use() as handle, contextlib.ExitStack() as stack:
            if lease is not None:
                options.lease = stack.enter_context(lease._use())
            self._pointer = _make("twinlease_keep", handle, feature, byref(options))
            twinlease._keepers.add(self)
            if lease is not None:
                lease._pointer = None

    def __enter__(self):
        return self

    def __exit__(self, kind, *_):
        try:
            self.stop()
        except TwinleaseError:
            if kind is None:
                raise

    def _refuse_own_thread(self):
        if threading.get_ident() == self._thread and not self._stopping:
            raise UsageError("a keeper cannot be stopped by its own callback", Code.USAGE)

    def read(self):
        """How it stands now: Kept."""
        kept = _kept(size=ctypes.sizeof(_kept))
        with self._lock:
            # while it is being stopped, its own thread is still there, and what it uses as well
            if self._stopping and threading.get_ident() != self._thread:
                raise ValueError("this Keeper has been stopped")
            _library().twinlease_keeper_read(self._pointer, byref(kept))
        return Kept(
            held=bool(kept.held),
            feature=_string(kept.feature),
            count=kept.count,
            lease_ref=_string(kept.lease_ref),
            scope_ref=_string(kept.scope_ref),
            home=_string(kept.home),
            acquired=_instant(kept.acquired_ms),
            expires=_instant(kept.expires_ms),
            expires_in=_seconds(kept.expires_in_ms),
            renew_in=_seconds(kept.renew_in_ms),
            next_try=_seconds(kept.next_try_ms) if kept.next_try_ms >= 0 else None,
            error=_exception(kept.error) if kept.error.code != Code.OK else None,
        )

    def stop(self, leased=False):
        """Ends the thread and gives the seat back, or, if `leased`, leaves it to the next acquire()
        of this machine. May be called again. What it raises is why the seat could not be given
        back; it then comes back when the lease expires."""
        self._refuse_own_thread()
        if self._twinlease._process != os.getpid():
            return
        with self._twinlease._busy():
            with self._lock:
                if self._stopping:
                    return
                self._stopping = True
            try:
                _call("twinlease_keeper_stop", self._pointer, _STOP_LEASED if leased else 0)
            finally:
                self._thread = None
                self._twinlease._keepers.discard(self)
