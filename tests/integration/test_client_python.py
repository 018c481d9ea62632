"""client/python/twinlease.py against a node and a pair."""

import os
import signal
import stat
import time

import pytest

import jose
from binding import Program
from node import expect
from pair import SLOWNESS
from tls import pem_public
from waiting import wait_until


@pytest.fixture
def programs(nodes, tmp_path):
    """programs(node) starts a program that is at home in a folder and has a client token of this
    node; the same name again: on the same machine, as it were. They end before the nodes do."""
    made = []

    def start(node, name="machine", **environment):
        folder = tmp_path / name
        folder.mkdir(exist_ok=True)
        token = folder / "client.tok"
        if not token.exists():
            token.write_text(node.client_token())
        made.append(
            Program(
                folder,
                TWINLEASE_TOK=str(token),
                TWINLEASE_STATE=str(folder / "state"),
                **environment,
            )
        )
        return made[-1]

    yield start
    for program in made:
        program.end()


@pytest.fixture
def program(programs, node, with_seats):
    with_seats(2)
    program = programs(node)
    program("licences = twinlease.Twinlease()")
    return program


def active(node):
    return sorted(lease["lease_ref"] for lease in node.leases() if lease["state"] == "active")


# ---- leases --------------------------------------------------------------------------------------


def test_a_lease_from_beginning_to_end(program, node):
    program("lease = licences.acquire('render', duration=600)")
    ref = program("lease.ref")
    assert active(node) == [ref]
    facts = program("vars(lease.facts())")
    assert facts["feature"] == "render" and facts["count"] == 1
    assert 590 < facts["expires_in"] <= 600
    assert 0 < facts["renew_in"] <= 90
    assert not facts["resumed"] and not facts["unconfirmed"]
    assert program("(lease.expires - lease.created).total_seconds()") == 600
    assert program("lease.created.tzinfo is not None")
    before = program("lease.token")
    program("lease.renew()")
    assert program("lease.token") != before
    assert program("[one.ref for one in licences.list()]") == [ref]
    assert program("[one.ref for one in licences.recorded()]") == [ref]
    assert program("repr(lease)").startswith(f"<twinlease.Lease {ref}: 1 of render, for ")
    program("lease.release()")
    assert program("lease.expires_in") == 0
    assert active(node) == [] == program("licences.list()") == program("licences.recorded()")
    program("lease.close(); lease.close()")
    assert "closed" in program.fails("ValueError", "lease.renew()").message
    assert program("repr(lease)") == "<twinlease.Lease, closed>"


def test_a_block_gives_the_seat_back(program, node):
    program("with licences.acquire('render') as lease: inside = lease.ref")
    assert program("inside") and active(node) == []
    # also when it ends in disorder
    failure = program.fails(
        "ZeroDivisionError", "with licences.acquire('render', count=2) as lease: 1 / 0"
    )
    assert "division" in failure.message and active(node) == []


def test_leases_of_a_list_can_be_used(program, node):
    program("lease = licences.acquire('render')")
    program("(listed,) = licences.list()")
    program("listed.renew(); listed.release(); del listed")
    assert active(node) == []
    failure = program.fails("LeaseLost", "lease.renew()")
    assert failure.more["code"] == 6 and failure.more["problem"] == "lease_ended"


def test_no_seat_says_who_has_them(program, node):
    program("lease = licences.acquire('render', count=2)")
    failure = program.fails("NoSeat", "licences.acquire('render', another=True)")
    assert (failure.more["seats"], failure.more["seats_used"]) == (2, 2)
    assert failure.more["problem"] == "no_free_seat" and failure.more["request_id"]
    assert failure.more["http_status"] == 409 and failure.more["next_seat"]
    assert failure.more["code"] == 3


def in_thread(program, expression, name="got"):
    """Evaluates it beside what else is asked; the result is appended to this list."""
    program(f"{name} = []")
    program(f"threading.Thread(target=lambda: {name}.append({expression})).start()")


def test_waiting_for_a_seat(program, programs, node):
    other = programs(node, "other")
    other("licences = twinlease.Twinlease(); lease = licences.acquire('render', count=2)")
    program("said = []")
    in_thread(
        program,
        "licences.acquire('render', wait=60, waiting=lambda *all: said.append(all))",
    )
    wait_until(lambda: program("len(said)") >= 2, 30, "it waits")
    other("lease.release()")
    wait_until(lambda: program("len(got)") == 1, 30, "it gets the seat")
    assert active(node) == [program("got[0].ref")]
    for why, waited, left, following in program(
        "[(type(one[0]).__name__, *one[1:]) for one in said]"
    ):
        assert why == "NoSeat" and 0 <= following <= 3
        assert 0 <= waited <= 60 and 59.9 <= waited + left <= 60.1


