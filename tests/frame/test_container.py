"""The container: its base and all that it installs are held to hashes, and it copies what there
is."""

from __future__ import annotations

import json
import re

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from docs.site.reference import project

from .audit import LOCKS, verdict
from .bare_environment import ROOT

DOCKERFILE = (ROOT / "Dockerfile").read_text("utf-8")
TARGET = {"python_version": "3.12", "sys_platform": "linux", "os_name": "posix"}


def locked(name: str) -> dict[str, tuple[str, list[str]]]:
    """Versions and hashes of a lock, by the packages' names."""
    text = (ROOT / "docker" / f"{name}.txt").read_text("utf-8")
    lines = re.sub(r"^#.*\n", "", text, flags=re.MULTILINE).replace("\\\n", " ").splitlines()
    found = {}
    for line in lines:
        requirement, *hashes = line.split()
        package, _, version = requirement.partition("==")
        found[canonicalize_name(package)] = (version, hashes)
    return found


@pytest.mark.parametrize("lock", LOCKS)
def test_every_package_of_a_lock_has_a_version_and_hashes_and_none_has_an_address(
    lock: str,
) -> None:
    packages = locked(lock)
    assert packages
    for package, (version, hashes) in packages.items():
        assert re.fullmatch(r"[0-9][0-9a-z.]*", version), package
        assert hashes, package
        assert all(re.fullmatch("--hash=sha256:[0-9a-f]{64}", text) for text in hashes), package
    assert "://" not in (ROOT / "docker" / f"{lock}.txt").read_text("utf-8")


@pytest.mark.parametrize(
    ("lock", "without", "beside"),
    [("cpu", [], []), ("cuda", ["onnxruntime"], ["cuda.in"]), ("windows", [], ["windows.in"])],
)
def test_the_locks_satisfy_what_the_sdk_declares(
    lock: str, without: list[str], beside: list[str]
) -> None:
    wanted = [*project()["dependencies"]]
    for name in beside:
        lines = (ROOT / "docker" / name).read_text("utf-8").splitlines()
        wanted += [line for line in lines if not line.startswith("#")]
    packages = locked(lock)
    for requirement in map(Requirement, wanted):
        if requirement.name in without or (
            requirement.marker and not requirement.marker.evaluate(TARGET)
        ):
            continue
        version, _ = packages[canonicalize_name(requirement.name)]
        assert requirement.specifier.contains(version), f"{requirement}: make locks"
    assert not set(without) & set(packages)
    assert "pyvips-binary" in packages  # an extra's


def test_the_base_has_a_digest_and_pip_takes_nothing_without_a_hash() -> None:
    assert re.search(
        r"^ARG BASE=python:[0-9.]+-slim@sha256:[0-9a-f]{64}$", DOCKERFILE, re.MULTILINE
    )
    stages = set(re.findall(r"^FROM \S+ AS (\S+)$", DOCKERFILE, re.MULTILINE))
    assert set(re.findall(r"^FROM (\S+)", DOCKERFILE, re.MULTILINE)) <= {"${BASE}", *stages}
    calls = re.findall(r"\bpip (?:install|wheel|download) [^\n]*", DOCKERFILE)
    assert calls
    assert all("--require-hashes" in call or "--no-index" in call for call in calls)
    # Isolated, it would fetch what has no hash.
    assert all("--no-build-isolation" in call for call in calls if " wheel " in call)


def test_the_audit_fails_for_what_is_known_and_not_for_want_of_a_network() -> None:
    known = {"name": "a", "version": "1", "vulns": [{"id": "CVE-1", "fix_versions": ["2"]}]}
    for each, fine in (({**known, "vulns": []}, True), (known, False)):
        judged, (line,) = verdict("cpu", json.dumps({"dependencies": [each]}), "")
        assert (judged, "CVE-1; fixed in 2" in line) == (fine, not fine)
    fine, (line,) = verdict("cpu", "", "ERROR: ConnectionError: no route")
    assert (fine, "no route" in line) == (True, True)


def test_the_container_copies_what_exists_and_what_the_ignore_file_lets_through() -> None:
    lines = re.findall(r"^COPY (?!--from)(.+)$", DOCKERFILE, re.MULTILINE)
    names = {name for line in lines for name in line.split()[:-1]}
    let_through = re.findall(r"^!(.+)$", (ROOT / ".dockerignore").read_text(), re.MULTILINE)
    assert {"pyproject.toml", "docker", "srflow_sdk", "apps"} <= names <= {*let_through}
    assert all((ROOT / name).exists() for name in names)
