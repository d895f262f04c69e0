"""The training commands as people type them: wrong input is one line, the right exit code, no litter."""

import json
import sys

import pyarrow as pa
import pytest
import typer
from filelock import FileLock
from pyarrow import parquet

from reviewloop.cli import app, main
from reviewloop.cli.train import read_splits
from reviews.training_run import LEFT_OUT_WORDS
from tests.tiny import tiny_base
from trainer.data.dataset import read_dataset
from trainer.data.table_rows import Column
from trainer.data.tables import open_table
from trainer.nightly.snapshot import LEFT_OUT
from trainer.settings import PeftMethod, TrainerSettings

_ROWS = {"train": 30, "val": 12, "test": 12}


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return tiny_base(tmp_path_factory.mktemp("base"))


@pytest.fixture
def folder(tmp_path):
    for name, count in _ROWS.items():
        lines = [f"{'abc'[row % 3] * 3} {row} {name},{row % 3}" for row in range(count)]
        (tmp_path / f"{name}.csv").write_text("text,label\n" + "\n".join(lines) + "\n")
    return tmp_path


@pytest.fixture
def reviewloop(monkeypatch, capsys):
    def run(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["reviewloop", *arguments])
        try:
            main()
            code = 0
        except SystemExit as end:
            code = int(end.code or 0)
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run


def _train(base, *more: str) -> list[str]:
    return [
        "train", "--train_file", "train.csv", "--val_file", "val.csv", "--model_name", str(base),
        "--device", "cpu", "--precision", "fp32", "--epochs", "1", "--least-steps", "0", *more,
    ]  # fmt: skip


def test_the_flags_of_the_original_example_work_with_underscores_and_with_dashes(folder, base, reviewloop):
    seed = [
        "--peft_method", "lora", "--task_type", "classification", "--num_labels", "3",
        "--lora_r", "8", "--lora_alpha", "16", "--lora_dropout", "0.1", "--batch_size", "16",
        "--learning_rate", "3e-4", "--output_dir", "./outputs", "--adapter_dir", "./adapters",
    ]  # fmt: skip
    code, out, err = reviewloop(*_train(base, *seed))
    assert (code, out) == (0, "adapters\n"), err
    for shown in (
        "Device      cpu, fp32, as classifier.precision asks for it",
        "30 rows: 10 negative, 10 neutral, 10 positive", "trainable parameters",
        "epoch 1: loss", "Confusion matrix", "peak memory",
    ):  # fmt: skip
        assert shown in err
    assert (folder / "adapters" / "tokenizer.json").is_file()
    dashed = [flag.replace("_", "-") if flag.startswith("--") else flag for flag in _train(base, *seed)]
    assert reviewloop(*dashed)[0] == 0


def test_peft_config_json_of_the_folder_is_taken_and_the_command_line_beats_it(folder, base, reviewloop):
    (folder / "peft_config.json").write_text('{"r": 2, "lora_alpha": 4, "target_modules": ["query"]}')
    code, _, err = reviewloop(*_train(base, "--lora-r", "3"))
    assert code == 0, err
    assert "Recipe from peft_config.json: lora_r 2" in err
    config = (folder / "outputs" / "adapter" / "adapter_config.json").read_text()
    assert '"r": 3' in config
    assert '"lora_alpha": 4.0' in config


@pytest.mark.parametrize(
    ("file", "content", "code", "message"),
    [
        ("train.csv", None, 2, "train.csv cannot be read: No such file"),
        ("train.csv", "body,label\na,0\nb,1\n", 2, "has no column 'text'"),
        ("train.csv", "text,label\na,0\nb,7\nc,1\n", 2, "line 3: The label '7'"),
        ("train.csv", "text,label\na,0\nb,0\nc,0\n", 2, "at least 2 are needed"),
        ("train.csv", "text,label\na,0\n,1\nc,2\n", 2, "line 3: There is no text in 'text'"),
        ("train.csv", "text,label\na,0\nb,1\n", 2, "2 rows for 3 classes"),
        ("val.csv", "text,label\na,no\nb,yes\n", 2, "'no' is none of negative, neutral, positive"),
        ("outputs", "a file", 2, "outputs"),
    ],
)
def test_bad_input_is_one_clear_line_and_leaves_nothing_behind(  # noqa: PLR0917 — one case, one line
    folder, base, reviewloop, file, content, code, message
):
    if content is None:
        (folder / file).unlink()
    else:
        (folder / file).write_text(content)
    before = sorted(path.name for path in folder.rglob("*"))
    said, out, err = reviewloop(*_train(base, "--num-labels", "3"))
    assert (said, out) == (code, "")
    assert message in err
    assert "Traceback" not in err
    assert sorted(path.name for path in folder.rglob("*")) == before