def test_a_wait_can_be_ended(program, programs, node):
    program("held = licences.acquire('render', count=2)")
    program.fails(
        "Interrupted", "licences.acquire('render', another=True, wait=60, waiting=lambda *_: True)"
    )
    # what the callback raises comes out
    failure = program.fails(
        "KeyError",
        "licences.acquire('render', another=True, wait=60, waiting=lambda *_: {}['gone'])",
    )
    assert "gone" in failure.message
    program(
        "def soon(*_):\n"
        "    threading.Thread(target=licences.interrupt).start()\n"
    )
    program.fails(
        "Interrupted", "licences.acquire('render', another=True, wait=60, waiting=soon)"
    )
    program.fails("Interrupted", "held.renew()")
    program("licences.resume()")
    program("held.renew()")


def test_control_c_ends_a_wait(program):
    program("held = licences.acquire('render', count=2)")
    program(
        "def wait():\n"
        "    try: licences.acquire('render', another=True, wait=600, waiting=ask)\n"
        "    except KeyboardInterrupt: return True\n"
        "def ask(*_):\n"
        "    if not asked: os.kill(os.getpid(), 2)\n"
        "    asked.append(True)\n"
        "asked = []"
    )
    assert program("wait()") is True
    assert program("len(asked)") < 5
    program("held.renew()")  # nothing else was ended


# ---- arguments -----------------------------------------------------------------------------------


def test_wrong_arguments(program):
    program.fails("UsageError", "licences.acquire('no feature')")
    program.fails("UsageError", "licences.acquire(None)")
    program.fails("UsageError", "licences.acquire('render', count=-1)")
    program.fails("UsageError", "licences.acquire('render', scope='x')")
    program.fails("ValueError", "licences.acquire('render', count=2**64 + 1)")
    program.fails("TypeError", "licences.acquire(b'render')")
    program.fails("ValueError", "licences.acquire('render\\0')")
    program.fails("ValueError", "licences.acquire('render', wait=-1)")
    program.fails("BadFile", "twinlease.Twinlease('nowhere.tok')")
    program.fails("UsageError", "twinlease.Twinlease('client.tok', deadline=2**21)")
    program.fails("ValueError", "twinlease.Twinlease('client.tok', retry=2**31)")
    program("licences.close(); licences.close()")
    program.fails("ValueError", "licences.acquire('render')")
    program.fails("ValueError", "licences.state_folder")


def test_the_instance_can_be_pinned(program, node):
    thumbprint = program("licences.instance_thumbprint")
    assert thumbprint == node.instance_thumbprint
    program(f"twinlease.Twinlease(instance_thumbprint={thumbprint!r}).close()")
    program.fails("VerificationFailed", f"twinlease.Twinlease(instance_thumbprint={'A' * 43!r})")


# ---- offline, status -----------------------------------------------------------------------------


def test_a_lease_is_verified_offline(program, node, publisher):
    key = pem_public(publisher.key.public_key()).decode()
    program(f"lease = licences.acquire('render'); key = {key!r}")
    program("chain = [key, lease.entitlement, lease.token, licences.instance_jwks]")
    node.stop()
    program("twinlease.verify(*chain, feature='render')")
    program("licences.verify(*chain)")
    for change, link in (
        ({0: repr(pem_public(jose.make_key("ec").public_key()).decode())}, 1),
        ({1: "chain[1][:-8] + 'AAAAAAAA'"}, 2),
        ({2: "chain[2][:-8] + 'AAAAAAAA'"}, 4),
    ):
        ((index, expression),) = change.items()
        program(f"bad = list(chain); bad[{index}] = {expression}")
        failure = program.fails("VerificationFailed", "twinlease.verify(*bad)")
        assert failure.more["link"] == link, failure
    late = "lease.expires + __import__('datetime').timedelta(seconds={})"
    program(f"twinlease.verify(*chain, now={late.format(299)})")
    for more in (f"now={late.format(301)}", f"now={late.format(2)}, tolerance=0"):
        failure = program.fails("VerificationFailed", f"twinlease.verify(*chain, {more})")
        assert failure.more["link"] == 5
    assert program.fails("VerificationFailed", "twinlease.verify(*chain, count=2)")
    assert program.fails("VerificationFailed", "twinlease.verify(*chain, feature='other')")
    assert program.fails("UsageError", "twinlease.verify(None, *chain[1:])")


