"""`runner validate`: are these files right?"""

from __future__ import annotations

import json
import os

import click

from .options import epilog, output_option


@click.command(epilog=epilog(0, 2))
@click.argument("files", nargs=-1, required=True, type=click.Path())
@output_option("text", "json")
def command(files: tuple[str, ...], form: str) -> int:
    """Check pipeline and run files: YAML, fields, names, types, graph. All mistakes of a stage are shown at once.

    \b
    runner validate pipelines/abalone/pipeline.yaml pipelines/abalone/runs/*.yaml
    """
    from .. import app
    from ..errors import Diagnostic, Invalid, RunnerError

    found: list[Diagnostic] = []
    errors: list[str] = []
    for path in files:
        try:
            asked = app.read(path)
            app.check_request(asked, whole=asked.document is not None)
            app.check_names(asked)
            found += asked.pipeline.warnings
        except Invalid as error:
            found += error.diagnostics
            errors.append(str(error))
        except RunnerError as error:
            found.append(Diagnostic(path, 0, 0, error.code or "E108", error.text, error.help))
            errors.append(str(found[-1]))
    failed = [d for d in found if d.severity == "error"]
    if form == "json":
        fields = ("path", "line", "column", "severity", "code", "text", "help")
        click.echo(json.dumps([{name: getattr(d, name) for name in fields} for d in dict.fromkeys(found)], indent=2))
        return 2 if failed else 0
    if os.environ.get("GITHUB_ACTIONS") == "true":
        from ..reporters.annotations import diagnostic_lines

        for line in diagnostic_lines(dict.fromkeys(found)):
            click.echo(line)
    for text in dict.fromkeys(errors):
        click.echo(text, err=True)
    for warning in dict.fromkeys(d for d in found if d.severity == "warning"):
        click.echo(str(warning), err=True)
    if failed:
        return 2
    click.echo(f"{len(files)} {'file is' if len(files) == 1 else 'files are'} right")
    return 0
