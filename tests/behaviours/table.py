"""Compares what two brokers did, and puts the table of it into a README between its markers.

    table.py write|check README RABBITMQ.jsonl EMBEDDED.jsonl

Every check that differs is to be in differences.json with its reason, and no other. With `check` the README is to have
the very table already.
"""

import json
import sys
from pathlib import Path

BEGIN = "<!-- behaviours: made by `make behaviours`, do not edit -->"
END = "<!-- end of behaviours -->"
# How much of an observation the table shows, in characters.
SHOWN = 100


def read(path):
    lines = [json.loads(line) for line in Path(path).read_text().splitlines()]
    return {f"{line['group']}: {line['name']}": line["observed"] for line in lines}


def shown(observed):
    text = json.dumps(observed, ensure_ascii=False, sort_keys=True)
    text = text if len(text) <= SHOWN else text[: SHOWN - 1] + "…"
    return "`" + text.replace("`", "'").replace("|", "\\|") + "`"


def table(rabbitmq, embedded, reasons):
    rows = ["| check | RabbitMQ 3.10.8 | embedded broker |", "|---|---|---|"]
    for name, observed in rabbitmq.items():
        same = embedded[name] == observed
        rows.append(f"| {name.replace('|', chr(92) + '|')} | {shown(observed)} | "
                    f"{'same' if same else 'differs: ' + reasons[name]} |")
    same = sum(embedded[name] == observed for name, observed in rabbitmq.items())
    return "\n".join([f"{len(rabbitmq)} checks: {same} the same, {len(rabbitmq) - same} different.", "", *rows])


def main(mode, readme, rabbitmq, embedded):
    rabbitmq, embedded = read(rabbitmq), read(embedded)
    reasons = json.loads((Path(__file__).parent / "differences.json").read_text())
    problems = [f"{name}: seen at one broker only" for name in sorted(set(rabbitmq) ^ set(embedded))]
    problems += [f"{name}: cannot be observed: {observed}" for name, observed in rabbitmq.items()
                 if isinstance(observed, dict) and "fails" in observed]
    for name in rabbitmq:
        if name not in embedded:
            continue
        if embedded[name] == rabbitmq[name] and name in reasons:
            problems.append(f"{name}: is the same, and is listed as different")
        if embedded[name] != rabbitmq[name] and name not in reasons:
            both = [json.dumps(one[name], sort_keys=True, ensure_ascii=False) for one in (rabbitmq, embedded)]
            problems.append(f"{name}: differs\n  RabbitMQ: {both[0]}\n  embedded: {both[1]}")
    problems += [f"{name}: is listed as different, and is no check" for name in reasons if name not in rabbitmq]
    if problems:
        sys.exit("\n".join(problems))
    text = Path(readme).read_text()
    before, _, rest = text.partition(BEGIN)
    after = rest.partition(END)[2]
    fresh = f"{before}{BEGIN}\n\n{table(rabbitmq, embedded, reasons)}\n\n{END}{after}"
    if mode == "write":
        Path(readme).write_text(fresh)
    elif fresh != text:
        sys.exit(f"{readme}: the table is not what was measured; `make behaviours` writes it")


if __name__ == "__main__":
    main(*sys.argv[1:])
