// Requests by way of wasi:http. The functions have the parameters that the component model's canonical ABI gives them:
// a handle as a number, an option as whether there is one and then what.

import { HttpHeader, Request, Response, Target, lowerCase } from "./http";
import { kindOf, textOf } from "./http-code";
import { bytesAt, textAt } from "./layout";
import { release } from "./lent";
import { ProblemKind, Result, failed } from "./result";
import { encodeUtf8 } from "./utf8";

@external("wasi:http/types@0.2.0", "[constructor]fields")
declare function newFields(): u32;
@external("wasi:http/types@0.2.0", "[method]fields.append")
declare function appendField(
  fields: u32, name: usize, length: u32, value: usize, valueLength: u32, result: usize,
): void;
@external("wasi:http/types@0.2.0", "[method]fields.entries")
declare function entriesOf(fields: u32, result: usize): void;
@external("wasi:http/types@0.2.0", "[resource-drop]fields")
declare function dropFields(fields: u32): void;

@external("wasi:http/types@0.2.0", "[constructor]outgoing-request")
declare function newRequest(fields: u32): u32;
@external("wasi:http/types@0.2.0", "[method]outgoing-request.set-method")
declare function setMethod(request: u32, method: u32, name: usize, length: u32): u32;
@external("wasi:http/types@0.2.0", "[method]outgoing-request.set-scheme")
declare function setScheme(request: u32, given: u32, scheme: u32, name: usize, length: u32): u32;
@external("wasi:http/types@0.2.0", "[method]outgoing-request.set-authority")
declare function setAuthority(request: u32, given: u32, authority: usize, length: u32): u32;
@external("wasi:http/types@0.2.0", "[method]outgoing-request.set-path-with-query")
declare function setPath(request: u32, given: u32, path: usize, length: u32): u32;
@external("wasi:http/types@0.2.0", "[method]outgoing-request.body")
declare function bodyOfRequest(request: u32, result: usize): void;
@external("wasi:http/types@0.2.0", "[resource-drop]outgoing-request")
declare function dropRequest(request: u32): void;

@external("wasi:http/types@0.2.0", "[constructor]request-options")
declare function newOptions(): u32;
@external("wasi:http/types@0.2.0", "[method]request-options.set-connect-timeout")
declare function setConnectTimeout(options: u32, given: u32, nanos: u64): u32;
@external("wasi:http/types@0.2.0", "[method]request-options.set-first-byte-timeout")
declare function setFirstByteTimeout(options: u32, given: u32, nanos: u64): u32;
@external("wasi:http/types@0.2.0", "[method]request-options.set-between-bytes-timeout")
declare function setBetweenBytesTimeout(options: u32, given: u32, nanos: u64): u32;

@external("wasi:http/types@0.2.0", "[method]outgoing-body.write")
declare function streamOfRequest(body: u32, result: usize): void;
@external("wasi:http/types@0.2.0", "[static]outgoing-body.finish")
declare function finish(body: u32, given: u32, trailers: u32, result: usize): void;
@external("wasi:http/types@0.2.0", "[resource-drop]outgoing-body")
declare function dropRequestBody(body: u32): void;

@external("wasi:http/outgoing-handler@0.2.0", "handle")
declare function handle(request: u32, given: u32, options: u32, result: usize): void;

@external("wasi:http/types@0.2.0", "[method]future-incoming-response.subscribe")
declare function readyOfFuture(future: u32): u32;
@external("wasi:http/types@0.2.0", "[method]future-incoming-response.get")
declare function getFuture(future: u32, result: usize): void;
@external("wasi:http/types@0.2.0", "[resource-drop]future-incoming-response")
declare function dropFuture(future: u32): void;

@external("wasi:http/types@0.2.0", "[method]incoming-response.status")
declare function statusOf(response: u32): u32;
@external("wasi:http/types@0.2.0", "[method]incoming-response.headers")
declare function headersOf(response: u32): u32;
@external("wasi:http/types@0.2.0", "[method]incoming-response.consume")
declare function bodyOfResponse(response: u32, result: usize): void;
@external("wasi:http/types@0.2.0", "[resource-drop]incoming-response")
declare function dropResponse(response: u32): void;
@external("wasi:http/types@0.2.0", "[method]incoming-body.stream")
declare function streamOfResponse(body: u32, result: usize): void;
@external("wasi:http/types@0.2.0", "[resource-drop]incoming-body")
declare function dropResponseBody(body: u32): void;
@external("wasi:http/types@0.2.0", "http-error-code")
declare function codeOfError(error: u32, result: usize): void;

