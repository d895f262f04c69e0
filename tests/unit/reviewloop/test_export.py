"""The export's command and settings, without a database."""

import sys
from threading import Event

import pytest
from typer.testing import CliRunner

from reviewloop.cli import app
from reviewloop.settings import load_settings
from reviewloop.wiring.nightly import export_job
from reviews.errors import WrongUse
from reviews.export import ExportPosition


def test_without_the_extra_the_command_names_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "adbc_driver_postgresql", None)
    monkeypatch.setenv("REVIEWLOOP_DATABASE__URL", "postgresql://nobody@127.0.0.1:1/none")
    error = CliRunner().invoke(app, ["export", "lake"]).exception
    assert isinstance(error, WrongUse)
    assert str(error) == (
        "Exports need adbc_driver_postgresql: install them with pip install 'reviewloop[export]'."
    )


def test_an_unknown_data_set_and_a_missing_target_are_wrong_use(monkeypatch):
    monkeypatch.setenv("REVIEWLOOP_DATABASE__URL", "postgresql://nobody@127.0.0.1:1/none")
    error = CliRunner().invoke(app, ["export", "lake", "--only", "stars"]).exception
    assert "There is no data set 'stars': there is labels, predictions" in str(error)
    error = CliRunner().invoke(app, ["export"]).exception
    assert isinstance(error, WrongUse)
    assert "export.target" in str(error)


@pytest.mark.parametrize("target", ["s3://key:secret@bucket/lake", "file:///lake"])
def test_a_target_with_credentials_is_refused_and_not_repeated(monkeypatch, target):
    monkeypatch.setenv("REVIEWLOOP_EXPORT__TARGET", target)
    with pytest.raises(WrongUse, match="must be a folder, or an address without user and password") as error:
        load_settings()
    assert "secret@" not in str(error.value)


def test_a_schedule_exports_by_its_setting_and_to_a_target(monkeypatch):
    assert export_job(load_settings(), Event()) == []
    monkeypatch.setenv("REVIEWLOOP_EXPORT__CRON", "15 4 * * *")
    with pytest.raises(WrongUse, match=r"set export\.target"):
        export_job(load_settings(), Event())
    monkeypatch.setenv("REVIEWLOOP_EXPORT__TARGET", "lake")
    (job,) = export_job(load_settings(), Event())
    assert (job.name, job.cron, job.setting) == ("export", "15 4 * * *", "export.cron")


def test_a_position_is_the_same_after_it_was_written_down():
    position = ExportPosition(database="d" * 16, streams={3: 7}, jobs=(1, 4), transaction=99, label=5)
    assert ExportPosition.model_validate_json(position.model_dump_json()) == position
