"""The program as a whole: exit codes, what goes to stdout and what to stderr, and the docs."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys

import pytest
from doc_pages import DOCS
from interpreter import SOURCE

import recollect
from recollect import Memory
from recollect.cli import main
from recollect.cli.app import COMMANDS

NAMES = [name for name, _ in COMMANDS]


def finish(process, answer=b""):
    out, err = process.communicate(answer, timeout=60)
    return process.returncode, out.decode(), err.decode()


def test_the_version_is_printed(run):
    """The first line of every bug report."""
    assert run("--version").stdout == f"recollect {recollect.__version__}\n"


def test_the_package_can_be_run_as_a_module():
    """Where the folder of scripts is not on the path, and with the interpreter of one's choice."""
    done = subprocess.run(
        [sys.executable, "-m", "recollect", "--version"], capture_output=True, text=True,
        env=os.environ | {"PYTHONPATH": str(SOURCE)}, check=True,
    )  # fmt: skip

    assert done.stdout.strip() == f"recollect {recollect.__version__}"


def test_a_result_is_the_only_thing_on_stdout(process, memory):
    """Output is piped into other programs."""
    code, out, err = finish(process("stats", memory, "--json"))

    assert (code, err) == (0, "")
    assert json.loads(out)["rows"] == 8


def test_an_error_of_the_library_is_exit_code_1_and_two_lines_on_stderr(process, tmp_path):
    """The message and the remedy; no traceback."""
    code, out, err = finish(process("stats", tmp_path / "gone"))

    assert (code, out) == (1, "")
    assert err.startswith("Error: there is no memory")
    assert len(err.splitlines()) == 2


def test_an_error_with_json_is_one_json_object_on_stdout(process, tmp_path):
    """A program reads the reason from where it reads results."""
    code, out, err = finish(process("stats", tmp_path / "gone", "--json"))

    assert (code, err) == (1, "")
    error = json.loads(out)["error"]
    assert error["type"] == "MemoryNotFound"
    assert error["remedy"]
    assert error["message"].startswith("there is no memory")


@pytest.mark.parametrize(
    "arguments", [["nonsense"], ["stats"], ["predict", "m", "x", "--k", "0"], ["restore", "m", "x"]]
)
def test_a_command_that_is_not_understood_is_exit_code_2(arguments, capsys):
    """The command line itself was wrong; nothing was tried."""
    assert main(arguments) == 2
    assert "Usage" in capsys.readouterr().err


def test_a_command_that_is_not_understood_is_json_too(capsys):
    """One JSON object, whatever happens."""
    assert main(["predict", "--json"]) == 2

    told = capsys.readouterr()
    assert json.loads(told.out)["error"]["type"] == "UsageError"
    assert told.err == ""


def test_success_is_exit_code_0(memory, capsys):
    """main() returns it, for the script that calls it."""
    assert main(["stats", str(memory)]) == 0
    assert main(["stats", str(memory), "--json"]) == 0
    assert main(["verify", str(memory), "--json"]) == 0


def test_no_arguments_show_the_help(capsys):
    """The first thing anyone types."""
    assert main([]) == 2

    assert "predict" in capsys.readouterr().err


def test_without_typer_the_extra_is_named(process):
    """The library works without the command line; the program says what it lacks."""
    code, out, err = finish(process("stats", code="sys.modules['typer'] = None; sys.exit(main())"))

    assert (code, out) == (2, "")
    assert "pip install 'recollect[cli]'" in err


def test_an_interrupted_command_is_exit_code_130(process):
    """Ctrl-C is no error, and shows no traceback."""
    stop = (
        "from recollect.cli.app import app; import os, signal;"
        "signal.signal(signal.SIGINT, signal.default_int_handler);"  # a shell's & ignores it
        "app.command('stop')(lambda: os.kill(os.getpid(), signal.SIGINT)); sys.exit(main())"
    )

    code, _, err = finish(process("stop", code=stop))

    assert code == 128 + signal.SIGINT
    assert err == "Interrupted; what was not finished was not written.\n"