@external("wasi:io/streams@0.2.0", "[method]input-stream.blocking-read")
declare function readStream(stream: u32, most: u64, result: usize): void;
@external("wasi:io/streams@0.2.0", "[resource-drop]input-stream")
declare function dropInput(stream: u32): void;
@external("wasi:io/streams@0.2.0", "[method]output-stream.check-write")
declare function roomOf(stream: u32, result: usize): void;
@external("wasi:io/streams@0.2.0", "[method]output-stream.write")
declare function writeStream(stream: u32, bytes: usize, length: u32, result: usize): void;
@external("wasi:io/streams@0.2.0", "[method]output-stream.subscribe")
declare function readyOfOutput(stream: u32): u32;
@external("wasi:io/streams@0.2.0", "[resource-drop]output-stream")
declare function dropOutput(stream: u32): void;
@external("wasi:io/poll@0.2.0", "[method]pollable.block")
declare function block(pollable: u32): void;
@external("wasi:io/poll@0.2.0", "[resource-drop]pollable")
declare function dropPollable(pollable: u32): void;
@external("wasi:io/error@0.2.0", "[method]error.to-debug-string")
declare function debugOf(error: u32, result: usize): void;
@external("wasi:io/error@0.2.0", "[resource-drop]error")
declare function dropError(error: u32): void;

const SOME: u32 = 1;
/** How much is read at once. */
const CHUNK_BYTES: u64 = 64 << 10;
const NANOS_A_MS: u64 = 1_000_000;

/** The response, or the problem without the request that it is one of. */
export function exchange(request: Request, target: Target): Result<Response> {
  const fields = newFields();
  const wrong = fillFields(fields, request);
  if (wrong !== null) {
    dropFields(fields);
    return malformed(wrong);
  }
  const outgoing = newRequest(fields);
  const what = fillRequest(outgoing, request.method, target);
  if (what !== null) {
    dropRequest(outgoing);
    return malformed(what);
  }
  const hasBody = request.body.length > 0;
  const body = hasBody ? handleOf(outgoing, bodyOfRequest) : 0;
  const options = optionsOf(request.timeoutMs);
  const result = memory.data(40);
  handle(outgoing, options == 0 ? 0 : SOME, options, result);
  if (load<u8>(result) != 0) {
    if (hasBody) dropRequestBody(body);
    return failedBy(result + 8);
  }
  const coming = load<u32>(result, 8);
  if (hasBody) {
    // A server that does not read on may have answered all the same.
    if (writeAll(body, request.body)) {
      finish(body, 0, 0, result);
      release();
    } else dropRequestBody(body);
  }
  const answered = comeBack(coming);
  dropFuture(coming);
  return answered;
}

function malformed(what: string): Result<Response> {
  return failed<Response>("the request cannot be sent for " + what, ProblemKind.Request);
}

/** The problem of an error-code there. */
function failedBy(code: usize): Result<Response> {
  const text = textOf(code);
  release();
  return failed<Response>(text, kindOf(code));
}

/** What is wrong with the headers; null where nothing is. */
function fillFields(fields: u32, request: Request): string | null {
  let hasLength = request.body.length == 0;
  for (let i = 0; i < request.headers.length; i++) {
    const header = request.headers[i];
    hasLength = hasLength || lowerCase(header.name) == "content-length";
    const why = append(fields, header);
    if (why !== null) return `its header \`${header.name}\`, ${why}`;
  }
  return hasLength ? null : append(fields, new HttpHeader("content-length", request.body.length.toString()));
}

function append(fields: u32, header: HttpHeader): string | null {
  const name = encodeUtf8(header.name);
  const value = encodeUtf8(header.value);
  // Two bytes: whether it is an error, and which.
  const result = memory.data(2);
  appendField(
    fields, changetype<usize>(name), name.byteLength, changetype<usize>(value), value.byteLength, result,
  );
  if (load<u8>(result) == 0) return null;
  switch (<i32>load<u8>(result, 1)) {
    case 0: return "which is malformed";
    case 1: return "which is the host's to set";
    default: return "which cannot be set";
  }
}

/** What is wrong with the rest; null where nothing is. */
function fillRequest(outgoing: u32, method: string, target: Target): string | null {
  const name = encodeUtf8(method);
  if (setMethod(outgoing, methodOf(method), changetype<usize>(name), name.byteLength) != 0) return "its method";
  if (setScheme(outgoing, SOME, target.scheme == "http" ? 0 : 1, 0, 0) != 0) return "its scheme";
  const authority = encodeUtf8(target.authority);
  if (setAuthority(outgoing, SOME, changetype<usize>(authority), authority.byteLength) != 0) return "its host";
  const path = encodeUtf8(target.path);
  return setPath(outgoing, SOME, changetype<usize>(path), path.byteLength) == 0 ? null : "its path";
}

