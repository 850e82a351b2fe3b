/**
 * Write handlers for wabbit, WebAssembly workers for RabbitMQ. The types are in index.d.ts.
 */

export { Delivery } from "./src/delivery.js";
export { Outcome, ack, deadLetter, requeue, retry, retryAfter } from "./src/outcome.js";
export { Float, Json, Timestamp } from "./src/fields.js";
export { DeadLetterError, FileError, HttpError, KeyValueError } from "./src/error.js";
export { context } from "./src/context.js";
export { config } from "./src/config.js";
export { keyvalue } from "./src/keyvalue.js";
export { files } from "./src/files.js";
export { http } from "./src/http.js";
