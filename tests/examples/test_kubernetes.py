"""examples/kubernetes: every manifest has the form that Kubernetes asks for, and its commands are
real ones."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import pytest
import yaml

from srflow_apps.commands.cli import upscale

EXAMPLES = Path(__file__).parents[2] / "examples"
MANIFESTS = sorted((EXAMPLES / "kubernetes").glob("*.yaml"))
VERSIONS = ("1.31", "1.34")


def documents(path: Path) -> list[dict[str, Any]]:
    return list(yaml.safe_load_all(path.read_text(encoding="utf-8")))


def named(kind: str) -> dict[str, Any]:
    (found,) = (
        document for path in MANIFESTS for document in documents(path) if document["kind"] == kind
    )
    return found


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("path", MANIFESTS, ids=lambda path: path.name)
def test_a_manifest_is_valid_without_unknown_fields(path: Path, version: str) -> None:
    import kubernetes_validate  # takes three seconds, which all other tests would wait for

    for document in documents(path):
        kubernetes_validate.validate(document, version, strict=True)


def test_the_job_runs_the_command_with_options_that_it_has_once_for_each_part() -> None:
    spec = named("Job")["spec"]
    (container,) = spec["template"]["spec"]["containers"]
    environ = {entry["name"]: entry["value"] for entry in container["env"]}
    assert spec["completions"] == spec["parallelism"] == int(environ["PARTS"])
    parts = []
    for index in range(spec["completions"]):
        (line,) = container["args"]
        line = line.replace("$((JOB_COMPLETION_INDEX + 1))", str(index + 1)).replace(
            "$JOB_COMPLETION_INDEX", str(index)
        )
        command, name, *arguments = shlex.split(line.replace("$PARTS", environ["PARTS"]))
        assert (command, name) == ("exec", "srflow-upscale")
        assert "$" not in line.replace("$PARTS", "")
        context = upscale.make_context(name, arguments)
        assert context.params["resume"]
        parts.append(
            context.params["shard"] if "shard" in context.params else context.params["files"].shard
        )
    assert parts == [(number, 4) for number in range(1, 5)]