/** The case of wasi:http's method; the last one has a name. */
function methodOf(name: string): u32 {
  if (name == "GET") return 0;
  if (name == "HEAD") return 1;
  if (name == "POST") return 2;
  if (name == "PUT") return 3;
  if (name == "DELETE") return 4;
  if (name == "CONNECT") return 5;
  if (name == "OPTIONS") return 6;
  if (name == "TRACE") return 7;
  if (name == "PATCH") return 8;
  return 9;
}

function optionsOf(timeoutMs: u32): u32 {
  if (timeoutMs == 0) return 0;
  const options = newOptions();
  const nanos = <u64>timeoutMs * NANOS_A_MS;
  setConnectTimeout(options, SOME, nanos);
  setFirstByteTimeout(options, SOME, nanos);
  setBetweenBytesTimeout(options, SOME, nanos);
  return options;
}

/** What a call gives that can be made once, and has not been made before. */
function handleOf(whole: u32, call: (whole: u32, result: usize) => void): u32 {
  const result = memory.data(8);
  call(whole, result);
  assert(load<u8>(result) == 0, "a part of a request or response is taken twice");
  return load<u32>(result, 4);
}

/** Whether all of it was taken. */
function writeAll(body: u32, bytes: Uint8Array): bool {
  const stream = handleOf(body, streamOfRequest);
  const ready = readyOfOutput(stream);
  const result = memory.data(16);
  let from = bytes.dataStart;
  let left = <u64>bytes.length;
  while (left > 0) {
    block(ready);
    roomOf(stream, result);
    if (broken(result, 8)) break;
    const part = min(load<u64>(result, 8), left);
    writeStream(stream, from, <u32>part, result);
    if (broken(result, 4)) break;
    from += <usize>part;
    left -= part;
  }
  dropPollable(ready);
  // The body cannot be finished while there is a stream of it.
  dropOutput(stream);
  return left == 0;
}

/** Whether a stream has failed; the reason is let go of. */
function broken(result: usize, align: usize): bool {
  if (load<u8>(result) == 0) return false;
  if (load<u8>(result + align) == 0) dropError(load<u32>(result + align + 4));
  return true;
}

/** The response, once it is there. */
function comeBack(coming: u32): Result<Response> {
  const ready = readyOfFuture(coming);
  block(ready);
  dropPollable(ready);
  // An option of a result of a result, each aligned for what an error-code may carry.
  const result = memory.data(56);
  getFuture(coming, result);
  if (load<u8>(result) == 0 || load<u8>(result, 8) != 0) return failed<Response>("there is no response");
  if (load<u8>(result, 16) != 0) return failedBy(result + 24);
  const incoming = load<u32>(result, 24);
  const answered = read(incoming);
  dropResponse(incoming);
  return answered;
}

function read(incoming: u32): Result<Response> {
  const response = new Response(statusOf(incoming) & 0xffff);
  const fields = headersOf(incoming);
  const result = memory.data(16);
  entriesOf(fields, result);
  const list = load<usize>(result);
  const count = load<i32>(result, 4);
  for (let i = 0; i < count; i++) {
    response.headers.push(new HttpHeader(textAt(list + i * 16), textAt(list + i * 16 + 8)));
  }
  release();
  dropFields(fields);

  const body = handleOf(incoming, bodyOfResponse);
  const stream = handleOf(body, streamOfResponse);
  const parts: Uint8Array[] = [];
  let length = 0;
  readStream(stream, CHUNK_BYTES, result);
  while (load<u8>(result) == 0) {
    const part = bytesAt(result + 4);
    release();
    parts.push(part);
    length += part.length;
    readStream(stream, CHUNK_BYTES, result);
  }
  const problem = load<u8>(result, 4) == 0 ? whyBroken(load<u32>(result, 8)) : null;
  dropInput(stream);
  dropResponseBody(body);
  if (problem !== null) return problem;
  response.body = joined(parts, length);
  return new Result<Response>(response);
}

function whyBroken(error: u32): Result<Response> {
  const result = memory.data(40);
  codeOfError(error, result);
  let problem: Result<Response>;
  if (load<u8>(result) != 0) problem = failedBy(result + 8);
  else {
    debugOf(error, result);
    problem = failed<Response>(textAt(result));
    release();
  }
  dropError(error);
  return problem;
}

function joined(parts: Uint8Array[], length: i32): Uint8Array {
  if (parts.length == 1) return parts[0];
  const all = new Uint8Array(length);
  let at = 0;
  for (let i = 0; i < parts.length; i++) {
    all.set(parts[i], at);
    at += parts[i].length;
  }
  return all;
}
