"""Private PostgreSQL clusters, by deploy/lib/postgres.sh."""

import itertools
import os
import shlex
import subprocess
import tempfile

import psycopg2

ROOT = os.path.realpath(os.path.join(os.path.dirname(__file__), "..", ".."))
LIBRARY = os.path.join(ROOT, "deploy", "lib", "postgres.sh")

_database_numbers = itertools.count(1)


class Cluster:
    """One cluster in a folder. Databases of one cluster are independent of each other, so one
    cluster serves many tests; a test that stops or kills it makes its own."""

    def __init__(self, folder):
        self.folder = folder

    @classmethod
    def make(cls):
        cluster = cls(tempfile.mkdtemp(prefix="twinlease-test."))
        cluster.shell("pg_init", cluster.folder)
        cluster.start()
        return cluster

    def shell(self, function, *arguments):
        """Runs a function of postgres.sh and returns what it printed."""
        line = " ".join([function, *map(shlex.quote, arguments)])
        done = subprocess.run(
            ["bash", "-c", f". {shlex.quote(LIBRARY)}; {line}"],
            text=True,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, f"{line}: {done.stdout}{done.stderr}"
        return done.stdout.strip()

    def start(self):
        self.shell("pg_start", self.folder)

    def stop(self, mode="fast"):
        self.shell("pg_stop", self.folder, mode)

    def kill(self):
        self.shell("pg_kill", self.folder)

    def destroy(self):
        self.shell("pg_destroy", self.folder)

    def conninfo(self, database):
        return self.shell("pg_conninfo", self.folder, database)

    def connect(self, database="postgres"):
        connection = psycopg2.connect(self.conninfo(database))
        connection.autocommit = True
        return connection

    def sql(self, statement, database="postgres", parameters=None):
        """Runs one statement; returns its rows, or None if it has none."""
        connection = self.connect(database)
        try:
            with connection.cursor() as cursor:
                cursor.execute(statement, parameters)
                return cursor.fetchall() if cursor.description else None
        finally:
            connection.close()

    def create_database(self, options=""):
        name = f"test_{os.getpid()}_{next(_database_numbers)}"
        self.sql(f"CREATE DATABASE {name} TEMPLATE template0 {options}")
        return name

    def drop_database(self, name):
        self.sql(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")

    def broken_invariants(self, database):
        """What schema/invariants.sql finds; it must find nothing."""
        file = os.path.join(ROOT, "schema", "invariants.sql")
        done = subprocess.run(
            [
                "psql",
                "-X",
                "-q",
                "-At",
                "-v",
                "ON_ERROR_STOP=1",
                "-f",
                file,
                self.conninfo(database),
            ],
            text=True,
            capture_output=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout
