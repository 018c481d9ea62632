"""ha-examples with containers: they prove what they say, and what users copy from them is right."""

import os
import re
import subprocess

import pytest
import yaml

from cluster import ROOT
from examples import FOLDER, release_build_only, run_example
from node import TOOL

FILES = os.path.join(FOLDER, "containers")
CANNOT_RUN = 77

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="containers need root")


def read(name):
    with open(os.path.join(FILES, name), encoding="utf-8") as file:
        return file.read()


# Where packages can be installed, containers must run: that is no reason to skip.


@needs_root
@release_build_only
def test_entrypoint():
    last = run_example("container-entrypoint")
    assert re.search(r"a seat is back \d+ ms after docker stop", last), last


@needs_root
@release_build_only
def test_sidecar():
    last = run_example("container-sidecar")
    assert re.search(r"gives it back within \d+ ms", last), last


@needs_root
def test_a_machine_without_containers_is_told_from_a_failure(tmp_path):
    """Both programs are there and do not work, as in a container without the rights for more."""
    for name in ("docker", "dockerd"):
        program = tmp_path / name
        program.write_text(f"#!/bin/sh\necho {name}: operation not permitted >&2\nexit 1\n")
        program.chmod(0o755)
    done = subprocess.run(
        [os.path.join(FOLDER, "container-entrypoint"), "--dir", tmp_path],
        env=dict(os.environ, PATH=f"{tmp_path}:{os.environ['PATH']}"),
        text=True,
        capture_output=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == CANNOT_RUN, done
    assert "no containers on this machine: dockerd does not start" in done.stderr, done.stderr
    assert "dockerd: operation not permitted" in done.stderr, done.stderr


@release_build_only
def test_the_image_has_the_libraries_of_the_tool():
    """Those that it names itself; Debian's packages bring along what these need."""
    dynamic = subprocess.run(
        ["readelf", "--dynamic", TOOL], text=True, capture_output=True, check=True
    ).stdout
    needed = {
        "libcrypto.so.3": "libssl3",
        "libssl.so.3": "libssl3",
        "libcurl.so.4": "libcurl4",
        "libjson-c.so.5": "libjson-c5",
        "libsystemd.so.0": "libsystemd0",
    }
    names = set(re.findall(r"\(NEEDED\).*\[(.*)\]", dynamic)) - {"libc.so.6"}
    packages = re.search(r'^ARG PACKAGES="(.*)"$', read("Dockerfile"), re.M)[1].split()
    assert {needed[name] for name in names} <= set(packages)


def mounts(container):
    return {mount["mountPath"]: mount for mount in container["volumeMounts"]}


def test_compose_file():
    done = subprocess.run(
        ["docker-compose", "-f", os.path.join(FILES, "docker-compose.yml"), "config"],
        text=True,
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    services = yaml.safe_load(done.stdout)["services"]
    licence, application = services["licence"], services["application"]
    assert licence["environment"] == {"TWINLEASE_FEATURES": "render"}
    assert licence["stop_grace_period"] == "20s", "longer than the agent takes for giving back"
    assert "licence" in application["depends_on"], "started after the agent, stopped before it"
    assert application["network_mode"] == "none", "it proves its licence offline"
    assert "licence:/run/twinlease:ro" in application["volumes"]
    assert {service["build"]["target"] for service in services.values()} <= set(
        re.findall(r"^FROM .* AS (\w+)$", read("Dockerfile"), re.M)
    )


def test_pod_has_a_native_sidecar():
    pod = yaml.safe_load(read("pod.yaml"))
    assert (pod["apiVersion"], pod["kind"]) == ("v1", "Pod")
    spec = pod["spec"]
    [licence], [application] = spec["initContainers"], spec["containers"]
    assert licence["restartPolicy"] == "Always", "or it would have to end before the application"
    probe = licence["startupProbe"]
    assert probe["exec"]["command"][:3] == ["twinlease", "agent", "status"]
    assert probe["failureThreshold"] * probe["periodSeconds"] >= 60, "it waits for a seat"
    assert licence["readinessProbe"]["exec"]["command"][:3] == ["twinlease", "agent", "status"]
    assert "livenessProbe" not in licence, "starting it again brings no seat"
    assert application["lifecycle"]["preStop"]["exec"]["command"]
    assert spec["terminationGracePeriodSeconds"] >= 20
    assert not mounts(licence)["/run/twinlease"].get("readOnly")
    assert mounts(application)["/run/twinlease"]["readOnly"] is True
    assert set(mounts(application)) == {"/run/twinlease"}, "token and state are not for it"
    named = {volume["name"] for volume in spec["volumes"]}
    for container in (licence, application):
        assert {mount["name"] for mount in container["volumeMounts"]} <= named
        assert container["securityContext"]["readOnlyRootFilesystem"] is True
