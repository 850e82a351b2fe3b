// The records of sdk/wit/worker.wit as the component model's canonical ABI lays them out in memory: each field at the
// next multiple of its alignment, a text or list as address and length, an option or variant as a byte that says which
// case it is and then, aligned for the widest case, the value. The offsets stand where they are used.

import { Delivery } from "./delivery";
import { Outcome, SettlementKind } from "./outcome";
import { Field, FieldKind, Header, Properties } from "./properties";
import { encodeUtf8 } from "./utf8";

const HEADER_SIZE = 24;
const PUBLICATION_SIZE = 160;
const RESULT_SIZE = 24;

// Reading. The host wrote each text and list into a block of its own, which is an ArrayBuffer (see lent.ts).

export function bytesAt(at: usize): Uint8Array {
  const address = load<usize>(at);
  const length = load<u32>(at, 4);
  return length == 0 ? new Uint8Array(0) : Uint8Array.wrap(changetype<ArrayBuffer>(address), 0, length);
}

/** The host hands over texts that are UTF-8. */
export function textAt(at: usize): string {
  return String.UTF8.decodeUnsafe(load<usize>(at), load<u32>(at, 4));
}

export function optionalTextAt(at: usize): string | null {
  return load<u8>(at) == 0 ? null : textAt(at + 4);
}

export function readDelivery(at: usize): Delivery {
  const delivery = new Delivery();
  delivery.body = bytesAt(at);
  delivery.properties = readProperties(at + 8);
  delivery.exchange = textAt(at + 144);
  delivery.routingKey = textAt(at + 152);
  delivery.queue = textAt(at + 160);
  delivery.redelivered = load<u8>(at, 168) != 0;
  delivery.attempt = load<u32>(at, 172);
  return delivery;
}

function readProperties(at: usize): Properties {
  const p = new Properties();
  p.contentType = optionalTextAt(at);
  p.contentEncoding = optionalTextAt(at + 12);
  const headers = load<usize>(at, 24);
  const count = load<i32>(at, 28);
  p.headers = new Array<Header>();
  for (let i = 0; i < count; i++) {
    const header = headers + i * HEADER_SIZE;
    p.headers.push(new Header(textAt(header), readField(header + 8)));
  }
  p.persistent = load<u8>(at, 32) != 0;
  if (load<u8>(at, 33) != 0) p.priority = load<u8>(at, 34);
  p.correlationId = optionalTextAt(at + 36);
  p.replyTo = optionalTextAt(at + 48);
  if (load<u8>(at, 60) != 0) p.expirationMs = load<u32>(at, 64);
  p.messageId = optionalTextAt(at + 68);
  p.hasTimestamp = load<u8>(at, 80) != 0;
  if (p.hasTimestamp) p.timestamp = load<u64>(at, 88);
  p.kind = optionalTextAt(at + 96);
  p.userId = optionalTextAt(at + 108);
  p.appId = optionalTextAt(at + 120);
  return p;
}

function readField(at: usize): Field {
  switch (<i32>load<u8>(at)) {
    case FieldKind.Boolean: return Field.boolean(load<u8>(at, 8) != 0);
    case FieldKind.Integer: return Field.integer(load<i64>(at, 8));
    case FieldKind.Float: return Field.float(load<f64>(at, 8));
    case FieldKind.Text: return Field.text(textAt(at + 8));
    case FieldKind.Binary: return Field.binary(bytesAt(at + 8));
    case FieldKind.Timestamp: return Field.timestamp(load<u64>(at, 8));
    case FieldKind.Json: return Field.json(textAt(at + 8));
    default: return Field.void();
  }
}

// Writing. One area holds all records; texts and bodies are pointed to.

/** What the area points to, which must outlive it. */
let kept: ArrayBuffer[] = [];
/** Where the area's unused part begins. */
let free: usize = 0;

/** Lets go of the last result. */
export function forget(): void {
  kept = [];
}

function take(size: i32): usize {
  const at = free;
  free += size;
  return at;
}

function writeText(at: usize, text: string): void {
  writeBuffer(at, encodeUtf8(text));
}