@pytest.mark.parametrize("more", [[], ["--json"]])
def test_a_reader_that_has_seen_enough_is_no_traceback(process, memory, more):
    """`recollect rows m | head -1` ends quietly."""
    started = process("rows", memory, *more)
    started.stdout.close()

    err = started.stderr.read().decode()
    started.wait(timeout=60)
    started.stdin.close()
    started.stderr.close()

    assert "Traceback" not in err


def test_a_second_writer_is_refused_by_name_of_the_first(process, memory):
    """Waiting silently would look like a hang."""
    with Memory.open(memory):
        code, _, err = finish(process("relabel", memory, "0", "green"))

    assert code == 1
    assert "writer" in err


def test_a_question_is_asked_on_stderr_and_read_from_stdin(process, memory):
    """The result alone stays on stdout."""
    code, out, err = finish(process("remove", memory, "0"), b"y\n")

    assert code == 0
    assert "Remove 1 row of 8?" in err
    assert out.startswith("Removed 1 row")


def test_control_characters_of_a_label_do_not_reach_the_terminal(run, memory):
    """A label from elsewhere could otherwise rewrite the screen."""
    run("relabel", memory, 0, "cat\x1b[2J\x07")

    done = run("rows", memory, 0)

    assert "\x1b" not in done.stdout
    assert "cat\\x1b[2J\\x07" in done.stdout


def test_brackets_of_a_label_are_no_markup(run, memory):
    """Printed as they are."""
    run("relabel", memory, 0, "[red]cat[/red] :smile:")

    assert "[red]cat[/red] :smile:" in run("rows", memory, 0).stdout


def test_quiet_hides_notes_but_not_results(run, memory):
    """For scripts that want neither JSON nor chatter."""
    done = run("rows", memory, "--limit", 1, "--quiet")

    assert done.stderr == ""
    assert "blue" in done.stdout


@pytest.mark.parametrize(
    "arguments",
    [
        ("stats",), ("rows",), ("history",), ("verify",), ("evaluate",),
        ("relabel", 0, "green"), ("reweight", 0, 2), ("remove", 0, "--yes"),
        ("erase", 1, "--yes"), ("restore", 1), ("search", "--row", 2),
    ],
    ids=lambda arguments: arguments[0],
)  # fmt: skip
def test_every_command_on_a_memory_prints_one_json_object(facts, memory, arguments):
    """`facts` fails unless stdout is one JSON object and stderr is empty."""
    assert isinstance(facts(arguments[0], memory, *arguments[1:]), dict)


@pytest.mark.parametrize("name", NAMES)
def test_every_command_offers_json(run, name):
    """A program can call any of them."""
    assert "--json" in run(*name.split(), "--help").stdout


@pytest.mark.parametrize("name", NAMES)
def test_every_option_of_a_command_is_in_the_docs(run, name):
    """Compared with what --help says, not with what generated the page."""
    page = (DOCS / "cli.md").read_text(encoding="utf-8")
    section = page.split(f"## `recollect {name}`\n")[1].split("\n## ")[0]
    help_text = run(*name.split(), "--help").stdout
    options = {word.strip(",") for word in help_text.split() if word.startswith("--")}

    missing = {option for option in options - {"--help"} if option not in section}

    assert missing == set()


def test_the_page_of_commands_is_what_the_code_generates():
    """Help that changed without the page is told here; `make docs` writes it anew."""
    code = (DOCS / "generate.py").read_text(encoding="utf-8")
    generated = {"__file__": str(DOCS / "generate.py"), "__name__": "generate"}
    exec(compile(code, "generate.py", "exec"), generated)  # noqa: S102 - our own script

    for name, make in generated["PAGES"].items():
        assert (DOCS / name).read_text(encoding="utf-8") == make()
