// Does what its message says with what a manifest grants, for grants.mjs. The body's first word is the action, and each
// that follows an argument.

import {
  Delivery, Outcome, ProblemKind, Publication, Request, Result, Store, appendFile, readTextFile, removeFile,
  renameFile, requiredSetting, secret, serve, settings, writeTextFile,
} from "wabbit";

function handle(delivery: Delivery): Outcome {
  const words = delivery.text()!.split(" ");
  const first = words.length > 1 ? words[1] : "";
  const second = words.length > 2 ? words[2] : "";
  const action = words[0];
  if (action == "settings") {
    const all = settings();
    const names = all.keys().sort();
    return say(names.map<string>((name: string): string => name + "=" + settings().get(name)).join(" "));
  }
  if (action == "secret") {
    const found = secret(first);
    if (found.problem !== null) return tell<string>(requiredSetting(first));
    return say(`${found.value} ${found.value.expose()}`);
  }
  if (action == "keys") return say(Store.open(first).value.keys().value.join(" "));
  if (action == "value") {
    const value = Store.open(first).value.text(second);
    return value.problem === null && value.value === null ? say("none") : tell<string | null>(value);
  }
  if (action == "increment") return tell<u64>(Store.open(first).value.increment(second));
  if (action == "open") {
    const opened = Store.open(first);
    return tell<bool>(new Result<bool>(true, opened.problem, opened.kind));
  }
  if (action == "get") {
    const answered = Request.get(first).query("q", "a b&ü").header("X-A", "1").bearer("t").within(1500).send();
    if (answered.problem !== null) return tell<bool>(new Result<bool>(false, answered.problem, answered.kind));
    const problem = answered.value.problem;
    const text = answered.value.text();
    return problem !== null ? say(problem) : text !== null ? say(text) : say("no text");
  }
  if (action == "header") {
    const answered = Request.post("https://a.example/").header(first, second).text("ä").send();
    if (answered.problem !== null) return tell<bool>(new Result<bool>(false, answered.problem, answered.kind));
    return say("sent");
  }
  if (action == "read") return tell<string>(readTextFile(first));
  if (action == "write") return tell<bool>(writeTextFile(first, second));
  if (action == "append") return tell<bool>(appendFile(first, Uint8Array.wrap(String.UTF8.encode(second))));
  if (action == "rename") return tell<bool>(renameFile(first, second));
  if (action == "remove") return tell<bool>(removeFile(first));
  return Outcome.fail("unknown: " + action);
}

function say(text: string): Outcome {
  return Outcome.ack().publish(new Publication("", "said").text(text));
}

/** What was given, or the problem. */
function tell<T>(result: Result<T>): Outcome {
  const problem = result.problem;
  if (problem !== null) return Outcome.deadLetter(`${kindName(result.kind)}: ${problem}`);
  const value = result.value;
  if (isString<T>()) return say(changetype<string>(value));
  return say(isNullable<T>() ? "null" : value.toString());
}

function kindName(kind: ProblemKind): string {
  switch (kind) {
    case ProblemKind.NotGranted: return "not granted";
    case ProblemKind.Missing: return "missing";
    case ProblemKind.Request: return "request";
    case ProblemKind.Connection: return "connection";
    case ProblemKind.Timeout: return "timeout";
    case ProblemKind.TooLarge: return "too large";
    default: return "other";
  }
}

serve(handle);
