"""`runner diff`: what differs between two runs?"""

from __future__ import annotations

import click

from ..console import notices, the_store
from .options import complete_runs, epilog, output_option, store_option


@click.command(epilog=epilog(0, 2, 5, 6))
@click.argument("then", metavar="RUN", shell_complete=complete_runs)
@click.argument("now", metavar="RUN", shell_complete=complete_runs)
@output_option("text", "json", "markdown")
@store_option
def command(then: str, now: str, form: str, store: str | None) -> int:
    """Show what differs from one run to another: params, metrics, code, inputs, outputs, durations.

    For each metric that changed, it names every difference on the path to it: with one name, that is the cause.

    \b
    runner diff 20261124-1601-x62p 20261124-1612-k3qa
    runner diff x62p k3qa -o markdown
    """
    from ..compare import compare
    from ..reporters import difference
    from ..reporters.json import dump

    opened = the_store(store)
    before, after = (opened.recorded(opened.resolve(text)) for text in (then, now))
    found = compare(before, after, opened.run)
    notices(opened)
    click.echo(
        dump(difference.difference_json(found))
        if form == "json"
        else {"text": difference.difference_text, "markdown": difference.difference_markdown}[form](found)
    )
    return 0