@pytest.mark.parametrize(
    ("more", "code", "message"),
    [
        (["--task-type", "generation"], 2, "not generation"),
        (["--labels", "a,b", "--num-labels", "3"], 2, "--labels names 2 classes"),
        (["--target-modules", "q_proj"], 2, "it has dense, key, query, value"),
        (["--peft-method", "prefix"], 2, "prefix"),
        (["--learning-rate", "-1"], 2, "learning_rate"),
        (["--model-name", "./nowhere"], 1, "no directory ./nowhere"),
        (["--learning-rate", "1e30"], 1, "try a lower learning rate"),
    ],
)
def test_options_that_cannot_be_meant_are_refused(  # noqa: PLR0917 — one case, one line
    folder, base, reviewloop, more, code, message
):
    said, _, err = reviewloop(*_train(base, *more))
    assert said == code, err
    assert message in err.replace("\n", " ")
    assert not (folder / "outputs" / "adapter").exists()


def test_train_has_an_option_for_each_field_of_the_recipe_with_its_type_bounds_and_description():
    command = typer.main.get_command(app).load("train")
    options = {option.name: option for option in command.params}
    assert set(options) - {"help"} == {
        "train_file", "val_file", "test_file", "base_model", "labels", "num_labels", "text_column",
        "label_column", "encoding", "delimiter", "output_dir", "adapter_dir", "resume", "overwrite", "note",
        "task", "task_type", "device", "precision", "peft_config", "peft_method", "lora_r", "lora_alpha",
        "lora_dropout", "target_modules", "adapted_layers", "pooling", "epochs", "least_steps",
        "patience_epochs", "batch_size", "accumulation_steps", "learning_rate", "warmup_fraction",
        "weight_decay", "label_smoothing", "class_weights", "gradient_checkpointing", "gradient_precision",
        "max_length_tokens", "seed", "checkpoint_steps", "save_precision",
    }  # fmt: skip
    recipe = {name: options[name] for name in TrainerSettings().recipe() if name in options}
    assert len(recipe) == 23
    assert all(option.default is None for option in recipe.values()), "unset: the settings decide"
    fields = TrainerSettings.model_fields
    assert all(option.help.startswith(fields[name].description) for name, option in recipe.items())
    assert {name: option.min for name, option in recipe.items() if option.min is not None} == {
        "lora_r": 1, "adapted_layers": 1, "lora_dropout": 0, "epochs": 1, "least_steps": 0,
        "patience_epochs": 1, "batch_size": 1, "accumulation_steps": 1,
        "warmup_fraction": 0, "weight_decay": 0, "label_smoothing": 0, "max_length_tokens": 8, "seed": 0,
        "checkpoint_steps": 1,
    }  # fmt: skip
    assert options["peft_method"].type_descriptor.annotation == PeftMethod
    assert options["gradient_checkpointing"].secondary_opts == ["--no-gradient-checkpointing"]


