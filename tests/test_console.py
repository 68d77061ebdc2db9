"""What the commands print, on terminals of every kind."""

import io
import sys

import pytest
import typer

from pixmix_ray.cli.console import call, tell


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp1252", "utf-8"])
def test_a_terminal_that_is_not_utf_8_loses_signs_and_no_run(encoding: str, monkeypatch: pytest.MonkeyPatch) -> None:
    written = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(written, encoding=encoding, write_through=True))
    monkeypatch.setattr(sys, "argv", ["pixmix-ray"])
    app = typer.Typer()

    @app.command()
    def table() -> None:
        sys.stdout.write("5.0 ± 0.1 ↓ β")

    with pytest.raises(SystemExit) as ended:
        call(app)
    assert ended.value.code == 0
    assert written.getvalue().decode(encoding).startswith("5.0 ")


def test_what_a_file_is_called_does_not_steer_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    tell("cannot decode \x1b[2Jé\udce9.png\nthe next line")
    assert capsys.readouterr().err == "cannot decode \\x1b[2Jé\\udce9.png\nthe next line\n"
