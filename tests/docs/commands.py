"""Commands as the documentation writes them, held to the options that the programs have."""

from __future__ import annotations

import importlib
import io
import re
import shlex
from contextlib import redirect_stdout
from functools import cache
from pathlib import Path

import click

from docs.site.reference import project
from srflow_sdk.errors import SRFlowError
from srflow_training.presets import load_settings

from .pages import ROOT

_END = {"|", "||", "&&", ";", "&", ">", ">>", "2>", "<"}
_INSTALLERS = re.compile(r"^(?:\S*python3? -m )?(?:pip|apt|apt-get|brew) ")
_LOOSE = re.compile(r"…|\.\.\.|<[a-z ]+>")


@cache
def click_command(name: str) -> click.Command:
    """The command behind a console script of the project."""
    scripts = project()["scripts"]
    module, attribute = scripts[name].split(":")
    found = getattr(importlib.import_module(module), attribute)
    assert isinstance(found, click.Command), f"{name} is no click command"
    return found


def commands(script: str) -> list[list[str]]:
    """Each command of a shell script, as words: without comments, redirections, variables set and
    substitutions."""
    found: list[list[str]] = []
    for line in script.replace("\\\n", " ").splitlines():
        try:
            lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
            lexer.commenters = "#"
            lexer.whitespace_split = True
            words = list(lexer)
        except ValueError:  # a quotation over several lines
            continue
        current: list[str] = []
        for word in [*words, ";"]:
            if word in _END or set(word) <= set("();<>|&"):
                found += [current] if current else []
                current = []
            elif current or not re.match(r"^\w+=", word):
                current.append(word)
    return found


def problem(words: list[str], *, named: bool = False) -> str | None:
    """What is wrong with a command of this project, or None. Commands of others are not judged.

    named: it is named within a sentence, where arguments may be missing and values may be
        placeholders.
    """
    program = Path(words[0]).name
    arguments = words[1:]
    if any(_LOOSE.search(word) for word in arguments):
        arguments = [word for word in arguments if not _LOOSE.search(word)]
        return _unknown_options(program, arguments)
    if program.startswith("srflow-"):
        return _click_problem(program, arguments, named=named)
    if program in ("python", "python3") and arguments and arguments[0].endswith(".py"):
        return _script_problem(arguments[0], arguments[1:])
    if (
        program in ("python", "python3")
        and arguments[:1] == ["-m"]
        and arguments[1].startswith("tests.")
    ):
        module = ROOT.joinpath(*arguments[1].split("."))
        return (
            None
            if module.with_suffix(".py").is_file() or module.is_dir()
            else f"there is no module {arguments[1]}"
        )
    if program == "make":
        return _make_problem(arguments)
    if program == "pytest" or arguments[:2] == ["-m", "pytest"]:
        return _missing_tests(arguments)
    return _missing_extras(arguments) if _INSTALLERS.match(" ".join(words)) else None


def is_installer(words: list[str]) -> bool:
    """Whether a command installs or removes packages: such lines are checked and never run."""
    return bool(_INSTALLERS.match(" ".join(words)))


def _click_problem(program: str, arguments: list[str], *, named: bool) -> str | None:
    scripts = project()["scripts"]
    if program == "srflow-sdk" or program.startswith("srflow-sdk["):
        return None  # the package, not a command
    if program not in scripts:
        return f"there is no command {program}"
    command = click_command(program)
    if not arguments:
        return None  # a name, not an invocation
    # PROTOCOL, a placeholder
    if named and isinstance(command, click.Group) and arguments[0].isupper():
        return _unknown_options(program, arguments)
    try:
        with redirect_stdout(io.StringIO()):  # --help and --version print
            context = command.make_context(program, list(arguments))
            if isinstance(command, click.Group):
                name, protocol, rest = command.resolve_command(context, list(arguments))
                assert protocol is not None
                protocol.make_context(name, rest, parent=context)
        if (
            program == "srflow-train"
            and str(context.params["config"]).count(".") == 0
            and context.params["config"]
        ):
            load_settings(
                context.params["config"], context.params["overrides"], stage=context.params["stage"]
            )
    except click.exceptions.Exit:
        return None  # --help, --version
    except (
        click.BadParameter,
        click.BadOptionUsage,
    ) as error:  # a missing parameter is one of them
        return _unknown_options(program, arguments) if named else error.format_message()
    except click.ClickException as error:
        return error.format_message()
    except SRFlowError as error:
        return str(error)
    return None


def _unknown_options(program: str, arguments: list[str]) -> str | None:
    """For a command that is written with an ellipsis: only the names of its options."""
    scripts = project()["scripts"]
    if program not in scripts:
        return None
    command = click_command(program)
    parameters = [
        one for each in (command, *getattr(command, "commands", {}).values()) for one in each.params
    ]
    known = {
        name for parameter in parameters for name in (*parameter.opts, *parameter.secondary_opts)
    }
    known |= {"--help", "-h", "--version"}
    unknown = [
        word for word in arguments if word.startswith("--") and word.split("=")[0] not in known
    ]
    return f"{program} has no option {unknown[0]}" if unknown else None


def _script_problem(script: str, arguments: list[str]) -> str | None:
    path = ROOT / script
    if not path.is_file():
        return f"there is no {script}"
    source = path.read_text(encoding="utf-8")
    if "parse_known_args" in source or "sys.argv[1:]" in source:
        return None  # it hands other options on to a command
    unknown = [
        word
        for word in arguments
        if re.match(r"--[a-z]", word) and f'"{word.split("=")[0]}"' not in source
    ]
    return f"{script} has no option {unknown[0]}" if unknown else None


def _make_problem(arguments: list[str]) -> str | None:
    targets = re.findall(
        r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE
    )
    unknown = [word for word in arguments if re.fullmatch(r"[a-z-]+", word) and word not in targets]
    return f"make has no target {unknown[0]}" if unknown else None


def _missing_tests(arguments: list[str]) -> str | None:
    files = [word.split("::")[0] for word in arguments if word.startswith("tests/")]
    missing = [name for name in files if not (ROOT / name).exists()]
    return f"there is no {missing[0]}" if missing else None


def _missing_extras(arguments: list[str]) -> str | None:
    extras = project()["optional-dependencies"]
    named = [
        extra for word in arguments for extra in re.findall(r"^(?:srflow-sdk|\.)\[([\w,]+)\]", word)
    ]
    unknown = [extra for names in named for extra in names.split(",") if extra not in extras]
    return f"there is no extra [{unknown[0]}]" if unknown else None
