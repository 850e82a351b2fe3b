/**
 * Between the contract as the engine hands it over, and what handlers see.
 *
 * The engine makes floats of 64-bit integers, which loses digits, so that they cross as two halves of 32 bits: see
 * tools/contract.js. It also hands 32 bits over as if they had a sign, and takes them back so: hence `>>> 0` and `| 0`.
 */

import { bodyOf } from "../src/bytes.js";
import { Delivery } from "../src/delivery.js";
import { classify, float, integer, Json, seconds, time } from "../src/fields.js";
import { Outcome } from "../src/outcome.js";
import { TEXTS } from "../src/publication.js";

const PRIORITY_MAX = 255;
const U32_MAX = 0xffff_ffff;

/** A delivery for the handler, of the contract's. */
export function lift(raw) {
  return new Delivery({
    body: raw.body,
    properties: liftProperties(raw.properties),
    exchange: raw.exchange,
    routingKey: raw.routingKey,
    queue: raw.queue,
    redelivered: raw.redelivered,
    attempt: raw.attempt >>> 0,
  });
}

function liftProperties(raw) {
  const headers = new Map();
  for (const [name, field] of raw.headers) {
    // A table may hold a name twice; the first one counts.
    if (!headers.has(name)) headers.set(name, liftField(field));
  }
  const properties = { headers, persistent: raw.persistent };
  for (const name of TEXTS) {
    if (raw[name] !== null) properties[name] = raw[name];
  }
  if (raw.priority !== null) properties.priority = raw.priority;
  if (raw.expirationMs !== null) properties.expirationMs = raw.expirationMs >>> 0;
  if (raw.timestamp.tag === "err") properties.timestamp = time(join(raw.timestamp.val, BigInt.asUintN));
  return properties;
}

function liftField({ tag, val }) {
  switch (tag) {
    case "integer":
      return integer(join(val, BigInt.asIntN));
    case "float":
      return float(val);
    case "timestamp":
      return time(join(val, BigInt.asUintN));
    case "json":
      return new Json(val);
    case "void":
      return null;
    default:
      return val;
  }
}

/** The contract's outcome, of what the handler answered. */
export function lower(outcome) {
  if (!(outcome instanceof Outcome)) {
    throw new TypeError(`the handler returned ${describe(outcome)}, and not an outcome such as \`ack()\``);
  }
  return { settlement: lowerSettlement(outcome.settlement), publications: outcome.publications.map(lowerPublication) };
}

function describe(value) {
  if (value === null || value === undefined) return String(value);
  return typeof value === "object" ? "an object" : `a ${typeof value}`;
}

function lowerSettlement({ kind, afterMs, reason }) {
  switch (kind) {
    case "retry":
      return { tag: kind, val: afterMs === undefined ? null : afterMs | 0 };
    case "dead-letter":
      return { tag: kind, val: reason.toWellFormed() };
    default:
      return { tag: kind };
  }
}

function lowerPublication(publication) {
  const [body, contentType] = bodyOf(publication, "a publication's");
  const { exchange, routingKey, headers, persistent, priority, expirationMs, timestamp } = publication;
  const properties = {
    headers: lowerHeaders(headers),
    persistent: persistent === true,
    priority: lowerInteger("priority", priority, PRIORITY_MAX),
    expirationMs: lowerInteger("expirationMs", expirationMs, U32_MAX),
    timestamp: isAbsent(timestamp) ? { tag: "ok", val: 0 } : { tag: "err", val: split(seconds(timestamp, "timestamp")) },
  };
  for (const name of TEXTS) properties[name] = lowerText(name, publication[name]);
  properties.contentType ??= contentType ?? null;
  return {
    exchange: lowerText("exchange", exchange) ?? "",
    routingKey: lowerText("routingKey", routingKey) ?? "",
    body,
    properties,
  };
}

function lowerHeaders(headers) {
  if (isAbsent(headers)) return [];
  if (typeof headers !== "object" || Array.isArray(headers)) {
    throw new TypeError("a publication's `headers` are an object or a `Map`");
  }
  const lowered = [];
  for (const [name, value] of headers instanceof Map ? headers : Object.entries(headers)) {
    if (value !== undefined) lowered.push([String(name).toWellFormed(), lowerField(String(name), value)]);
  }
  return lowered;
}

function lowerField(name, value) {
  const [tag, val] = classify(name, value);
  switch (tag) {
    case "integer":
    case "timestamp":
      return { tag, val: split(val) };
    case "text":
    case "json":
      return { tag, val: val.toWellFormed() };
    case "void":
      return { tag };
    default:
      return { tag, val };
  }
}

const isAbsent = (value) => value === undefined || value === null;

function lowerText(name, value) {
  if (isAbsent(value)) return null;
  if (typeof value !== "string") throw new TypeError(`a publication's \`${name}\` cannot be a ${typeof value}`);
  return value.toWellFormed();
}

function lowerInteger(name, value, max) {
  if (isAbsent(value)) return null;
  if (!Number.isInteger(value) || value < 0 || value > max) {
    throw new RangeError(`a publication's \`${name}\` is a whole number from 0 to ${max}`);
  }
  return value | 0;
}

/** 64 bits of two halves. */
const join = ([low, high], as) => as(64, (BigInt(high) << 32n) | BigInt(low >>> 0));

/** Two halves of 64 bits. */
const split = (value) => [Number(BigInt.asIntN(32, value)), Number(BigInt.asIntN(32, value >> 32n))];
