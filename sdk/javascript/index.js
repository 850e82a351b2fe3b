/**
 * Write handlers for wabbit, WebAssembly workers for RabbitMQ. The types are in index.d.ts.
 */

export { Delivery } from "./src/delivery.js";
export { Outcome, ack, deadLetter, requeue, retry, retryAfter } from "./src/outcome.js";
export { Float, Json, Timestamp } from "./src/fields.js";
export { DeadLetterError } from "./src/error.js";
export { context } from "./src/context.js";
