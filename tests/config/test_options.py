import subprocess
import sys

import pytest
from helpers import ROOT

from pipeline.config.options import LabelConfig, parse_check, parse_command, parse_label
from pipeline.errors import UsageError

REQUIRED = ["--input", "photos", "--model", "sample", "--output", "out"]


def test_the_defaults():
    assert parse_label(REQUIRED) == LabelConfig(
        input=("photos",),
        model="sample",
        output="out",
        uri_column="image",
        carry=(),
        truth=None,
        labels_file=None,
        signature=None,
        top_k=5,
        threshold=0.0,
        output_format=("jsonl",),
        gzip=False,
        output_table=None,
        copy_to=None,
        batch_size=64,
        precision="float32",
        xla=False,
        require_gpu=False,
        price_per_hour=None,
        if_exists="resume",
        incremental=False,
        checkpoint_every=2000,
        max_failure_ratio=0.1,
        resample=None,
        max_image_bytes=2**28,
        max_image_pixels=89_478_485,
        read_timeout_seconds=30.0,
        beam_args=(),
    )


def test_check_has_the_flags_of_label():
    argv = [*REQUIRED, "--top_k=3", "--incremental", "--project", "p"]
    assert parse_check(argv) == parse_label(argv)


def test_input_may_be_repeated():
    assert parse_label([*REQUIRED, "--input", "a", "b", "--input=c"]).input == (
        "photos",
        "a",
        "b",
        "c",
    )


def test_what_is_beams_passes_through():
    beam = [
        "--runner=FlinkRunner",
        "--project",
        "p",
        "--labels=team=vision",
        "--setup_file",
        "s.py",
    ]
    config = parse_label([*REQUIRED, *beam])
    assert config.beam_args == tuple(beam)
    assert config.labels_file is None  # --labels is Dataflow's, and no abbreviation of ours


def error_of(*argv):
    with pytest.raises(UsageError) as caught:
        parse_label(list(argv))
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("flag", ["--input", "--model", "--output"])
def test_required_flags(flag):
    at = REQUIRED.index(flag)
    assert f"required: {flag}" in error_of(*REQUIRED[:at], *REQUIRED[at + 2 :])


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--batch_size", "0"], "--batch_size: 0 is not a positive number"),
        (["--batch_size", "x"], "--batch_size: x is not a whole number"),
        (["--batch_size", "4097"], "--batch_size: 4097 is more than 4096"),
        (["--input", ""], "--input: it is empty"),
        (["--model="], "--model: it is empty"),
        (["--output="], "--output: it is empty"),
        (["--output", "/o\udcff"], r"--output: '/o\udcff' is not UTF-8"),
        (["--top_k", "-1"], "--top_k: -1 is not a positive number"),
        (["--max_failure_ratio", "2"], "--max_failure_ratio: 2 is not between 0 and 1"),
        (["--max_failure_ratio", "nan"], "--max_failure_ratio: nan is not between 0 and 1"),
        (["--resample", "area"], "--resample: invalid choice"),
        (["--input"], "--input: expected at least one argument"),
        (["--if_exists", "append"], "--if_exists: invalid choice"),
        (["--checkpoint_every", "0"], "--checkpoint_every: 0 is not a positive number"),
        (["--max_image_pixels", "-5"], "--max_image_pixels: -5 is not a positive number"),
        (["--read_timeout_seconds", "0"], "--read_timeout_seconds: 0 is not a positive number of"),
        (["--read_timeout_seconds", "inf"], "inf is not a positive number of seconds"),
    ],
)
def test_values_that_make_no_sense(argv, message):
    assert message in error_of(*REQUIRED, *argv)


@pytest.mark.parametrize(
    ("argument", "hint"),
    [
        ("--batchsize=3", "did you mean --batch_size? "),
        ("--lables_file", "did you mean --labels_file? "),
        ("--projekt=p", "did you mean --project? "),
        ("--zzzzzz", ""),
        ("photos2", ""),
    ],
)
def test_unknown_arguments_are_refused(argument, hint):
    message = error_of(*REQUIRED[2:], "--input=photos", argument)
    assert message.startswith(f"unknown argument {argument}; {hint}python -m pipeline label --help")


@pytest.mark.parametrize("argv", [[], ["labell"], ["--nonsense"]])
def test_there_must_be_a_command(argv):
    with pytest.raises(UsageError, match="--help"):
        parse_command(argv)


def test_help_says_every_default(capsys):
    with pytest.raises(SystemExit) as caught:
        parse_label(["--help"])
    assert caught.value.code == 0
    text = " ".join(capsys.readouterr().out.split())
    for flag, default in (("--top_k", 5), ("--batch_size", 64), ("--max_failure_ratio", 0.1)):
        assert f"(default: {default})" in text.rpartition(f" {flag} ")[2].partition(" --")[0]
    assert "(default: None)" not in text


@pytest.mark.parametrize("command", ["label", "check"])
def test_help_needs_neither_beam_nor_tensorflow(command):
    code = (
        "import sys; from pipeline.__main__ import main\n"
        f"try: main([{command!r}, '--help'])\n"
        "finally: print({'apache_beam', 'tensorflow', 'rich'} & sys.modules.keys())"
    )
    root = ROOT
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines()[-1] == "set()"
