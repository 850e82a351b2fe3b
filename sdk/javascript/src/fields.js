/**
 * Values of headers. Each value of JavaScript stands for one type of AMQP, so that headers that came in go out again
 * as they were. What JavaScript cannot tell apart is wrapped: floats without a fraction, JSON, and far timestamps.
 */

/** The last second that a `Date` can hold. */
const DATE_SECONDS_MAX = 8_640_000_000_000n;
const INTEGER_MIN = -(2n ** 63n);
const INTEGER_MAX = 2n ** 63n - 1n;
const TIMESTAMP_MAX = 2n ** 64n - 1n;

/** A float that looks like an integer, such as 1.0. In arithmetic it is its value. */
export class Float {
  constructor(value) {
    this.value = Number(value);
  }

  valueOf() {
    return this.value;
  }

  toJSON() {
    return this.value;
  }
}

/** A decimal, nested table or array, as JSON text. */
export class Json {
  constructor(text) {
    this.text = String(text);
  }

  /** The JSON text of that value. */
  static of(value) {
    const text = JSON.stringify(value);
    if (text === undefined) throw new TypeError("the value has no JSON form");
    return new Json(text);
  }

  /** What the text says. */
  get value() {
    return JSON.parse(this.text);
  }

  toJSON() {
    return this.value;
  }
}

/** Seconds since the Unix epoch, for the times that a `Date` cannot hold. */
export class Timestamp {
  constructor(seconds) {
    this.seconds = BigInt(seconds);
  }
}

/** An integer is a number where it is exact, else a BigInt. */
export function integer(value) {
  const number = Number(value);
  return Number.isSafeInteger(number) ? number : value;
}

/** A plain number says float by its fraction, or by its size. */
export const float = (value) => (Number.isSafeInteger(value) ? new Float(value) : value);

/** What a timestamp of so many seconds, a BigInt, is to a handler. */
export const time = (seconds) =>
  seconds > DATE_SECONDS_MAX ? new Timestamp(seconds) : new Date(Number(seconds) * 1000);

/** The seconds, as a BigInt, of what a handler gave for the timestamp `name`. */
export function seconds(value, name) {
  let seconds;
  if (value instanceof Timestamp) {
    seconds = value.seconds;
  } else if (value instanceof Date && !Number.isNaN(value.getTime())) {
    seconds = BigInt(Math.floor(value.getTime() / 1000));
  } else {
    throw new TypeError(`\`${name}\` is not a valid \`Date\` or \`Timestamp\``);
  }
  if (seconds < 0n || seconds > TIMESTAMP_MAX) {
    throw new RangeError(`\`${name}\` is not between the year 1970 and 2^64 seconds later`);
  }
  return seconds;
}

/** The case of the contract's `field`, and its payload, for the value of the header `name`. */
export function classify(name, value) {
  switch (typeof value) {
    case "string":
      return ["text", value];
    case "boolean":
      return ["boolean", value];
    case "number":
      return Number.isSafeInteger(value) ? ["integer", BigInt(value)] : ["float", value];
    case "bigint":
      if (value < INTEGER_MIN || value > INTEGER_MAX) {
        throw new RangeError(`the integer of header \`${name}\` does not fit 64 bits`);
      }
      return ["integer", value];
    case "object":
      return classifyObject(name, value);
    default:
      throw new TypeError(`header \`${name}\` cannot be a ${typeof value}`);
  }
}

function classifyObject(name, value) {
  if (value === null) return ["void"];
  if (value instanceof Float) return ["float", value.value];
  if (value instanceof Uint8Array) return ["binary", value];
  if (value instanceof Date || value instanceof Timestamp) return ["timestamp", seconds(value, name)];
  if (value instanceof Json) return ["json", value.text];
  if (ArrayBuffer.isView(value) || value instanceof ArrayBuffer) {
    throw new TypeError(`the bytes of header \`${name}\` are not a \`Uint8Array\``);
  }
  return ["json", Json.of(value).text];
}
