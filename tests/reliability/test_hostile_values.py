"""Values that break programs, by every way in and out: each arrives byte for byte, or is refused with a word; none is executed."""

import json
import sys
from pathlib import Path

import pytest

from runner import document
from tests.kit import Project

pytestmark = pytest.mark.reliability("J01")

NAUGHTY = [
    "'; touch SENTINEL #", '"; touch SENTINEL #', "$(touch SENTINEL)", "`touch SENTINEL`", "| touch SENTINEL", "& touch SENTINEL &", "; touch SENTINEL;", "\n touch SENTINEL\n", "&& touch SENTINEL",
    "--flag", "-rf", "-", "--", "-e", "-n", "$HOME", "${HOME}", "$IFS", "~", "*", "?", "[a-z]", "{a,b}", "!x", "!!", "\\", "\\\\", "\\n", "%s%n", "%PATH%", "#", "a b", " ", "", "\t", "\n", "\r\n", "\r",
    "'", '"', "''", '""', "`", "é", "日本", "😀", "\u202e", "\u200b", "\ufeff", "\u2028", "e\u0301", "\x1b[31m", "\x07", "\x7f", "\x85", "\xa0", "null", "true", "no", "~", "0", "-0", "010", "1e3", ".nan", "0x1F",
    "2023-02-31", "12:30:45", "NaN", "Infinity", "None", "undefined", "{}", "[]", "{{x}}", "${{x}}", "$$(x)", "$$", "<!--", "<script>alert(1)</script>", "' OR 1=1 --", "../../etc/passwd", "/etc/passwd", "file:///etc/passwd",
    "__import__('os').system('touch SENTINEL')", "=cmd|' /C calc'!A0", "::error::x", "\n::error::x", "##[error]x", "a=b", "A=B\nC=D", "x" * 100_000, "a,b", "a: b", "- a", "? a", "&a", "*a", "!!python/name:os.system", "|", ">", "@x", "%x", ",",
]  # fmt: skip
NAUGHTY = list(dict.fromkeys(NAUGHTY))

# Writes what came, as JSON: the arguments, and the variable V.
SHOW = "import json, os, sys; open('seen', 'w').write(json.dumps([sys.argv[1:], os.environ.get('V')]))"
PYTHON = "import json\ndef show(value):\n    open('seen', 'w').write(json.dumps([[value], None]))\ndef items(values):\n    open('seen', 'w').write(json.dumps([values, None]))\n"


def yaml_text(value: str) -> str:
    """Return a value as a text of YAML: JSON is one, but for what cannot stand in a file as it is."""
    return "".join(c if c.isprintable() else f"\\u{ord(c):04x}" for c in json.dumps(value, ensure_ascii=False))


@pytest.fixture
def by_params(project):
    return with_params(project)


def with_params(project: Project) -> Project:
    """Give a project a list of texts as a parameter, and one step for each way to give it to a process."""
    project.write(m_py=PYTHON, show_py=SHOW)
    project.pipeline(f"""
    params: {{xs: {{type: list, items: string, default: {json.dumps(["x"])}}}}}
    steps:
      argv: {{kind: command, command: [{sys.executable}, show.py, "$(params.xs[0])", "$(params.xs[1])"], code: [show.py], outputs: {{seen: {{type: file}}}}}}
      python: {{kind: python, function: "m:items", args: {{values: $(params.xs)}}, outputs: {{seen: {{type: file}}}}}}
    """)
    return project


def sentinels(root: Path) -> list[Path]:
    return [*root.rglob("SENTINEL"), *Path().glob("SENTINEL")]


def test_each_text_reaches_a_python_step_as_it_was_given_by_a_request(by_params):
    project = by_params
    project.request(f"params: {{xs: [{', '.join(map(yaml_text, [v for v in NAUGHTY if '$(' not in v]))}]}}\n")
    answer = project.runner("apply", "run.yaml")
    assert answer.code == 0, answer
    assert json.loads(project.output("python", "seen"))[0] == [v for v in NAUGHTY if "$(" not in v]
    assert sentinels(project.root) == []


def test_each_text_reaches_a_python_step_as_it_was_given_on_the_command_line(by_params):
    project = by_params
    answer = project.runner("apply", "p.yaml", "-p", f"xs={json.dumps([v for v in NAUGHTY if len(v) < 1000])}")
    assert answer.code == 0, answer
    assert json.loads(project.output("python", "seen"))[0] == [v for v in NAUGHTY if len(v) < 1000]
    assert sentinels(project.root) == []


def test_each_text_is_one_argument_and_one_variable_of_its_own(project):
    """Every text by argv, by a shell's variable, as a default, and as the output of the step before."""
    texts = [v for v in NAUGHTY if len(v) < 1000]
    args = ", ".join(f'"$(params.p{i})"' for i in range(len(texts)))
    variables = " ".join(f'"$V{i}"' for i in range(len(texts)))
    env = ", ".join(f'V{i}: "$(params.p{i})"' for i in range(len(texts)))
    params = "\n".join(f"  p{i}: {{type: string}}" for i in range(len(texts)))
    project.write(
        show_py="import json, os, sys\nopen('seen', 'w').write(json.dumps([sys.argv[1:], [os.environ[f'V{i}'] for i in range(len([k for k in os.environ if k[0] == 'V' and k[1:].isdigit()]))]]))\n"
    )
    (project.root / "p.yaml").write_text(
        f"apiVersion: runner/v1\nkind: Pipeline\nname: p\nparams:\n{params}\nsteps:\n"
        f"  argv: {{kind: command, command: [{sys.executable}, show.py, {args}], env: {{{env}}}, code: [show.py], outputs: {{seen: {{type: file}}}}}}\n"
        f"  shell:\n    kind: shell\n    env: {{{env}}}\n    code: [show.py]\n    outputs: {{seen: {{type: file}}}}\n    script: |\n"
        f"      {sys.executable} show.py {variables}\n"
    )
    given = [arg for i, text in enumerate(texts) for arg in ("-p", f"p{i}={text}")]
    answer = project.runner("apply", "p.yaml", *given)
    assert answer.code == 0, answer
    for step in ("argv", "shell"):
        assert json.loads(project.output(step, "seen")) == [texts, texts], step
    assert sentinels(project.root) == []


