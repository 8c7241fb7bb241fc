"""Does every plan tell the truth? Random pipelines, edits and selections; each run is compared with a full run.

`cases` makes a case of a seed (`pipelines`, `edits`, `requests` are its parts), `worlds` drives the product as a user does,
`property` says what must hold, `shrink` makes a failing case small, `replay` writes it as a script for a person.

    python -m tests.truth 17                    one case; prints what does not hold and writes a folder with cmd.sh
    python -m tests.truth 17 --shrink           the same, with a case as small as can be
    python -m tests.truth --seeds 0:3000 --jobs 2
"""