def test_status(program, node):
    status = program("vars(licences.status())")
    assert status["origin_ref"] == ""
    program("lease = licences.acquire('render')")
    assert program("licences.status().origin_ref") == program("lease.origin_ref")
    asked = "[(one.url, one.code.name, one.message) for one in licences.status().nodes]"
    assert program(asked) == [[node.url, "OK", ""]]
    node.stop()
    ((_, code, message),) = program(asked)
    assert code == "NO_NODE" and message


# ---- what survives -------------------------------------------------------------------------------


def test_a_restart_finds_its_lease(program, programs, node):
    ref = program("(lease := licences.acquire('render')).ref")
    second = programs(node)
    second("licences = twinlease.Twinlease()")
    second("other = licences.acquire('render')")
    assert second("other.ref") != ref  # it is in use
    second("other.release(); licences.close()")
    program.kill()
    third = programs(node)
    third("licences = twinlease.Twinlease()")
    assert third("(lease := licences.acquire('render')).ref") == ref
    assert third("lease.resumed") is True
    assert active(node) == [ref]


def test_the_child_of_a_fork_leaves_the_lease_alone(program, programs, node):
    ref = program("(lease := licences.acquire('render')).ref")
    program(
        "def fork():\n"
        "    child = os.fork()\n"
        "    if child: return os.waitpid(child, 0)[1]\n"
        "    code = 1\n"
        "    try:\n"
        "        lease.close(); licences.close(); lease.renew()\n"
        "    except ValueError: code = 0\n"
        "    os._exit(code)\n"
    )
    assert program("fork()") == 0
    second = programs(node)
    assert second("twinlease.Twinlease().acquire('render').ref") != ref
    program("lease.renew()")


def test_a_state_folder_that_is_lost(program, node, tmp_path):
    program("said = []; licences.close()")
    program("licences = twinlease.Twinlease(warning=said.append)")
    program("lease = licences.acquire('render')")
    program("import shutil; shutil.rmtree(os.environ['TWINLEASE_STATE'])")
    program("lease.renew(); lease.release()")
    assert active(node) == []
    assert not program("[one for one in said if 'cannot' not in one]")


def test_a_state_folder_that_cannot_be_written(program, node, tmp_path):
    blocked = tmp_path / "file"
    blocked.write_text("no folder")
    program("said = []")
    program(f"here = twinlease.Twinlease(state={str(blocked / 'state')!r}, warning=said.append)")
    program("with here.acquire('render') as lease: lease.renew()")
    assert program("len(said)") >= 1 and str(blocked) in program("said[0]")
    failure = program.fails(
        "StateUnusable",
        f"twinlease.Twinlease(state={str(blocked / 'state')!r}, state_required=True)",
    )
    assert str(blocked) in failure.message
    program("here.close(); here = twinlease.Twinlease(state='')")
    assert program("here.state_folder") == ""
    program("here.acquire('render').release(); here.close()")


def test_the_state_folder_is_private(program):
    program("lease = licences.acquire('render')")
    folder = program("licences.state_folder")
    assert stat.S_IMODE(os.stat(folder).st_mode) == 0o700
    for name in os.listdir(folder):
        assert stat.S_IMODE(os.stat(os.path.join(folder, name)).st_mode) == 0o600


def test_the_token_can_be_replaced(program, node, tmp_path):
    token = tmp_path / "machine" / "client.tok"
    program("licences.reload()")
    good = token.read_text()
    token.write_text("nothing")
    program.fails("BadFile", "licences.reload()")
    program("licences.acquire('render').release()")  # the old one still holds
    token.write_text(good)
    program("licences.reload()")


# ---- threads -------------------------------------------------------------------------------------