def test_each_text_stays_itself_as_an_output_a_default_a_label_and_an_item(project):
    texts = [v for v in NAUGHTY if len(v) < 1000]
    project.write(m_py=PYTHON + f"def give():\n    return {{'xs': {texts!r}, 'x': {texts[0]!r}}}\n")
    axis = ", ".join(yaml_text(v.replace("$(", "$$(")) for v in texts)
    labels = ", ".join(f"l{i}: {yaml_text(v)}" for i, v in enumerate(texts))
    project.pipeline(f"""
    labels: {{{labels}}}
    steps:
      give: {{kind: python, function: "m:give", outputs: {{xs: {{type: list, items: string}}, x: {{type: string}}}}}}
      take: {{kind: python, function: "m:items", args: {{values: $(steps.give.outputs.xs)}}, outputs: {{seen: {{type: file}}}}}}
      each: {{kind: python, function: "m:echo", args: {{value: $(each.v)}}, foreach: {{over: {{v: [{axis}]}}}}, outputs: {{v: {{type: string}}}}}}
      every: {{kind: python, function: "m:items", args: {{values: $(steps.each.outputs.v)}}, outputs: {{seen: {{type: file}}}}}}
    """)
    with open(project.root / "m.py", "a") as file:
        file.write("def echo(value):\n    return {'v': value}\n")
    answer = project.runner("apply", "p.yaml")
    assert answer.code == 0, answer
    assert json.loads(project.output("take", "seen"))[0] == texts
    assert json.loads(project.output("every", "seen"))[0] == texts
    assert sentinels(project.root) == []
    assert all(c.isprintable() or c == "\n" for c in answer.out + answer.err)


def test_content_of_a_file_arrives_byte_for_byte(project):
    content = b"\0\xff\xfe\r\n".join(v.encode("utf-8", "surrogatepass") for v in NAUGHTY)
    (project.root / "in.bin").write_bytes(content)
    project.pipeline("""
    params: {f: {type: file, default: in.bin}}
    steps:
      a: {kind: command, command: [cp, $(params.f), o], outputs: {o: {type: file}}}
      b: {kind: shell, script: cat "$I" > o, env: {I: $(steps.a.outputs.o)}, outputs: {o: {type: file}}}
    """)
    assert project.runner("apply", "p.yaml").code == 0
    assert project.output("b") == content


@pytest.mark.parametrize(
    ("value", "says"),
    [
        pytest.param("a\0b", "error[E120]: params.s: the text holds a NUL character", id="NUL"),
        pytest.param("x" * 140_000, "", id="more than one argument may have"),
    ],
)
def test_what_no_process_can_be_given_is_refused_before_the_start(project, value, says):
    project.pipeline("""
    params: {s: {type: string}}
    steps: {a: {kind: command, command: [echo, $(params.s)], outputs: {o: {type: file, optional: true}}}}
    """)
    project.request(f"params: {{s: {yaml_text(value)}}}\n")
    answer = project.runner("apply", "run.yaml")
    assert answer.code != 0 and says in answer.err, answer
    assert "128 KiB" in answer.out + answer.err or says, answer


@pytest.mark.parametrize(
    ("given", "says"),
    [
        pytest.param(b"s=a\xff\xfeb", "params.s: the text is not UTF-8", id="bytes"),
        pytest.param('xs=["\\ud800"]', "params.xs: the text is not UTF-8", id="half a character"),
        pytest.param("xs=[NaN]", "params.xs: it holds a number that is not finite", id="NaN"),
        pytest.param("xs=[1e999]", "params.xs: it holds a number that is not finite", id="infinity"),
        pytest.param("xs=" + "[" * 100_000, "-p xs: expected a list as JSON, got '[[[", id="deep"),
        pytest.param("xs=[" + "1" * 5000 + "]", "-p xs: expected a list as JSON, got '[111", id="5000 digits"),
        pytest.param("n=" + "1" * 5000, "-p n: has too many digits", id="an integer of 5000 digits"),
        pytest.param("n=0x" + "f" * 5000, "-p n: has too many digits", id="in base 16"),
    ],
)
def test_what_is_no_value_is_refused_on_the_command_line(project, given, says):
    project.pipeline("""
    params: {s: {type: string, default: x}, xs: {type: list, default: []}, n: {type: integer, default: 1}}
    steps: {a: {kind: command, command: [printf, '%s', $(params.s)]}}
    """)
    for command in ("plan", "apply"):
        answer = project.runner(command, "p.yaml", "-p", given)
        assert (answer.code, says in answer.err, len(answer.err) < 2000) == (2, True, True), answer
    assert not (project.root / ".runner").exists()


@pytest.mark.parametrize("value", NAUGHTY, ids=range(len(NAUGHTY)))
def test_a_plain_or_quoted_scalar_is_read_as_it_is_written(value):
    found = document.parse(f"a: {yaml_text(value)}\n".encode(), "x.yaml").value["a"]
    assert found == value