function writeBuffer(at: usize, buffer: ArrayBuffer): void {
  kept.push(buffer);
  store<usize>(at, changetype<usize>(buffer));
  store<u32>(at, buffer.byteLength, 4);
}

function writeBytes(at: usize, bytes: Uint8Array): void {
  kept.push(bytes.buffer);
  store<usize>(at, bytes.dataStart);
  store<u32>(at, bytes.length, 4);
}

function writeOptionalText(at: usize, text: string | null): void {
  if (text === null) return;
  store<u8>(at, 1);
  writeText(at + 4, text);
}

/** The result of a call: address of a result<outcome, string>, valid until `forget`. */
export function writeResult(outcome: Outcome): usize {
  const publications = outcome.publications;
  let size = RESULT_SIZE + publications.length * PUBLICATION_SIZE;
  for (let i = 0; i < publications.length; i++) {
    size += publications[i].properties.headers.length * HEADER_SIZE;
  }
  // Zeroed, so that what is not set is absent, false and empty.
  const area = new ArrayBuffer(size);
  kept.push(area);
  free = changetype<usize>(area);
  const at = take(RESULT_SIZE);
  const failure = outcome.failure;
  if (failure !== null) {
    store<u8>(at, 1);
    writeText(at + 4, failure);
    return at;
  }
  writeSettlement(at + 4, outcome);
  const list = take(publications.length * PUBLICATION_SIZE);
  store<usize>(at, list, 16);
  store<u32>(at, publications.length, 20);
  for (let i = 0; i < publications.length; i++) {
    const record = list + i * PUBLICATION_SIZE;
    writeText(record, publications[i].exchange);
    writeText(record + 8, publications[i].routingKey);
    writeBytes(record + 16, publications[i].body);
    writeProperties(record + 24, publications[i].properties);
  }
  return at;
}

function writeSettlement(at: usize, outcome: Outcome): void {
  const settlement = outcome.settlement;
  store<u8>(at, <u8>settlement.kind);
  if (settlement.kind == SettlementKind.Retry && settlement.delayMs >= 0) {
    store<u8>(at, 1, 4);
    store<u32>(at, <u32>settlement.delayMs, 8);
  }
  if (settlement.kind == SettlementKind.DeadLetter) writeText(at + 4, settlement.reason);
}

function writeProperties(at: usize, p: Properties): void {
  writeOptionalText(at, p.contentType);
  writeOptionalText(at + 12, p.contentEncoding);
  const headers = take(p.headers.length * HEADER_SIZE);
  store<usize>(at, headers, 24);
  store<u32>(at, p.headers.length, 28);
  for (let i = 0; i < p.headers.length; i++) {
    const header = headers + i * HEADER_SIZE;
    writeText(header, p.headers[i].name);
    writeField(header + 8, p.headers[i].value);
  }
  store<u8>(at, p.persistent, 32);
  if (p.priority >= 0) {
    store<u8>(at, 1, 33);
    store<u8>(at, <u8>p.priority, 34);
  }
  writeOptionalText(at + 36, p.correlationId);
  writeOptionalText(at + 48, p.replyTo);
  if (p.expirationMs >= 0) {
    store<u8>(at, 1, 60);
    store<u32>(at, <u32>p.expirationMs, 64);
  }
  writeOptionalText(at + 68, p.messageId);
  if (p.hasTimestamp) {
    store<u8>(at, 1, 80);
    store<u64>(at, p.timestamp, 88);
  }
  writeOptionalText(at + 96, p.kind);
  writeOptionalText(at + 108, p.userId);
  writeOptionalText(at + 120, p.appId);
}

function writeField(at: usize, field: Field): void {
  store<u8>(at, <u8>field.kind);
  switch (field.kind) {
    case FieldKind.Boolean: store<u8>(at, field.boolean, 8); break;
    case FieldKind.Integer: store<i64>(at, field.integer, 8); break;
    case FieldKind.Float: store<f64>(at, field.float, 8); break;
    case FieldKind.Text:
    case FieldKind.Json: writeText(at + 8, field.text); break;
    case FieldKind.Binary: writeBytes(at + 8, field.binary); break;
    case FieldKind.Timestamp: store<u64>(at, field.timestamp, 8); break;
  }
}
