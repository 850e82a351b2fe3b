/** Values as text, for the log and for errors. Roughly what Node.js prints. */

const DEPTH_MAX = 4;
const ITEMS_MAX = 100;
const CAUSES_MAX = 8;

/** An error with its message, stack and causes; of anything else thrown, what it is. */
export function describeError(error) {
  if (!(error instanceof Error)) return `thrown: ${typeof error === "string" ? error : inspect(error)}`;
  const lines = [];
  let cause = error;
  for (let count = 0; cause !== undefined && count < CAUSES_MAX; count += 1) {
    lines.push(`${count === 0 ? "" : "caused by: "}${describeOne(cause)}`);
    cause = cause instanceof Error ? cause.cause : undefined;
  }
  return lines.join("\n");
}

function describeOne(error) {
  if (!(error instanceof Error)) return inspect(error);
  const title = error.message === "" ? error.name : `${error.name}: ${error.message}`;
  const stack = typeof error.stack === "string" ? error.stack.trimEnd() : "";
  // The engine's stacks hold the calls only, others' begin with the title.
  return stack === "" || stack.startsWith(title) ? stack || title : `${title}\n${stack}`;
}

/** The arguments of `console.log` as one text: `%s` and its kin are filled in, the rest is appended. */
export function format(values) {
  let rest = values;
  const parts = [];
  if (typeof values[0] === "string") {
    let next = 1;
    const filled = values[0].replace(/%[sdifjoOc%]/g, (mark) => {
      if (mark === "%%") return values.length === 1 ? mark : "%";
      if (next >= values.length) return mark;
      const value = values[next];
      next += 1;
      return fill(mark, value);
    });
    parts.push(filled);
    rest = values.slice(next);
  }
  for (const value of rest) parts.push(typeof value === "string" ? value : inspect(value));
  return parts.join(" ");
}

function fill(mark, value) {
  switch (mark) {
    case "%s":
      return typeof value === "string" ? value : inspect(value);
    case "%d":
      return typeof value === "bigint" ? `${value}n` : String(Number(value));
    case "%i":
      return typeof value === "bigint" ? `${value}n` : String(Number.parseInt(value, 10));
    case "%f":
      return String(Number.parseFloat(value));
    case "%j":
      return JSON.stringify(value);
    case "%c":
      return "";
    default:
      return inspect(value);
  }
}

export function inspect(value, depth = 0, parents = []) {
  switch (typeof value) {
    case "string":
      return JSON.stringify(value);
    case "bigint":
      return `${value}n`;
    case "function":
      return `[Function${value.name === "" ? "" : `: ${value.name}`}]`;
    case "object":
      return value === null ? "null" : inspectObject(value, depth, parents);
    default:
      return Object.is(value, -0) ? "-0" : String(value);
  }
}

function inspectObject(value, depth, parents) {
  if (parents.includes(value)) return "[Circular]";
  if (value instanceof Error) return describeError(value);
  if (value instanceof Date) return Number.isNaN(value.getTime()) ? "Invalid Date" : value.toISOString();
  if (value instanceof RegExp) return String(value);
  const name = value.constructor?.name ?? "";
  if (depth > DEPTH_MAX) return `[${Array.isArray(value) ? "Array" : name || "Object"}]`;

  const inner = (item) => inspect(item, depth + 1, [...parents, value]);
  if (Array.isArray(value)) return wrap("", "[", list(value, value.length, inner), "]");
  if (ArrayBuffer.isView(value) && !(value instanceof DataView)) {
    return wrap(`${name}(${value.length}) `, "[", list(value, value.length, inner), "]");
  }
  if (value instanceof Set) return wrap(`Set(${value.size}) `, "{", list(value, value.size, inner), "}");
  if (value instanceof Map) {
    const pair = ([key, item]) => `${inner(key)} => ${inner(item)}`;
    return wrap(`Map(${value.size}) `, "{", list(value, value.size, pair), "}");
  }
  const keys = Object.keys(value);
  const entry = (key) => `${/^[A-Za-z_$][\w$]*$/.test(key) ? key : JSON.stringify(key)}: ${inner(value[key])}`;
  return wrap(name === "" || name === "Object" ? "" : `${name} `, "{", list(keys, keys.length, entry), "}");
}

function list(items, length, show) {
  const shown = [];
  for (const item of items) {
    if (shown.length === ITEMS_MAX) {
      shown.push(`... ${length - ITEMS_MAX} more`);
      break;
    }
    shown.push(show(item));
  }
  return shown;
}

function wrap(prefix, open, shown, close) {
  if (shown.length === 0) return `${prefix}${open}${close}`;
  return `${prefix}${open} ${shown.join(", ")} ${close}`;
}
