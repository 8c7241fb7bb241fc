"""`runner graph`: how do the steps hang together?"""

from __future__ import annotations

import click

from .options import epilog


@click.command(epilog=epilog(0, 2))
@click.argument("file", type=click.Path())
@click.option(
    "-o",
    "--output",
    "form",
    type=click.Choice(["text", "json", "mermaid", "dot"]),
    default="text",
    show_default=True,
    help="The form of what is printed.",
)
def command(file: str, form: str) -> int:
    """Draw a pipeline: each step with what it comes after, and why.

    \b
    runner graph pipelines/abalone/pipeline.yaml
    runner graph pipelines/abalone/pipeline.yaml -o mermaid
    """
    from .. import app
    from ..reporters import graph, json

    asked = app.read(file)
    forms = {
        "text": graph.graph_text,
        "mermaid": graph.graph_mermaid,
        "dot": graph.graph_dot,
        "json": lambda *a: json.dump(graph.graph_value(*a)),
    }
    click.echo(forms[form](asked.pipeline, asked.graph))
    return 0