def test_threads_share_a_handle(programs, node, with_seats):
    with_seats(8)
    program = programs(node)
    program("licences = twinlease.Twinlease(); refs, failures = set(), []")
    program(
        "def work():\n"
        "    try:\n"
        "        for _ in range(5):\n"
        "            with licences.acquire('render') as lease:\n"
        "                refs.add(lease.ref); lease.renew(); licences.list()\n"
        "    except Exception as problem: failures.append(repr(problem))\n"
    )
    program("threads = [threading.Thread(target=work) for _ in range(8)]")
    program("[thread.start() for thread in threads] and [thread.join() for thread in threads]")
    assert program("failures") == []
    assert program("len(refs)") >= 8
    assert active(node) == [] and len(node.origins()) == 1


def test_closing_ends_what_others_are_about(program):
    program("held = licences.acquire('render', count=2); ended = []; asked = threading.Event()")
    program(
        "def queue():\n"
        "    try: licences.acquire('render', another=True, wait=600,\n"
        "                          waiting=lambda *_: asked.set())\n"
        "    except twinlease.Interrupted: ended.append(True)\n"
    )
    program("(thread := threading.Thread(target=queue)).start()")
    assert program("asked.wait(60)")
    program("licences.close(); thread.join()")
    assert program("ended") == [True]


# ---- a pair --------------------------------------------------------------------------------------


@pytest.fixture
def licensed_pair(make_pair):
    pair = make_pair()
    pair.install(20)
    return pair


def test_a_node_that_dies_costs_no_call(licensed_pair, programs):
    pair = licensed_pair
    program = programs(pair.primary)
    program("licences = twinlease.Twinlease()")
    program("lease = licences.acquire('render')")
    pair.wait_equal()
    pair.primary.kill()
    program("began = time.monotonic(); lease.renew()")
    assert program("time.monotonic() - began") < 3 * SLOWNESS
    assert program("[one.code.name for one in licences.status().nodes]") == ["NO_NODE", "OK"]
    program("other = licences.acquire('render'); other.release(); lease.renew()")
    pair.primary.start_alive()
    pair.wait_connected()
    pair.secondary.kill()
    program("lease.renew(); lease.release()")
    pair.secondary.start_alive()
    pair.wait_connected()
    pair.wait_equal()
    assert active(pair.primary) == []


# ---- keepers -------------------------------------------------------------------------------------


def told(program):
    return program("[one.event.name for one in changes]")


def wait_told(program, name, times=1, seconds=60):
    wait_until(
        lambda: told(program).count(name) >= times,
        seconds * SLOWNESS,
        lambda: f"{name}: {program('[str(one) for one in changes]')}",
    )


def start_keeper(program, more=""):
    program("licences = twinlease.Twinlease()")
    program(f"keeper = licences.keep('render', changed=changes.append, {more})")
    wait_told(program, "ACQUIRED")
    return program("keeper.read().lease_ref")


def test_a_keeper_holds_a_lease(programs, node, with_seats):
    with_seats(1)
    program = programs(node)
    ref = start_keeper(program, "duration=8")
    assert active(node) == [ref]
    kept = program("vars(keeper.read())")
    assert kept["held"] and kept["feature"] == "render" and kept["count"] == 1
    assert 0 < kept["expires_in"] <= 8 and kept["error"] is None and kept["next_try"] is not None
    wait_told(program, "RENEWED", 3)
    assert program("{one.lease.ref for one in changes} == {keeper.read().lease_ref}")
    program.fails("TypeError", "licences.keep('render', count='1')")
    program.fails("UsageError", "licences.keep('no feature')")
    program("keeper.stop(); keeper.stop()")
    assert active(node) == []
    program.fails("ValueError", "keeper.read()")


def test_a_keeper_takes_over_a_lease(programs, node, with_seats):
    with_seats(2)
    program = programs(node)
    program("licences = twinlease.Twinlease()")
    ref = program("(lease := licences.acquire('render')).ref")
    program.fails("UsageError", "licences.keep('render', count=2, lease=lease)")
    program("lease.renew()")  # still the program's
    program("keeper = licences.keep('render', lease=lease)")
    program.fails("ValueError", "lease.renew()")
    assert program("keeper.read().lease_ref") == ref
    program("keeper.stop(leased=True)")
    assert active(node) == [ref]
    assert program("licences.acquire('render').ref") == ref


def test_keepers_end_with_what_they_belong_to(programs, node, with_seats):
    with_seats(3)
    program = programs(node)
    start_keeper(program)
    program("other = licences.keep('render')")
    wait_until(lambda: len(active(node)) == 2, 30, "two seats")
    program("with licences.keep('render') as third: pass")
    program("licences.close()")
    assert active(node) == []
    start_keeper(program)
    program.end()  # the interpreter ends with a keeper at work
    assert active(node) == []


