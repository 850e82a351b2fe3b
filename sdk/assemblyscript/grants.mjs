// What a manifest's `[grant]` gives, for tests under node (testing.mjs): settings, stores, answers to HTTP requests and
// folders, behind the functions that a handler imports.

import { readFileSync } from "node:fs";

const U64_MAX = 2n ** 64n - 1n;

/** The host's side of resources: numbers for what a handler has in hand. */
class Handles {
  #things = new Map();
  #next = 1;

  get count() {
    return this.#things.size;
  }

  add(thing) {
    this.#things.set(this.#next, thing);
    return this.#next++;
  }

  get(handle, kind) {
    const thing = this.#things.get(handle);
    if (thing?.kind !== kind) throw new WebAssembly.RuntimeError(`${handle} is no ${kind}`);
    return thing;
  }

  take(handle, kind) {
    const thing = this.get(handle, kind);
    // The component model would trap where a thing goes before what was made of it.
    if (thing.children) throw new WebAssembly.RuntimeError(`the ${kind} ${handle} is still in use`);
    if (thing.parent) thing.parent.children--;
    this.#things.delete(handle);
    return thing;
  }

  child(parent, thing) {
    parent.children = (parent.children ?? 0) + 1;
    return this.add({ ...thing, parent });
  }
}

/**
 * The interfaces as tables of functions, and how many resources the handler has in hand. `memory` has what lays values
 * out in the handler's memory: `view()`, `at(address, length)`, `text(at, text)`, `bytes(at, bytes)`, `allocate(size,
 * align)`.
 */
export function grants({ config = {}, secrets = {}, keyvalue = {}, http }, memory) {
  const handles = new Handles();
  const tables = {
    "wasi:config/store@0.2.0-rc.1": settings({ ...config, ...secrets }, config, memory),
    ...stores(keyvalue, handles, memory),
    ...requests(http, handles, memory),
  };
  return { tables, handles };
}

const textAt = (memory, address, length) => {
  return new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(memory.at(address, length));
};

const own = (values, name) => (Object.hasOwn(values, name) ? values[name] : undefined);

function settings(values, shown, memory) {
  const ok = (result) => memory.view().setUint8(result, 0);
  return {
    "get": (name, length, result) => {
      const value = own(values, textAt(memory, name, length));
      ok(result);
      memory.view().setUint8(result + 4, value === undefined ? 0 : 1);
      if (value !== undefined) memory.text(result + 8, value);
    },
    "get-all": (result) => {
      const all = Object.entries(shown);
      const list = all.length === 0 ? 0 : memory.allocate(all.length * 16, 4);
      all.forEach(([name, value], i) => {
        memory.text(list + i * 16, name);
        memory.text(list + i * 16 + 8, value);
      });
      ok(result);
      memory.view().setUint32(result + 4, list, true);
      memory.view().setUint32(result + 8, all.length, true);
    },
  };
}

