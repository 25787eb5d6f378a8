"""Looks for known vulnerabilities of what containers and Windows' folder install: make audit."""

from __future__ import annotations

import json
import subprocess
import sys

from .bare_environment import ROOT

LOCKS = ("build", "cpu", "cuda", "windows")


def verdict(lock: str, answer: str, complaint: str) -> tuple[bool, list[str]]:
    """Judge what pip-audit printed about a lock: (whether nothing is known, lines to print)."""
    try:
        packages = json.loads(answer)["dependencies"]
    except ValueError:
        packages = [{"skip_reason": (complaint.strip().splitlines() or ["no answer"])[-1]}]
    asked = [package for package in packages if "skip_reason" not in package]
    if not asked:
        why = packages[0]["skip_reason"]
        return True, [
            f"docker/{lock}.txt: skipped, because the advisories could not be asked ({why:.200})"
        ]
    known = [
        f"docker/{lock}.txt: {package['name']} {package['version']} has {found['id']}; fixed in "
        f"{', '.join(found['fix_versions']) or 'no version'}: make locks"
        for package in asked
        for found in package["vulns"]
    ]
    return not known, known or [
        f"docker/{lock}.txt: nothing is known against {len(asked)} of {len(packages)} packages"
    ]


def main() -> None:
    """Ask about every lock. Exit status: 1 if a vulnerability is known."""
    fine = True
    for lock in LOCKS:
        options = "--disable-pip --require-hashes --format json --progress-spinner off --timeout 30"
        file = str(ROOT / "docker" / f"{lock}.txt")
        command = [sys.executable, "-m", "pip_audit", *options.split(), "-r", file]
        asked = subprocess.run(command, capture_output=True, text=True, check=False)
        nothing_known, lines = verdict(lock, asked.stdout, asked.stderr)
        fine &= nothing_known
        print("\n".join(lines), file=sys.stdout if nothing_known else sys.stderr)
    sys.exit(0 if fine else 1)


if __name__ == "__main__":
    main()
