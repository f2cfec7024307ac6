"""Flags in a file: read as on the command line, written as the run had them."""

import json

import pytest
import yaml
from helpers.http_server import HttpServer
from helpers.runs import comparable, run, write_colors

from pipeline.config.commands import FINETUNE, LABEL, as_yaml
from pipeline.config.flags import flags_of
from pipeline.errors import UsageError

REQUIRED = {"input": ["photos"], "model": "sample", "output": "out"}


@pytest.fixture
def write(tmp_path):
    def write(**flags):
        path = tmp_path / "run.yaml"
        path.write_text(yaml.safe_dump(REQUIRED | flags))
        return f"--config={path}"

    return write


def error_of(argv):
    with pytest.raises(UsageError) as caught:
        LABEL.parse(argv)
    return caught.value.said(lambda name: f"--{name}")


# Reading


def test_a_file_is_the_same_as_the_flags(write):
    flags = write(
        input=["a", "b"],
        top_k=3,
        threshold=0.5,
        incremental=True,
        gzip=False,
        carry=["sku", "price"],
        output_format="csv,parquet",
        labels_file=None,
        beam=["--project", "mine", "--save_main_session"],
    )
    argv = ["--input", "a", "b", "--model=sample", "--output=out", "--top_k=3", "--threshold=0.5"]
    argv += ["--incremental", "--carry=sku,price", "--output_format", "csv,parquet"]
    argv += ["--project", "mine", "--save_main_session"]
    assert LABEL.parse([flags]) == LABEL.parse(argv)
    assert LABEL.parse(["--config", flags.partition("=")[2]]) == LABEL.parse(argv)


def test_one_value_where_there_may_be_several(write):
    assert LABEL.parse([write(input="a", carry="sku")]).input == ("a",)


def test_the_command_line_counts_more_than_the_file(write):
    flags = write(top_k=3, beam=["--project=mine"])
    argv = [flags, "--top_k", "4", "--input", "other", "--project=yours"]
    config = LABEL.parse(argv)
    assert (config.top_k, config.input) == (4, ("other",))
    assert config.beam_args == ("--project=mine", "--project=yours")  # of which Beam takes the last


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"top_kk": 3}, "top_kk is not a flag of python -m pipeline label; did you mean top_k?"),
        (
            {"project": "p"},
            "project is not a flag of python -m pipeline label; flags of Beam go",
        ),
        ({"help": True}, "help is not a flag of"),
        ({"top_k": 0}, "top_k: 0 is not a positive number"),
        ({"top_k": "many"}, "top_k: many is not a whole number"),
        ({"top_k": True}, "top_k: has no use for True"),
        ({"top_k": {"a": 1}}, "top_k: has no use for {'a': 1}"),
        ({"precision": "half"}, "precision: invalid choice: 'half'"),
        ({"gzip": "yes"}, "gzip: is true or false, not 'yes'"),
        ({"carry": ["label"]}, "carry: the rows have a column label of their own"),
        ({"carry": ["trained_on"]}, "carry: the rows have a column trained_on of their own"),
        ({"beam": "--project=p"}, "beam: is a list of arguments"),
    ],
)
def test_what_a_file_must_not_say(write, tmp_path, flags, message):
    assert error_of([write(**flags)]).startswith(f"--config {tmp_path}/run.yaml: {message}")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"- a\n", "is not a mapping of flags to values"),
        (b"", "is not a mapping of flags to values"),
        (b"a: [", "is not YAML: while parsing"),
        (b"\xff\x00", "is not YAML: "),
    ],
)
def test_what_is_no_file_of_flags(tmp_path, content, message):
    path = tmp_path / "run.yaml"
    path.write_bytes(content)
    assert error_of(["--config", str(path)]).startswith(f"--config {path}: {message}")


def test_no_name_of_a_file():
    assert "argument --config: expected one argument" in error_of(["--config"])


def test_no_file(tmp_path):
    path = tmp_path / "absent.yaml"
    assert error_of([f"--config={path}"]).startswith(f"--config {path}: cannot be read: ")


def test_beams_flags_are_looked_at_wherever_they_are(write):
    assert "unknown argument --projct" in error_of([write(beam=["--projct=p"])])


def test_what_is_required_may_be_missing_in_both(write):
    assert "--model" in error_of([write(model=None)])


def test_a_file_at_a_server():
    with HttpServer({"/run.yaml": json.dumps(REQUIRED).encode()}) as server:
        assert LABEL.parse(["--config", server.url("/run.yaml")]).input == ("photos",)
        assert "not_found" in error_of(["--config", server.url("/absent.yaml")])


# Writing

OTHERS = {
    "--input": ["a b", "ü: #1"],
    "--model": ["m"],
    "--output": ["o"],
    "--labels_file": ["null"],
    "--carry": ["sku,price"],
    "--output_format": ["csv,parquet"],
    "--output_table": ["p:d.t"],
    "--threshold": ["0.25"],
    "--target_precision": ["0.25"],
    "--corrections": ["null"],
    "--max_failure_ratio": ["0.25"],
    "--keep_parameters": ["id,token"],
    "--model_fingerprint": [f"sha256:{'0123456789abcdef' * 4}"],
}


@pytest.mark.parametrize("command", [LABEL, FINETUNE])
def test_every_flag_is_written_and_read_again(tmp_path, command):
    parse = command.parse
    argv = ["--project", "mine", "--experiments=a"]
    for flag in flags_of(command.config):
        name = f"--{flag.name}"
        if flag.is_switch:
            argv.append(name)
        elif flag.choices:
            argv += [name, flag.choices[-1]]
        elif name in OTHERS:
            argv += [name, *OTHERS[name]]
        else:
            argv += [name, "0.25" if isinstance(flag.default, float) else "7"]
    config = parse(argv)
    path = tmp_path / "run.yaml"
    path.write_text(as_yaml(config), encoding="utf-8")
    assert parse(["--config", str(path)]) == config
    defaults = parse(["--input", "a", "--model=m", "--output=o"])
    path.write_text(as_yaml(defaults), encoding="utf-8")
    assert parse(["--config", str(path)]) == defaults


def test_every_flag_is_explained():
    text = as_yaml(LABEL.parse(["--input", "a", "--model=m", "--output=o"]))
    assert "\n# predictions in each row (default: 5)\ntop_k: 5\n" in text
    assert "\n# HOW TO LABEL\n" in text
    keys = [line.partition(":")[0] for line in text.splitlines() if line[:1].isalpha()]
    assert keys == list(yaml.safe_load(text))


def test_no_secrets_are_written():
    argv = ["--input", "https://host/a.jpg?token=abc123", "--model=m", "--output=o"]
    text = as_yaml(LABEL.parse([*argv, "--s3_secret_access_key=abc123"]))
    assert "abc123" not in text


def test_what_a_run_leaves_makes_the_same_rows(tmp_path, color_model, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_colors(tmp_path / "p")
    (tmp_path / "p" / "empty.jpg").touch()
    flags = {"input": "p", "model": color_model, "output": "out", "top_k": 2}
    assert run(**flags, max_failure_ratio=0.5) == 0
    assert run(config="out/run.yaml", output="again") == 0
    assert comparable("again") == comparable("out")
    assert run("--incremental", config="out/run.yaml", output="nightly") == 0
    [folder] = (tmp_path / "nightly").iterdir()
    assert yaml.safe_load((folder / "run.yaml").read_text())["incremental"] is True
    assert run(config="out/run.yaml", if_exists="overwrite", top_k=1) == 0
    assert yaml.safe_load((tmp_path / "out" / "run.yaml").read_text())["top_k"] == 1