function stores(keyvalue, handles, memory) {
  // A part of the keys at a time, as the host does, so that a handler has to ask for the rest.
  const LISTED = 2;
  const view = () => memory.view();
  const fail = (result, align, error) => {
    view().setUint8(result, 1);
    view().setUint8(result + align, error === "no-such-store" ? 0 : 2);
    if (error !== "no-such-store") memory.text(result + align + 4, error);
  };
  const of = (bucket) => handles.get(bucket, "bucket").values;
  const key = (address, length) => textAt(memory, address, length);
  const valueOf = (bucket, name) => {
    const value = own(of(bucket), name);
    return value === undefined ? undefined : Buffer.from(value);
  };
  const ok = (result) => view().setUint8(result, 0);
  return {
    "wasi:keyvalue/store@0.2.0-draft": {
      "open": (name, length, result) => {
        const wanted = key(name, length);
        // A manifest grants one store, which goes by `default`, too.
        const values = own(keyvalue, wanted) ?? (wanted === "default" ? Object.values(keyvalue)[0] : undefined);
        if (values === undefined) return fail(result, 4, "no-such-store");
        ok(result);
        view().setUint32(result + 4, handles.add({ kind: "bucket", values }), true);
      },
      "[method]bucket.get": (bucket, name, length, result) => {
        const value = valueOf(bucket, key(name, length));
        ok(result);
        view().setUint8(result + 4, value === undefined ? 0 : 1);
        if (value !== undefined) memory.bytes(result + 8, value);
      },
      "[method]bucket.set": (bucket, name, length, value, valueLength, result) => {
        of(bucket)[key(name, length)] = Buffer.from(memory.at(value, valueLength));
        ok(result);
      },
      "[method]bucket.delete": (bucket, name, length, result) => {
        delete of(bucket)[key(name, length)];
        ok(result);
      },
      "[method]bucket.exists": (bucket, name, length, result) => {
        ok(result);
        view().setUint8(result + 4, valueOf(bucket, key(name, length)) === undefined ? 0 : 1);
      },
      "[method]bucket.list-keys": (bucket, more, cursor, result) => {
        const from = more ? Number(cursor) : 0;
        const keys = Object.keys(of(bucket)).sort();
        const listed = keys.slice(from, from + LISTED);
        const list = listed.length === 0 ? 0 : memory.allocate(listed.length * 8, 4);
        listed.forEach((name, i) => memory.text(list + i * 8, name));
        ok(result);
        view().setUint32(result + 8, list, true);
        view().setUint32(result + 12, listed.length, true);
        const next = from + listed.length;
        view().setUint8(result + 16, next < keys.length ? 1 : 0);
        view().setBigUint64(result + 24, BigInt(next), true);
      },
      "[resource-drop]bucket": (bucket) => void handles.take(bucket, "bucket"),
    },
    "wasi:keyvalue/atomics@0.2.0-draft": {
      "increment": (bucket, name, length, by, result) => {
        const wanted = key(name, length);
        const old = (valueOf(bucket, wanted) ?? "0").toString();
        const sum = /^[0-9]+$/.test(old) ? BigInt(old) + BigInt.asUintN(64, by) : undefined;
        if (sum === undefined) return fail(result, 8, `the value of \`${wanted}\` is not a whole number`);
        if (sum > U64_MAX) return fail(result, 8, `\`${wanted}\` would be too large`);
        of(bucket)[wanted] = Buffer.from(`${sum}`);
        ok(result);
        view().setBigUint64(result + 8, sum, true);
      },
    },
  };
}

/** The cases of a variant of sdk/wit/deps/http.wit, with what they carry. */
export function casesOf(variant) {
  const wit = readFileSync(new URL("../wit/deps/http.wit", import.meta.url), "utf8");
  const [, body] = wit.match(new RegExp(`variant ${variant} \\{([^}]*)\\}`));
  return body.split(",").map((line) => line.trim()).filter(Boolean).map((line) => {
    const [, name, carries] = line.match(/^([\w-]+)(?:\((.*)\))?$/);
    return { name, carries };
  });
}

/**
 * `answer` gives a response, `{ status, headers, body }`, for a request, `{ method, url, headers, body, timeout_ns }`;
 * or an error as the name of one of wasi:http's, such as "connection-timeout", with `: ` and what it carries. A response
 * with `error` breaks off with that one.
 */
