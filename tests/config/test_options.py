import importlib
import re
import subprocess
import sys
import typing
from dataclasses import dataclass

import pytest
from helpers import ROOT
from helpers.runs import run, summary, write_colors

from pipeline.config.commands import CHECK, COMMANDS, FINETUNE, LABEL, parse
from pipeline.config.flags import Group, flag, flags_of
from pipeline.config.job_options import RESAMPLE
from pipeline.config.label_options import LabelConfig
from pipeline.errors import UsageError
from pipeline.images.resizing import RESAMPLING

REQUIRED = ["--input", "photos", "--model", "sample", "--output", "out"]


def test_the_defaults():
    assert LABEL.parse(REQUIRED) == LabelConfig(
        input=("photos",),
        model="sample",
        output="out",
        limit=None,
        uri_column="image",
        carry=(),
        truth=None,
        truth_column="label",
        labels_file=None,
        signature=None,
        top_k=5,
        threshold=None,
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
        relabel=False,
        checkpoint_every=2000,
        max_failure_ratio=None,
        resample=None,
        max_image_bytes=2**28,
        max_image_pixels=89_478_485,
        read_timeout_seconds=30.0,
        beam_args=(),
    )


def test_check_has_the_flags_of_label():
    argv = [*REQUIRED, "--top_k=3", "--incremental", "--project", "p"]
    assert CHECK.parse(argv) == LABEL.parse(argv)


def test_input_may_be_repeated():
    assert LABEL.parse([*REQUIRED, "--input", "a", "b", "--input=c"]).input == (
        "photos",
        "a",
        "b",
        "c",
    )


def test_a_fingerprint_may_have_capitals():
    for command in (LABEL, CHECK, FINETUNE):
        config = command.parse([*REQUIRED, f"--model_fingerprint=SHA256:{'AB' * 32}"])
        assert config.stated.fingerprint == f"sha256:{'ab' * 32}"


def test_old_names_work_for_one_version(capsys, tmp_path):
    argv = [*REQUIRED, "--image_column=file", "--label_column", "class"]
    config = FINETUNE.parse(argv)
    assert (config.uri_column, config.truth_column) == ("file", "class")
    assert capsys.readouterr().err.splitlines() == [
        "warning: --image_column is called --uri_column now; the next version will not know the "
        "old name",
        "warning: --label_column is called --truth_column now; the next version will not know the "
        "old name",
    ]
    (tmp_path / "run.yaml").write_text("image_column: a\nlabel_column: b\n")
    file = f"--config={tmp_path}/run.yaml"
    assert FINETUNE.parse([*REQUIRED, file]).truth_column == "b"
    assert FINETUNE.parse([*REQUIRED, file, "--uri_column=c"]).uri_column == "c"
    assert FINETUNE.parse([*REQUIRED, file, "--image_column=d"]).uri_column == "d"
    with pytest.raises(UsageError, match="unknown argument --image_column"):
        LABEL.parse([*REQUIRED, "--image_column=file"])


@pytest.mark.parametrize(
    ("given", "failed", "images", "is_too_many"),
    [
        (None, 1, 6, False),
        (None, 18, 19, False),
        (None, 19, 19, True),  # a run that labels nothing is not done
        (None, 2, 20, False),
        (None, 3, 20, True),
        (None, 0, 0, False),
        (0.1, 1, 6, True),
        (0.0, 1, 100, True),
        (0.29, 29, 100, False),
        (1.0, 6, 6, False),
    ],
)
def test_a_few_images_may_fail_unless_a_flag_says_otherwise(given, failed, images, is_too_many):
    config = LabelConfig(input=("p",), model="m", output="o", max_failure_ratio=given)
    said = config.too_many_failed(failed, images)
    assert (said is not None) == is_too_many
    if said:
        assert said.endswith(
            f"more than --max_failure_ratio {0.1 if given is None else given} allows"
        )
    # A small sample of many images is judged as they would be.
    assert LabelConfig(input=("p",), model="m", output="o").too_many_failed(2, 6, 1000)


def test_names_may_have_hyphens(capsys, tmp_path):
    """Ours, in both forms, in a file, and by their old names; Beam's stay as they are."""
    argv = ["--top-k=3", "--labels-file", "a-b.txt", "--require-gpu", "--labels=a-b=c"]
    config = LABEL.parse([*REQUIRED, *argv])
    assert (config.top_k, config.labels_file, config.require_gpu) == (3, "a-b.txt", True)
    assert config.beam_args == ("--labels=a-b=c",)
    (tmp_path / "run.yaml").write_text("top-k: 7\nbatch_size: 2\n")
    config = LABEL.parse([*REQUIRED, f"--config={tmp_path}/run.yaml", "--batch-size=3"])
    assert (config.top_k, config.batch_size) == (7, 3)
    assert FINETUNE.parse([*REQUIRED, "--image-column=my-file"]).uri_column == "my-file"
    assert "--image-column is called --uri_column now" in capsys.readouterr().err
    with pytest.raises(UsageError, match=r"--temp-location=gs://b; did you mean --temp_location\?"):
        LABEL.parse([*REQUIRED, "--temp-location=gs://b"])


def test_what_is_beams_passes_through():
    beam = [
        "--runner=FlinkRunner",
        "--project",
        "p",
        "--labels=team=vision",
        "--setup_file",
        "s.py",
    ]
    config = LABEL.parse([*REQUIRED, *beam])
    assert config.beam_args == tuple(beam)
    assert config.labels_file is None  # --labels is Dataflow's, and no abbreviation of ours


