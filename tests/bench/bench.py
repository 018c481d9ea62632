"""What the benchmarks share: a node of their own, wrk as load generator, and the machine's own
limits, measured in the same run.

wrk is a closed loop: each of its connections waits for an answer before it asks again, so a stall
delays the requests behind it instead of counting against them (coordinated omission). Percentiles
are those that such clients see; rates are not affected."""

import argparse
import concurrent.futures
import json
import os
import subprocess
import sys
import tempfile

HERE = os.path.dirname(os.path.realpath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "integration"))

# pylint: disable=wrong-import-position
from cluster import ROOT, Cluster  # noqa: E402
from node import Node, expect, free_port  # noqa: E402
from origin import Origin  # noqa: E402
from publisher import Publisher  # noqa: E402
from tls import Authority  # noqa: E402
from waiting import wait_until  # noqa: E402

BARE_H2O = os.environ.get("TWINLEASE_BARE_H2O") or os.path.join(
    ROOT, "build/release/tests/bench/bare_h2o"
)
LOOPS = 2  # of the node and of bare libh2o alike
PG_CLIENTS = 32
THREADS = 2  # of wrk


def arguments(description):
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--seconds", type=int, default=10, help="length of each measurement")
    parser.add_argument("--connections", type=int, default=64)
    parser.add_argument("--origins", type=int, default=600)
    parser.add_argument("--json", action="store_true", help="print one JSON object instead")
    return parser.parse_args()


class Bench:
    """Use as a context: everything it started ends with it."""

    def __init__(self, options):
        self.options = options
        self.folder = tempfile.mkdtemp(prefix="twinlease-bench.")
        self.cluster = Cluster.make()
        self.authority = Authority(self.folder)
        self.node = Node(
            self.folder,
            database=self.cluster.conninfo(self.cluster.create_database()),
            authority=self.authority,
            WORKERS=LOOPS,
        )

    def __enter__(self):
        publisher = Publisher()
        publisher.trust(self.node.publishers_dir)
        self.node.start()
        expect(self.node.install(publisher.entitlement(self.node, {"render": 10000000})), 201)
        return self

    def __exit__(self, *_):
        self.node.stop()
        self.cluster.destroy()
        subprocess.run(["rm", "-rf", self.folder], check=True)

    def enrol(self):
        """Enrolled and authenticated origins."""
        token = self.node.client_token()
        with concurrent.futures.ThreadPoolExecutor(8) as pool:
            return list(
                pool.map(
                    lambda _: Origin.ready(self.node, token), range(self.options.origins)
                )
            )

    def wrk(self, requests, url=None):
        """Plays (method, path, token, body) tuples back for the wanted time."""
        file = os.path.join(self.folder, "requests")
        with open(file, "w", encoding="ascii") as out:
            out.writelines(f"{' '.join(request).rstrip()}\n" for request in requests)
        done = subprocess.run(
            ["wrk", f"-t{THREADS}", f"-c{self.options.connections}", f"-d{self.options.seconds}s"]
            + ["--timeout", "10s", "-s", os.path.join(HERE, "load.lua"), url or self.node.url]
            + ["--", file, str(THREADS)],
            text=True,
            capture_output=True,
            timeout=self.options.seconds + 60,
            check=True,
        )
        line = [text for text in done.stdout.splitlines() if text.startswith("BENCH ")]
        assert line, done.stdout + done.stderr
        result = json.loads(line[0][len("BENCH ") :])
        result["rate"] = result["requests"] / result["seconds"]
        assert result["broken"] == 0, result
        return result

    def bare_h2o(self):
        """The same load on libh2o alone."""
        port = free_port()
        certificate, key, _ = self.authority.issue("bare")
        with subprocess.Popen([BARE_H2O, str(port), str(LOOPS), certificate, key]) as server:
            try:
                wait_until(lambda: answers(port), 10, "bare_h2o listens")
                return self.wrk([("GET", "/", "none", "")] * THREADS, f"https://127.0.0.1:{port}")
            finally:
                server.kill()

    def postgres_commits(self):
        """PostgreSQL's own rate of durable one-row commits, from its own load generator."""
        database = self.cluster.create_database()
        self.cluster.sql("CREATE TABLE bench (id bigserial PRIMARY KEY, at bigint)", database)
        script = os.path.join(self.folder, "insert.sql")
        with open(script, "w", encoding="ascii") as out:
            out.write("INSERT INTO bench (at) VALUES (1);\n")
        done = subprocess.run(
            ["pgbench", "-n", f"-c{PG_CLIENTS}", "-j2", f"-T{self.options.seconds}"]
            + ["-M", "prepared", "-f", script, self.cluster.conninfo(database)],
            text=True,
            capture_output=True,
            timeout=self.options.seconds + 60,
            check=True,
        )
        line = [text for text in done.stdout.splitlines() if text.startswith("tps = ")]
        assert line, done.stdout + done.stderr
        return float(line[0].split()[2])


def answers(port):
    done = subprocess.run(
        ["curl", "-sk", "-o", "/dev/null", f"https://127.0.0.1:{port}/"], check=False
    )
    return done.returncode == 0


def report(name, bench, measured):
    """Prints the rate, the percentiles, and the ratios to what the machine can do."""
    bare = bench.bare_h2o()
    commits = bench.postgres_commits()
    result = {
        "what": name,
        "connections": bench.options.connections,
        "seconds": bench.options.seconds,
        "per_second": round(measured["rate"]),
        "refused": measured["refused"],
        "p50_ms": measured["p50_us"] / 1000,
        "p90_ms": measured["p90_us"] / 1000,
        "p99_ms": measured["p99_us"] / 1000,
        "p99_9_ms": measured["p999_us"] / 1000,
        "max_ms": measured["max_us"] / 1000,
        "bare_libh2o_per_second": round(bare["rate"]),
        "postgres_commits_per_second": round(commits),
        "ratio_to_bare_libh2o": round(measured["rate"] / bare["rate"], 3),
        "ratio_to_postgres_commits": round(measured["rate"] / commits, 2),
    }
    if bench.options.json:
        print(json.dumps(result))
        return
    print(
        f"{name}: {result['per_second']}/s durable, {result['refused']} refused "
        f"({bench.options.connections} TLS connections kept alive, {bench.options.seconds} s)"
    )
    print(
        "latency: "
        + ", ".join(f"{p} {result[k]:.2f} ms" for p, k in (
            ("p50", "p50_ms"), ("p90", "p90_ms"), ("p99", "p99_ms"), ("p99.9", "p99_9_ms"),
            ("max", "max_ms")))
    )
    print(
        f"bare libh2o, {LOOPS} loops: {result['bare_libh2o_per_second']}/s "
        f"→ ratio {result['ratio_to_bare_libh2o']}"
    )
    print(
        f"PostgreSQL one-row commits, {PG_CLIENTS} clients: "
        f"{result['postgres_commits_per_second']}/s → ratio {result['ratio_to_postgres_commits']}"
    )
