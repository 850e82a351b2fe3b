// Runs a compiled handler under node, so that its tests need neither a host nor a broker: the part of the component
// model's canonical ABI that sdk/wit/worker.wit needs. Deliveries and outcomes are in the contract's JSON form; every
// field of a delivery may be left out.
//
//   const handler = load(build(import.meta.url)); // the handler beside the test
//   handler.handle({ text: "Ada" }); // { settlement: "ack", publications: [...] }
//
// A failure is thrown as an `Error` with its text, a trap as a `WebAssembly.RuntimeError`. What the handler wrote is in
// `handler.log`.

import { execFileSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { folders } from "./folders.mjs";
import { grants } from "./grants.mjs";

const WASI = "wasi_snapshot_preview1";
const HANDLE = "wabbit:worker/handler@0.1.0#handle";

// What each type takes in memory: [bytes, alignment]. Read and write go with them below.
const TEXT = { size: 8, align: 4 };
const option = (of) => {
  const value = align(1, of.align);
  return { of, value, size: align(value + of.size, of.align), align: of.align };
};
const align = (offset, to) => Math.ceil(offset / to) * to;
const U8 = { size: 1, align: 1 };
const U32 = { size: 4, align: 4 };
const U64 = { size: 8, align: 8 };

/** Offsets of a record's fields, each at the next multiple of its alignment. */
function record(fields) {
  let offset = 0;
  let most = 1;
  const at = {};
  for (const [name, type] of Object.entries(fields)) {
    offset = align(offset, type.align);
    at[name] = offset;
    offset += type.size;
    most = Math.max(most, type.align);
  }
  return { fields, at, size: align(offset, most), align: most };
}

const FIELD = { size: 16, align: 8 };
const HEADER = record({ name: TEXT, field: FIELD });
const PROPERTIES = record({
  content_type: option(TEXT),
  content_encoding: option(TEXT),
  headers: TEXT,
  persistent: U8,
  priority: option(U8),
  correlation_id: option(TEXT),
  reply_to: option(TEXT),
  expiration_ms: option(U32),
  message_id: option(TEXT),
  timestamp: option(U64),
  kind: option(TEXT),
  user_id: option(TEXT),
  app_id: option(TEXT),
});
const DELIVERY = record({
  body: TEXT,
  properties: PROPERTIES,
  exchange: TEXT,
  routing_key: TEXT,
  queue: TEXT,
  redelivered: U8,
  attempt: U32,
});
const PUBLICATION = record({ exchange: TEXT, routing_key: TEXT, body: TEXT, properties: PROPERTIES });

/** The parts of records, for tests of other implementations of the layout. */
export const layout = { DELIVERY, PROPERTIES, HEADER, PUBLICATION };

/** Compiles the handler that is in the folder of that file's URL, and gives its bytes. */
export function build(url) {
  const work = mkdtempSync(join(tmpdir(), "wabbit-"));
  try {
    const out = join(work, "handler.wasm");
    const options = { stdio: ["ignore", "ignore", "inherit"] };
    execFileSync(fileURLToPath(new URL("build", import.meta.url)), [fileURLToPath(new URL(".", url)), out], options);
    return readFileSync(out);
  } finally {
    rmSync(work, { recursive: true });
  }
}

/**
 * Instantiates the handler with those bytes, or in that file, which may ask for its worker's name and the milliseconds
 * left. What a manifest would grant it:
 *
 *   config, secrets: { from: "shop@example.com" }
 *   keyvalue: { orders: {} } // the store's values, as buffers, which the handler reads and writes there
 *   http: ({ method, url, headers, body, timeout_ns }) => ({ status, headers, body }), or an error's name
 *   files: { "/reports": {} } // the folder's files, as buffers
 *
 * `wasi` gives more functions of WASI preview 1, for a module of another language; it is called with a function that
 * gives the memory.
 */
export function load(handler, { worker = "test", remaining_ms = 5000, wasi = () => ({}), ...granted } = {}) {
  const bytes = typeof handler === "string" ? readFileSync(handler) : handler;
  return new Handler(new WebAssembly.Module(bytes), worker, remaining_ms, wasi, granted);
}

class Handler {
  /** What was written to stdout and stderr. */
  log = "";
  /** What the adapter from WASI preview 1, through which the host gets what is logged, has for itself. */
  #adapter;
  /** True while the component model forbids to call out: while arguments are lowered and in post-return. */
  #closed = false;
  #exports;
  #handles;

  constructor(module, worker, remainingMs, wasi, granted) {
    const memory = {
      view: () => this.#view,
      at: (address, length) => this.#bytesAt(address, length),
      text: (at, text) => this.#text(at, text),
      bytes: (at, bytes) => this.#bytes(at, bytes),
      allocate: (size, align) => this.#allocate(size, align),
    };
    const { tables, handles } = grants(granted, memory);
    this.#handles = handles;
    const { fd_write, ...files } = folders(granted.files ?? {}, memory);
    const known = {
      ...mapped(tables, (call) => (...values) => this.#within(() => call(...values))),
      [WASI]: {
        ...files,
        fd_write: (descriptor, list, count, written) =>
          descriptor > 2 ? fd_write(descriptor, list, count, written) : this.#write(list, count, written),
        proc_exit: (code) => {
          throw new WebAssembly.RuntimeError(`exit ${code}`);
        },
        ...wasi(() => this.#exports.memory),
      },
      "wabbit:worker/context@0.1.0": {
        "worker": (result) => this.#within(() => this.#text(result, worker)),
        "remaining-ms": () => remainingMs,
      },
    };
    const wanted = {};
    for (const { module: from, name } of WebAssembly.Module.imports(module)) {
      const call = known[from]?.[name];
      if (!call) throw new Error(`the handler imports ${from} ${name}, which this test does not offer`);
      (wanted[from] ??= {})[name] = (...values) => {
        if (this.#closed) throw new WebAssembly.RuntimeError(`${name} is called where a component must not call out`);
        if (from === WASI) this.#adapt();
        return call(...values);
      };
    }
    this.#exports = new WebAssembly.Instance(module, wanted).exports;
    this.#exports._initialize?.();
  }

  /** How many bytes the handler's memory has. */
  get memoryBytes() {
    return this.#exports.memory.buffer.byteLength;
  }

  /** How many resources of the host the handler has in hand, such as open stores. */
  get handles() {
    return this.#handles.count;
  }

  /** One delivery through the handler. */
  handle(delivery) {
    const address = this.#within(() => this.#delivery(delivery));
    const result = this.#exports[HANDLE](address);
    try {
      return this.#result(result);
    } finally {
      this.#within(() => this.#exports["cabi_post_" + HANDLE]?.(result));
    }
  }

  /** Takes memory as the adapter does, when it is first called, and sees that nothing else writes there. */
  #adapt() {
    const { cabi_realloc_adapter, cabi_realloc } = this.#exports;
    const size = 2 << 16;
    if (this.#adapter === undefined) {
      this.#adapter = (cabi_realloc_adapter ?? cabi_realloc)(0, 0, 8, size);
      this.#bytesAt(this.#adapter, size).fill(0x5a);
    }
    // A sample: this is done for each call to WASI, of which there are many.
    const bytes = this.#bytesAt(this.#adapter, size);
    for (let at = 0; at < size; at += 1021) {
      if (bytes[at] !== 0x5a) throw new Error("the memory of the WASI adapter was overwritten");
    }
  }

  #within(call) {
    this.#closed = true;
    try {
      return call();
    } finally {
      this.#closed = false;
    }
  }

  get #view() {
    return new DataView(this.#exports.memory.buffer);
  }

  #bytesAt(address, length) {
    return new Uint8Array(this.#exports.memory.buffer, address, length);
  }

  #write(list, count, written) {
    let bytes = 0;
    for (let i = 0; i < count; i++) {
      const address = this.#view.getUint32(list + i * 8, true);
      const length = this.#view.getUint32(list + i * 8 + 4, true);
      this.log += Buffer.from(this.#bytesAt(address, length)).toString();
      bytes += length;
    }
    this.#view.setUint32(written, bytes, true);
    return 0;
  }

  #allocate(size, to) {
    const address = this.#exports.cabi_realloc(0, 0, to, size) >>> 0;
    if (address % to !== 0) throw new Error(`cabi_realloc gave ${address} for an alignment of ${to}`);
    this.#bytesAt(address, size).fill(0xa5); // what a record does not set is not to be relied upon
    return address;
  }

  // Lowering: into the handler's memory.

  #bytes(at, bytes) {
    const address = bytes.length === 0 ? 0 : this.#allocate(bytes.length, 1);
    this.#bytesAt(address, bytes.length).set(bytes);
    this.#view.setUint32(at, address, true);
    this.#view.setUint32(at + 4, bytes.length, true);
  }

  #text(at, text) {
    this.#bytes(at, Buffer.from(text));
  }

  #option(at, type, value, set) {
    this.#view.setUint8(at, value === undefined ? 0 : 1);
    if (value !== undefined) set(at + type.value);
  }

  #delivery(d) {
    const address = this.#allocate(DELIVERY.size, DELIVERY.align);
    const at = (field) => address + DELIVERY.at[field];
    this.#bytes(at("body"), bodyOf(d));
    this.#properties(at("properties"), d.properties ?? {});
    this.#text(at("exchange"), d.exchange ?? "");
    this.#text(at("routing_key"), d.routing_key ?? "");
    this.#text(at("queue"), d.queue ?? "");
    this.#view.setUint8(at("redelivered"), d.redelivered ? 1 : 0);
    this.#view.setUint32(at("attempt"), d.attempt ?? 1, true);
    return address;
  }

  #properties(address, p) {
    for (const [name, type] of Object.entries(PROPERTIES.fields)) {
      const at = address + PROPERTIES.at[name];
      if (name === "headers") this.#headers(at, Object.entries(p.headers ?? {}));
      else if (name === "persistent") this.#view.setUint8(at, p.persistent ? 1 : 0);
      else this.#option(at, type, p[name], (to) => this.#scalar(to, type.of, p[name]));
    }
  }

  #scalar(at, type, value) {
    if (type === TEXT) this.#text(at, value);
    else if (type === U8) this.#view.setUint8(at, value);
    else if (type === U32) this.#view.setUint32(at, value, true);
    else this.#view.setBigUint64(at, BigInt(value), true);
  }

  #headers(at, headers) {
    const list = headers.length === 0 ? 0 : this.#allocate(headers.length * HEADER.size, HEADER.align);
    headers.forEach(([name, value], i) => {
      const header = list + i * HEADER.size;
      this.#text(header + HEADER.at.name, name);
      this.#field(header + HEADER.at.field, value);
    });
    this.#view.setUint32(at, list, true);
    this.#view.setUint32(at + 4, headers.length, true);
  }

  #field(at, value) {
    const is = (kind) => this.#view.setUint8(at, kind);
    const to = at + 8;
    if (value === null) is(7);
    else if (typeof value === "boolean") (is(0), this.#view.setUint8(to, value ? 1 : 0));
    else if (typeof value === "bigint" || Number.isInteger(value)) {
      (is(1), this.#view.setBigInt64(to, BigInt(value), true));
    } else if (typeof value === "number") (is(2), this.#view.setFloat64(to, value, true));
    else if (typeof value === "string") (is(3), this.#text(to, value));
    else if ("$float" in value) (is(2), this.#view.setFloat64(to, value.$float, true));
    else if ("$binary" in value) (is(4), this.#bytes(to, Buffer.from(value.$binary, "base64")));
    else if ("$timestamp" in value) (is(5), this.#view.setBigUint64(to, BigInt(value.$timestamp), true));
    else (is(6), this.#text(to, value.$json));
  }

  // Lifting: out of the handler's memory.

  #list(at) {
    return [this.#view.getUint32(at, true), this.#view.getUint32(at + 4, true)];
  }

  #textAt(at) {
    return new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(this.#bytesAt(...this.#list(at)));
  }

  #result(address) {
    if (address % 4 !== 0) throw new Error(`the result is at ${address}, which is not aligned`);
    if (this.#view.getUint8(address) === 1) throw new Error(this.#textAt(address + 4));
    const [list, count] = this.#list(address + 16);
    if (list % PUBLICATION.align !== 0) throw new Error(`publications at ${list} are not aligned`);
    const publications = Array.from({ length: count }, (_, i) => this.#publication(list + i * PUBLICATION.size));
    return { settlement: this.#settlement(address + 4), publications };
  }

  #settlement(at) {
    switch (this.#view.getUint8(at)) {
      case 0: return "ack";
      case 1: return "requeue";
      case 2: return this.#view.getUint8(at + 4) ? { retry: this.#view.getUint32(at + 8, true) } : "retry";
      case 3: return { "dead-letter": this.#textAt(at + 4) };
      default: throw new Error("there is no such settlement");
    }
  }

  #publication(address) {
    const at = (field) => address + PUBLICATION.at[field];
    const body = Buffer.from(this.#bytesAt(...this.#list(at("body"))));
    return {
      exchange: this.#textAt(at("exchange")),
      routing_key: this.#textAt(at("routing_key")),
      ...(isUtf8(body) ? { text: body.toString() } : { base64: body.toString("base64") }),
      properties: this.#propertiesAt(at("properties")),
    };
  }

  #propertiesAt(address) {
    const p = {};
    for (const [name, type] of Object.entries(PROPERTIES.fields)) {
      const at = address + PROPERTIES.at[name];
      if (name === "headers") p.headers = this.#headersAt(at);
      else if (name === "persistent") p.persistent = this.#view.getUint8(at) === 1;
      else if (this.#view.getUint8(at) === 1) p[name] = this.#scalarAt(at + type.value, type.of);
    }
    return p;
  }

  #scalarAt(at, type) {
    if (type === TEXT) return this.#textAt(at);
    if (type === U8) return this.#view.getUint8(at);
    if (type === U32) return this.#view.getUint32(at, true);
    return number(this.#view.getBigUint64(at, true));
  }

  #headersAt(at) {
    const [list, count] = this.#list(at);
    if (list % HEADER.align !== 0) throw new Error(`headers at ${list} are not aligned`);
    return Object.fromEntries(
      Array.from({ length: count }, (_, i) => {
        const header = list + i * HEADER.size;
        return [this.#textAt(header + HEADER.at.name), this.#fieldAt(header + HEADER.at.field)];
      }),
    );
  }

  #fieldAt(at) {
    const from = at + 8;
    switch (this.#view.getUint8(at)) {
      case 0: return this.#view.getUint8(from) === 1;
      case 1: return number(this.#view.getBigInt64(from, true));
      case 2: {
        const float = this.#view.getFloat64(from, true);
        return Number.isInteger(float) ? { $float: float } : float;
      }
      case 3: return this.#textAt(from);
      case 4: return { $binary: Buffer.from(this.#bytesAt(...this.#list(from))).toString("base64") };
      case 5: return { $timestamp: number(this.#view.getBigUint64(from, true)) };
      case 6: return { $json: this.#textAt(from) };
      case 7: return null;
      default: throw new Error("there is no such field");
    }
  }
}

const mapped = (tables, change) => Object.fromEntries(
  Object.entries(tables).map(([from, table]) => [
    from,
    Object.fromEntries(Object.entries(table).map(([name, call]) => [name, change(call)])),
  ]),
);

const number = (big) => (Number.isSafeInteger(Number(big)) ? Number(big) : big);

function bodyOf({ text, base64, body }) {
  return body ?? (base64 === undefined ? Buffer.from(text ?? "") : Buffer.from(base64, "base64"));
}

function isUtf8(bytes) {
  try {
    new TextDecoder("utf-8", { fatal: true }).decode(bytes);
    return true;
  } catch {
    return false;
  }
}