def test_a_full_disk_stops_the_run_with_a_line_and_no_adapter(folder, base, reviewloop, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    code, _, err = reviewloop(*_train(base))
    assert code == 1
    assert "No space left on device" in err
    assert not (folder / "outputs" / "adapter").exists()
    assert not [path for path in folder.rglob(".*") if path.is_dir() or "checkpoint" in path.name]


def test_two_runs_do_not_share_a_directory(folder, base, reviewloop):
    (folder / "outputs").mkdir()
    with FileLock(folder / "outputs" / ".lock-0"):
        code, _, err = reviewloop(*_train(base))
    assert code == 2
    assert "Another process is at work in outputs" in err


def test_an_adapter_is_not_served_on_another_base(folder, base, reviewloop, tmp_path_factory):
    assert reviewloop(*_train(base))[0] == 0
    other = tiny_base(tmp_path_factory.mktemp("other"), seed=5)
    code, _, err = reviewloop("predict", "a text", "--adapter", "outputs/adapter", "--base-model", str(other))
    assert code == 1
    assert "whose weights differ" in err


def test_a_new_project_trains_with_the_command_that_init_prints(folder, base, reviewloop, monkeypatch):
    code, out, err = reviewloop("init", "project", str(base), "lora")
    assert code == 0, err
    place, command = out.strip().split(" && reviewloop ")
    assert place == "cd project"
    assert {path.name for path in (folder / "project").iterdir()} == {
        "peft_config.json", "reviewloop.toml", "data",
    }  # fmt: skip
    monkeypatch.chdir(folder / "project")
    code, _, err = reviewloop(*command.split(), "--epochs", "1", "--max-length-tokens", "16")
    assert code == 0, err
    monkeypatch.chdir(folder)
    assert reviewloop("init", "project")[0] == 2


def test_data_is_validated_counted_and_split(folder, reviewloop):
    code, out, _ = reviewloop("data", "validate", "train.csv", "test.csv")
    assert code == 0
    (folder / "bad.jsonl").write_text('{"text": "a", "label": 0}\n{"text": " ", "label": 1}\n')
    code, out, err = reviewloop("data", "validate", "bad.jsonl", "--labels", "no,yes")
    assert code == 1
    assert "bad.jsonl, line 2: The text is not valid" in out
    assert "1 row(s) cannot be used" in err
    assert "rows that can be used" in reviewloop("data", "stats", "train.csv", "--format", "table")[1]
    found = json.loads(reviewloop("data", "stats", "train.csv")[1])
    assert (found["rows"], found["bad_rows"], found["word_quantiles"]["0.5"]) == (30, 0, 3)
    words = [f"row number {row} says {row * 7919},{row % 3}" for row in range(150)]
    (folder / "all.csv").write_text("text,label\n" + "\n".join(words) + "\n")
    code, out, err = reviewloop("data", "split", "all.csv", "parts")
    assert code == 0, err
    sizes = [len((folder / "parts" / f"{name}.csv").read_text().splitlines()) - 1 for name in _ROWS]
    assert sizes == [120, 15, 15]
    assert reviewloop("data", "split", "all.csv", "parts")[0] == 2
    assert reviewloop("data", "split", "bad.jsonl", "others")[0] == 2


def test_trainer_show_has_words_for_every_reason_that_leaves_a_labelled_review_out():
    assert set(LEFT_OUT_WORDS) == set(LEFT_OUT)


def test_classes_that_are_asked_for_and_have_no_rows_are_named(folder, capsys):
    files = {"train": folder / "train.csv", "validation": folder / "val.csv", "test": None}
    assert read_splits(files, "topic", num_labels=3).train.names == ("class_0", "class_1", "class_2")
    assert capsys.readouterr().err == ""
    read_splits(files, "topic", num_labels=5)
    assert "train.csv has no row of 'class_3', 'class_4', of 5 classes" in capsys.readouterr().err
    text = (folder / "val.csv").read_text().replace("aaa", "größe")
    (folder / "val.csv").write_bytes(text.encode("cp1252"))
    read_splits(files, "topic", labels="a,b,c,d")
    said = capsys.readouterr().err
    assert "no row of 'd', of 4 classes" in said
    assert "val.csv is not UTF-8 and read as Windows-1252" in said


def test_what_is_split_comes_back_as_it_was(folder, reviewloop):
    rows = [
        {
            "text": f'{begin}row {row} {row * 7919}\r{row}\r\n\n;"',
            "label": row % 2,
            "note": None if row % 3 else "=1",
        }
        for row, begin in enumerate(["", "=", "'-", " ", "\t"] * 20)
    ]
    (folder / "odd.jsonl").write_text("\n".join(map(json.dumps, rows)))
    code, _, err = reviewloop("data", "split", "odd.jsonl", "parts")
    assert code == 0, err
    columns = [Column(name, "--x") for name in ("text", "label", "note")]
    back = []
    for name in ("train", "val", "test"):
        with open_table(folder / "parts" / f"{name}.csv", columns) as table:
            back += [dict(row.values) for row in table.rows]
    assert sorted(map(repr, back)) == sorted(repr({**row, "label": str(row["label"])}) for row in rows)


def test_labels_with_a_fraction_of_zeros_are_the_numbers_that_they_are_in_every_format(folder, reviewloop):
    labels = [float(number % 3) for number in range(9)]
    texts = [f"text number {number} {number * 7919}" for number in range(9)]
    rows = [{"text": text, "label": label} for text, label in zip(texts, labels, strict=True)]
    (folder / "r.csv").write_text("text,label\n" + "\n".join(f"{row['text']},{row['label']}" for row in rows))
    (folder / "r.jsonl").write_text("\n".join(map(json.dumps, rows)))
    (folder / "r.json").write_text(json.dumps(rows))
    parquet.write_table(pa.table({"text": texts, "label": labels}), folder / "r.parquet")
    found = [read_dataset(folder / name) for name in ("r.csv", "r.jsonl", "r.json", "r.parquet")]
    assert {(rows.labels, rows.names) for rows in found} == {
        ((0, 1, 2) * 3, ("class_0", "class_1", "class_2"))
    }


@pytest.mark.parametrize(
    "content",
    ["text,label\nNice, but small,1\n", 'text,label\n"Never closed,1\nb,0\n', 'text,label\n"a"b,1\n'],
)
def test_a_row_that_is_none_fails_the_validation(folder, reviewloop, content):
    (folder / "bad.csv").write_text(content)
    code, out, _ = reviewloop("data", "validate", "bad.csv", "--labels", "no,yes")
    assert code == 1
    assert "bad.csv, line 2: " in out