function requests(answer, handles, memory) {
  // Not all at once, so that a handler has to write and to read in parts.
  const WRITTEN = 4096;
  const READ = 1000;
  const view = () => memory.view();
  const codes = casesOf("error-code");
  const writeCode = (at, error) => {
    const [, name, what] = error.match(/^([\w-]+)(?:: ([^]*))?$/);
    const index = codes.findIndex((code) => code.name === name);
    if (index < 0) throw new Error(`wasi:http has no error ${name}`);
    memory.at(at, 32).fill(0);
    view().setUint8(at, index);
    if (what === undefined) return;
    const { carries } = codes[index];
    const text = { "option<string>": 8, "DNS-error-payload": 8, "TLS-alert-received-payload": 12 }[carries];
    view().setUint8(at + (text ?? 8), 1);
    if (text) memory.text(at + text + 4, what);
    else if (carries === "option<u32>") view().setUint32(at + 12, Number(what), true);
    else view().setBigUint64(at + 16, BigInt(what), true);
  };
  /** A result whose values are aligned for `align`: a handle, or an error by `write`. */
  const give = (result, align, handle) => {
    view().setUint8(result, 0);
    view().setUint32(result + align, handle, true);
  };
  const yes = 0;
  const set = (kind, name, read) => (handle, ...values) => {
    handles.get(handle, kind)[name] = read(...values);
    return yes;
  };
  const optionalText = (given, address, length) => (given ? textAt(memory, address, length) : undefined);
  const optionalNumber = (given, number) => (given ? number : undefined);
  const variant = (cases) => (index, address, length) => {
    return index === cases.length - 1 ? textAt(memory, address, length) : cases[index];
  };
  const method = variant(casesOf("method").map(({ name }) => name.toUpperCase()));
  const scheme = variant(["http", "https", "other"]);
  const entries = (fields) => handles.take(fields, "fields").entries;
  const drop = (...kinds) => Object.fromEntries(
    kinds.map((kind) => [`[resource-drop]${kind}`, (handle) => void handles.take(handle, kind)]),
  );
  const FORBIDDEN = ["host", "connection", "transfer-encoding"];
  const send = (request, options) => {
    if (answer === undefined) return "HTTP-request-denied";
    const { method = "GET", scheme = "https", authority, path = "/", headers, body } = request;
    const wanted = { method, url: `${scheme}://${authority}${path}`, headers: Object.fromEntries(headers) };
    return answer({ ...wanted, body: Buffer.concat(body?.parts ?? []), timeout_ns: options.between });
  };

  const types = {
    "[constructor]fields": () => handles.add({ kind: "fields", entries: [] }),
    "[method]fields.append": (fields, name, length, value, valueLength, result) => {
      const header = textAt(memory, name, length);
      const malformed = !/^[!#$%&'*+.^_`|~\w-]+$/.test(header);
      const forbidden = FORBIDDEN.includes(header.toLowerCase());
      view().setUint8(result, malformed || forbidden ? 1 : 0);
      if (malformed || forbidden) return view().setUint8(result + 1, malformed ? 0 : 1);
      const text = Buffer.from(memory.at(value, valueLength)).toString();
      handles.get(fields, "fields").entries.push([header, text]);
    },
    "[method]fields.entries": (fields, result) => {
      const all = handles.get(fields, "fields").entries;
      const list = all.length === 0 ? 0 : memory.allocate(all.length * 16, 4);
      all.forEach(([name, value], i) => {
        memory.text(list + i * 16, name);
        memory.text(list + i * 16 + 8, value);
      });
      view().setUint32(result, list, true);
      view().setUint32(result + 4, all.length, true);
    },
    "[constructor]outgoing-request": (fields) => handles.add({ kind: "outgoing-request", headers: entries(fields) }),
    "[method]outgoing-request.set-method": (request, ...values) => {
      const wanted = method(...values);
      handles.get(request, "outgoing-request").method = wanted;
      return /^[\w-]+$/.test(wanted) ? yes : 1;
    },
    "[method]outgoing-request.set-scheme": set("outgoing-request", "scheme", (_given, ...values) => scheme(...values)),
    "[method]outgoing-request.set-authority": set("outgoing-request", "authority", optionalText),
    "[method]outgoing-request.set-path-with-query": set("outgoing-request", "path", optionalText),
    "[method]outgoing-request.body": (request, result) => {
      const body = { parts: [] };
      handles.get(request, "outgoing-request").body = body;
      give(result, 4, handles.add({ kind: "outgoing-body", body }));
    },
    "[constructor]request-options": () => handles.add({ kind: "request-options" }),
    "[method]request-options.set-connect-timeout": set("request-options", "connect", optionalNumber),
    "[method]request-options.set-first-byte-timeout": set("request-options", "first", optionalNumber),
    "[method]request-options.set-between-bytes-timeout": set("request-options", "between", optionalNumber),
    "[method]outgoing-body.write": (body, result) => {
      const of = handles.get(body, "outgoing-body");
      give(result, 4, handles.child(of, { kind: "output-stream", body: of.body }));
    },
    "[static]outgoing-body.finish": (body, _given, _trailers, result) => {
      handles.take(body, "outgoing-body").body.finished = true;
      view().setUint8(result, 0);
    },
    "[method]future-incoming-response.subscribe": (future) => {
      return handles.child(handles.get(future, "future-incoming-response"), { kind: "pollable" });
    },
    "[method]future-incoming-response.get": (future, result) => {
      const { request, options } = handles.get(future, "future-incoming-response");
      if (request.body && !request.body.finished) throw new Error("the request's body is not finished");
      const response = send(request, options);
      const failed = typeof response === "string";
      view().setUint8(result, 1);
      view().setUint8(result + 8, 0);
      view().setUint8(result + 16, failed ? 1 : 0);
      if (failed) return writeCode(result + 24, response);
      view().setUint32(result + 24, handles.add({ kind: "incoming-response", response }), true);
    },
    "[method]incoming-response.status": (response) => handles.get(response, "incoming-response").response.status ?? 200,
    "[method]incoming-response.headers": (response) => {
      const of = handles.get(response, "incoming-response");
      return handles.child(of, { kind: "fields", entries: Object.entries(of.response.headers ?? {}) });
    },
    "[method]incoming-response.consume": (response, result) => {
      const { body, error } = handles.get(response, "incoming-response").response;
      give(result, 4, handles.add({ kind: "incoming-body", rest: Buffer.from(body ?? ""), error }));
    },
    "[method]incoming-body.stream": (body, result) => {
      const of = handles.get(body, "incoming-body");
      give(result, 4, handles.child(of, { kind: "input-stream", of }));
    },
    "http-error-code": (error, result) => {
      const { code } = handles.get(error, "error");
      view().setUint8(result, code === "unknown" ? 0 : 1);
      if (code !== "unknown") writeCode(result + 8, code);
    },
    ...drop("fields", "outgoing-request", "request-options", "outgoing-body", "future-incoming-response",
      "incoming-response", "incoming-body"),
  };
  const handler = {
    "handle": (request, given, options, result) => {
      const wanted = {
        request: handles.take(request, "outgoing-request"),
        options: given ? handles.take(options, "request-options") : {},
      };
      give(result, 8, handles.add({ kind: "future-incoming-response", ...wanted }));
    },
  };
  const streams = {
    "[method]input-stream.blocking-read": (stream, most, result) => {
      const { of } = handles.get(stream, "input-stream");
      const part = of.rest.subarray(0, Math.min(READ, Number(most)));
      of.rest = of.rest.subarray(part.length);
      view().setUint8(result, part.length > 0 ? 0 : 1);
      if (part.length > 0) return memory.bytes(result + 4, part);
      view().setUint8(result + 4, of.error ? 0 : 1);
      if (of.error) view().setUint32(result + 8, handles.add({ kind: "error", code: of.error }), true);
    },
    "[method]output-stream.check-write": (stream, result) => {
      handles.get(stream, "output-stream");
      view().setUint8(result, 0);
      view().setBigUint64(result + 8, BigInt(WRITTEN), true);
    },
    "[method]output-stream.write": (stream, address, length, result) => {
      if (length > WRITTEN) throw new WebAssembly.RuntimeError("more is written than may be");
      handles.get(stream, "output-stream").body.parts.push(Buffer.from(memory.at(address, length)));
      view().setUint8(result, 0);
    },
    "[method]output-stream.subscribe": (stream) => {
      return handles.child(handles.get(stream, "output-stream"), { kind: "pollable" });
    },
    ...drop("input-stream", "output-stream"),
  };
  const poll = { "[method]pollable.block": (pollable) => void handles.get(pollable, "pollable"), ...drop("pollable") };
  const errors = {
    "[method]error.to-debug-string": (error, result) => memory.text(result, handles.get(error, "error").code),
    ...drop("error"),
  };
  return {
    "wasi:http/types@0.2.0": types,
    "wasi:http/outgoing-handler@0.2.0": handler,
    "wasi:io/streams@0.2.0": streams,
    "wasi:io/poll@0.2.0": poll,
    "wasi:io/error@0.2.0": errors,
  };
}