def test_a_callback_cannot_stop_its_keeper(programs, node, with_seats):
    with_seats(1)
    program = programs(node)
    program("licences = twinlease.Twinlease(); said = []; ready = threading.Event()")
    program(
        "def changed(change):\n"
        "    ready.wait()\n"
        "    said.append(keeper.read().held)\n"
        "    for close in (keeper.stop, licences.close):\n"
        "        try: close()\n"
        "        except twinlease.UsageError: said.append('refused')\n"
    )
    program("keeper = licences.keep('render', changed=changed); ready.set()")
    wait_until(lambda: program("len(said)") >= 3, 30, "three words")
    assert program("said[:3]") == [True, "refused", "refused"]
    program("licences.close()")


def test_a_keeper_survives_the_nodes(licensed_pair, programs):
    pair = licensed_pair
    program = programs(pair.primary)
    ref = start_keeper(program, "duration=60")
    wait_told(program, "RENEWED", 1)
    pair.wait_equal()
    pair.primary.kill()
    wait_told(program, "RENEWED", 2)  # by the other one
    pair.secondary.kill()
    wait_told(program, "TROUBLE")
    assert program("keeper.read().held")
    for node in pair.both:
        node.start_alive()
    pair.wait_connected()
    renewed = told(program).count("RENEWED")
    wait_told(program, "RENEWED", renewed + 1)
    assert "LOST" not in told(program)
    assert active(pair.primary) == [ref] == active(pair.secondary)
    program("keeper.stop()")
    pair.wait_equal()
    assert active(pair.primary) == []


def test_a_keeper_leaves_a_revoked_seat_to_others(programs, node, with_seats):
    with_seats(1)
    program, other = programs(node), programs(node, "other")
    ref = start_keeper(program, "duration=20")
    expect(node.delete(f"/-/lease/{ref}"), 204)
    wait_told(program, "LOST")
    assert program("changes[-1].next_try") >= 5
    assert program("(changes[-1].lease.ref, type(changes[-1].error).__name__)") == [
        ref,
        "LeaseLost",
    ]
    other("licences = twinlease.Twinlease(); lease = licences.acquire('render')")  # without waiting
    wait_told(program, "DENIED")
    other("lease.release()")
    wait_told(program, "ACQUIRED", 2)
    assert active(node) == [program("keeper.read().lease_ref")] != [ref]


def test_a_keeper_of_a_deleted_machine_enrols_again(programs, node, with_seats):
    with_seats(1)
    program = programs(node)
    ref = start_keeper(program, "duration=20")
    old = program("changes[0].lease.origin_ref")
    expect(node.delete(f"/-/origins/{old}"), 204)
    wait_told(program, "LOST")
    assert program("changes[-1].next_try") >= 5
    wait_told(program, "ACQUIRED", 2)
    assert active(node) == [program("keeper.read().lease_ref")] != [ref]
    assert [one["origin_ref"] for one in node.origins()] != [old]


def test_a_stopped_process_knows_when_it_goes_on(programs, node, with_seats):
    with_seats(1)
    program = programs(node)
    ref = start_keeper(program, "duration=5")
    program.signal(signal.SIGSTOP)
    wait_until(lambda: active(node) == [], 60, "the seat comes back without the process")
    program.signal(signal.SIGCONT)
    wait_told(program, "LOST")
    (lost,) = [number for number, name in enumerate(told(program)) if name == "LOST"]
    assert "stood still" in program(f"str(changes[{lost}].error)")
    wait_told(program, "ACQUIRED", 2, seconds=10)
    assert active(node) == [program("keeper.read().lease_ref")] != [ref]


def test_a_short_stop_is_no_loss(programs, node, with_seats):
    with_seats(1)
    program = programs(node)
    ref = start_keeper(program, "duration=60")
    renewal = time.monotonic() + program("keeper.read().renew_in")
    program.signal(signal.SIGSTOP)
    wait_until(lambda: time.monotonic() > renewal + 1, 60, "the time for a renewal passes")
    program.signal(signal.SIGCONT)
    wait_told(program, "RENEWED", seconds=5)
    assert told(program) == ["ACQUIRED", "RENEWED"] and active(node) == [ref]
