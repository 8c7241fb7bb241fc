"""Ask what is served two questions whose answers everybody knows; exit with 1 if it answers otherwise."""

import argparse
import json
import pathlib
import sys

from model import score

QUESTIONS = {"new, and calls every day": ([1, 8, 4], True), "four years without a word": ([48, 0, 0], False)}


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--served", required=True)
    parser.add_argument("--version", type=int, required=True)
    parser.add_argument("--answers", required=True)
    options = parser.parse_args()
    served = json.loads(pathlib.Path(options.served).read_text())
    if served["version"] != options.version:
        sys.exit(f"version {served['version']} is served; version {options.version} was expected")
    answers = {asked: score(served["model"], features) > 0.5 for asked, (features, _) in QUESTIONS.items()}
    pathlib.Path(options.answers).write_text(json.dumps(answers, indent=2) + "\n")
    wrong = [asked for asked, (_, answer) in QUESTIONS.items() if answers[asked] is not answer]
    if wrong:
        sys.exit(f"wrong answers: {'; '.join(wrong)}")
    print(f"{len(answers)} answers are right")


if __name__ == "__main__":
    main()
