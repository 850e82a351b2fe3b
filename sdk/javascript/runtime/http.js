/** HTTP requests, in a plugin. In tests src/testing/http.js stands in for it. */

import { handle } from "wasi:http/outgoing-handler@0.2.0";
import { Fields, OutgoingBody, OutgoingRequest, RequestOptions, httpErrorCode } from "wasi:http/types@0.2.0";
import { decode, encode } from "#host";
import { HttpError } from "../src/error.js";
import { failed } from "./http-errors.js";
import { duringCall } from "./phase.js";
import { joined } from "./pieces.js";

/** How much is read at once. */
const CHUNK_BYTES = 64 * 1024;
const NANOSECONDS = 1e6;
/** Some 49 days: more would not fit in nanoseconds. */
const TIMEOUT_MS_MAX = 2 ** 32;

const METHODS = new Set(["GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH"]);

/**
 * The response to a request. The host ends a call in which what belongs to another resource outlives that one; each
 * `using` lets go of it in time.
 */
export function send(request, parts) {
  duringCall("http");
  const outgoing = outgoingOf(request, parts);
  const body = request.body.length === 0 ? undefined : step("its body", () => outgoing.body());
  using coming = answered(() => handle(outgoing, optionsOf(request)));
  if (body !== undefined) write(body, request.body);
  const answer = awaited(coming);
  if (answer?.tag !== "ok") throw new HttpError("other", "there is no response");
  if (answer.val.tag !== "ok") throw failed(answer.val.val);
  using response = answer.val.val;
  return { status: response.status(), headers: headersOf(response), body: read(response) };
}

function outgoingOf(request, { scheme, authority, path }) {
  const fields = new Fields();
  for (const [name, value] of request.headers) {
    step(`its header \`${name}\``, () => fields.append(name, encode(value)));
  }
  if (request.body.length > 0 && !fields.has("content-length")) {
    step("its length", () => fields.append("content-length", encode(String(request.body.length))));
  }
  const outgoing = new OutgoingRequest(fields);
  const { method } = request;
  const known = METHODS.has(method) ? { tag: method.toLowerCase() } : { tag: "other", val: method };
  step("its method", () => outgoing.setMethod(known));
  step("its scheme", () => outgoing.setScheme({ tag: scheme === "https" ? "HTTPS" : "HTTP" }));
  step("its host", () => outgoing.setAuthority(authority));
  step("its path", () => outgoing.setPathWithQuery(path));
  return outgoing;
}

function optionsOf({ timeoutMs }) {
  if (timeoutMs === undefined) return null;
  const options = new RequestOptions();
  const timeout = Math.ceil(Math.min(timeoutMs, TIMEOUT_MS_MAX) * NANOSECONDS);
  step("its timeout", () => {
    options.setConnectTimeout(timeout);
    options.setFirstByteTimeout(timeout);
    options.setBetweenBytesTimeout(timeout);
  });
  return options;
}

/** What the host refuses has an error whose payload says why, if anything. */
const isRefusal = (error) => error instanceof Error && Object.hasOwn(error, "payload");

function step(what, action) {
  try {
    return action();
  } catch (error) {
    if (!isRefusal(error)) throw error;
    const why = error.payload?.tag === undefined ? "" : ` (${error.payload.tag})`;
    throw new HttpError("request", `the request cannot be sent for ${what}${why}`);
  }
}

function answered(action) {
  try {
    return action();
  } catch (error) {
    throw isRefusal(error) ? failed(error.payload) : error;
  }
}

/** A server that does not read on may have answered all the same, so that this is no error. */
function write(body, bytes) {
  try {
    writeAll(body, bytes);
    OutgoingBody.finish(body, null);
  } catch (error) {
    if (!isRefusal(error)) throw error;
  }
}

function writeAll(body, bytes) {
  using stream = body.write();
  using ready = stream.subscribe();
  for (let at = 0; at < bytes.length; ) {
    ready.block();
    const room = stream.checkWrite();
    stream.write(bytes.subarray(at, at + room));
    at += Math.min(room, bytes.length - at);
  }
}

function awaited(coming) {
  using ready = coming.subscribe();
  ready.block();
  return coming.get();
}

function headersOf(response) {
  using fields = response.headers();
  const latin = (bytes) => Array.from(bytes, (byte) => String.fromCharCode(byte)).join("");
  return fields.entries().map(([name, value]) => [name.toLowerCase(), decode(value) ?? latin(value)]);
}

function read(response) {
  using body = response.consume();
  using stream = body.stream();
  const pieces = [];
  try {
    for (;;) pieces.push(stream.blockingRead(CHUNK_BYTES));
  } catch (error) {
    const { tag, val } = (isRefusal(error) && error.payload) || {};
    if (tag === "closed") return joined(pieces);
    if (tag !== "last-operation-failed") throw error;
    const code = httpErrorCode(val);
    throw code === null ? new HttpError("other", val.toDebugString()) : failed(code);
  }
}