def error_of(*argv):
    with pytest.raises(UsageError) as caught:
        LABEL.parse(list(argv))
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
        (["--model_fingerprint", "sha256:12"], "'sha256:12' is not sha256: and 64 hexadecimal d"),
        (["--model_fingerprint", "0" * 64], "is not sha256: and 64 hexadecimal digits"),
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


@pytest.mark.parametrize(
    ("argv", "hint"),
    [
        (["--ouput", "x"], "did you mean --output? "),
        (["--model", "m", "--ouput=x"], "did you mean --output? "),
        (["--top-kk", "3"], "did you mean --top_k? "),
    ],
)
def test_a_misspelled_flag_is_told_before_a_missing_one(argv, hint):
    name = next(one for one in argv if "ouput" in one or "kk" in one)
    assert f"unknown argument {name}; {hint}" in error_of(*argv)


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["labell"], r"unknown command labell; did you mean label\? python -m pipeline --help"),
        (["zzz"], "unknown command zzz; python -m pipeline --help lists"),
        (["--nonsense"], "--nonsense comes before the command; .* --help"),
    ],
)
def test_there_must_be_a_command(argv, message):
    with pytest.raises(UsageError, match=message):
        parse(argv)


@pytest.mark.parametrize("argv", [[], ["--help"]])
def test_the_commands_are_listed(capsys, argv):
    with pytest.raises(SystemExit) as caught:
        parse(argv)
    assert caught.value.code == (0 if argv else 2)
    said = capsys.readouterr()
    listed = said.out if argv else said.err
    for name in COMMANDS:
        assert re.search(rf"^  {name} +[A-Z].{{20,90}}$", listed, re.MULTILINE)
    assert "--help" in listed


def test_the_script_answers_by_its_own_name():
    code = (
        "import sys; sys.argv[0] = '/usr/local/bin/image-labeling'\n"
        "from pipeline.__main__ import console; console()"
    )
    for argv, said in (
        (["labl"], "error: unknown command labl; did you mean label? image-labeling --help lists"),
        (["label"], "--input, --model, --output; image-labeling label --help explains the flags"),
        (["label", "--help"], "usage: image-labeling label [-h] --input"),
    ):
        command = [sys.executable, "-c", code, *argv]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        assert said in done.stdout + done.stderr


def test_help_says_every_default(capsys):
    with pytest.raises(SystemExit) as caught:
        LABEL.parse(["--help"])
    assert caught.value.code == 0
    text = " ".join(capsys.readouterr().out.split())
    for name, default in (("--top_k", 5), ("--batch_size", 64), ("--max_failure_ratio", 0.1)):
        assert f"(default: {default})" in text.rpartition(f" {name} ")[2].partition(" --")[0]
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


def test_the_commands():
    assert list(COMMANDS) == [
        "label",
        "check",
        "finetune",
        "check finetune",
        "report",
        "merge",
        "compare",
    ]
    for argv, name in (
        (["check"], "check"),
        (["check", "label"], "check"),
        (["check", "finetune"], "check finetune"),
        (["check", "--epochs=3"], "check finetune"),
        (["check", "--learning-rate", "0.1"], "check finetune"),
        (["check", "--top_k=3"], "check"),
    ):
        command, config = parse([*argv, *REQUIRED])
        assert command.name == name
        assert type(config) is command.config
    with pytest.raises(UsageError, match="unknown argument report; "):
        parse(["check", "report", *REQUIRED])
    command, config = parse(["report", "out"])
    assert (command.name, config.folder) == ("report", "out")


@pytest.mark.parametrize("command", COMMANDS.values(), ids=COMMANDS)
def test_a_job_runs_its_configuration(command):
    run = importlib.import_module(command.job).run
    assert typing.get_type_hints(run)["config"] is command.config


def test_the_filters_are_those_of_resizing():
    assert tuple(RESAMPLING) == RESAMPLE


# The definition of a flag


def test_a_flag_must_say_whether_it_changes_rows():
    with pytest.raises(TypeError, match="rows"):
        flag("", type=str, group=Group.RUNS, help="a note")


def test_a_field_that_is_not_a_flag_is_refused():
    @dataclass
    class Config:
        note: str = ""

    with pytest.raises(TypeError, match="rows"):
        flags_of(Config)


def test_the_flags_that_change_rows_are_the_settings_of_a_run(tmp_path, color_model):
    write_colors(tmp_path / "p")
    assert run(input=tmp_path / "p", model=color_model, output=tmp_path / "out") == 0
    assert list(summary(tmp_path / "out")["settings"]) == [
        "input",
        "exclude",
        "model",
        "labels_file",
        "signature",
        "resample",
        "scale",
        "model_output",
        "channels_first",
        "returns",
        "temperature",
        "limit",
        "top_k",
        "precision",
        "max_image_bytes",
        "max_image_pixels",
        "keep_parameters",
        "drop_parameters",
    ]


@pytest.mark.parametrize("command", COMMANDS.values(), ids=COMMANDS)
def test_help_begins_with_what_a_flag_is(command):
    for one in command.flags:
        assert not one.help.startswith(("of ", "for ", "to ")), one.name
        assert not one.help.endswith((".", ", too", "to use")), one.name


def test_parameters_of_names():
    naming = LABEL.parse([*REQUIRED, "--keep_parameters=X-Token, id", "--drop_parameters=v"]).naming
    assert naming.keep == {"x_token", "id"}
    assert naming.drop == {"v"}
    assert LABEL.parse(REQUIRED).naming is None
    with pytest.raises(UsageError, match="has an empty name"):
        LABEL.parse([*REQUIRED, "--drop_parameters=v,"])
    with pytest.raises(UsageError, match="drop_parameters x_token: is a part of names and is none"):
        LABEL.parse([*REQUIRED, "--keep_parameters=X-Token,id", "--drop_parameters=v,x_token"])
