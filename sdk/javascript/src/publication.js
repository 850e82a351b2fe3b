/** What a handler publishes: plain objects, checked as soon as they are added to an outcome. */

import { checkNames } from "./bytes.js";

/** The properties of AMQP that are texts. */
export const TEXTS = [
  "contentType",
  "contentEncoding",
  "correlationId",
  "replyTo",
  "messageId",
  "kind",
  "userId",
  "appId",
];

const KNOWN = new Set([
  ...["exchange", "routingKey", "body", "text", "json", "headers"],
  ...["persistent", "priority", "expirationMs", "timestamp"],
  ...TEXTS,
]);

export const checkPublication = (publication) => checkNames(publication, KNOWN, "a publication");
