"""The program `pymq`, as the package's console script."""

import os
import signal
import subprocess
import sys
import sysconfig
from pathlib import Path

import pymq

PROGRAM = Path(sysconfig.get_path("scripts")) / "pymq"


def run(*words: str, **options: str) -> "subprocess.CompletedProcess[str]":
    environment = {**os.environ, "PYMQ_URL": "memory://", **options}
    return subprocess.run(
        [PROGRAM, *words], env=environment, capture_output=True, text=True, timeout=60
    )


def test_the_package_brings_the_program():
    assert run("--version").stdout == f"pymq {pymq.__version__}\n"
    put = run("put", "jobs", "1", "--json")
    assert (put.returncode, put.stdout) == (0, '{"queue":"jobs","put":true}\n')


def test_it_ends_with_the_programs_codes_and_sentences():
    refused = run("pub", "t", "{half")
    assert refused.returncode == 2
    assert "value 1 is no JSON" in refused.stderr
    assert "Traceback" not in refused.stderr
    assert run("get", "jobs").returncode == 3


def test_an_interrupt_ends_it_without_a_traceback():
    serving = subprocess.Popen(
        [PROGRAM, "serve", "f", "--", "cat"],
        env={**os.environ, "PYMQ_URL": "memory://"},
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert serving.stderr is not None
        assert serving.stderr.readline() == "serving f; Ctrl-C ends it\n"
        serving.send_signal(signal.SIGINT)
        assert serving.wait(60) == 130
        assert serving.stderr.read() == ""
    finally:
        serving.kill()
        serving.communicate()


def test_workers_are_started_by_it_too():
    helped = run("work", "--help")
    assert helped.returncode == 0
    assert "--concurrency" in helped.stdout
    assert "\n  work " in run("--help").stdout
    misplaced = run("--json", "work", "tasks")
    assert (misplaced.returncode, misplaced.stdout) == (2, "")
    assert "let `work` come first" in misplaced.stderr


def test_the_module_is_the_program():
    words = [sys.executable, "-m", "pymq"]
    asked = {"capture_output": True, "text": True, "timeout": 60}
    assert subprocess.run([*words, "--version"], **asked).stdout == run("--version").stdout
    assert "--concurrency" in subprocess.run([*words, "work", "--help"], **asked).stdout
