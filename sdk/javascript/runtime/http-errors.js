/** What an `error-code` of `wasi:http` says. */

import { HttpError } from "../src/error.js";

const KINDS = {
  "not-granted": ["http-request-denied", "destination-ip-prohibited"],
  request: ["http-request-uri-invalid", "http-request-method-invalid", "http-request-length-required"],
  timeout: [
    ...["dns-timeout", "connection-timeout", "connection-read-timeout", "connection-write-timeout"],
    "http-response-timeout",
  ],
  "too-large": ["http-request-body-size", "http-response-body-size", "http-response-header-section-size"],
  connection: [
    ...["dns-error", "destination-not-found", "destination-unavailable", "connection-refused"],
    ...["connection-terminated", "connection-limit-reached"],
    ...["tls-protocol-error", "tls-certificate-error", "tls-alert-received"],
  ],
};

const TEXTS = {
  "http-request-denied": "not granted by the manifest's `[grant] http`",
  "destination-ip-prohibited": "its address is of a network that the manifest's `[grant] http` does not name",
};

/** The error of an `error-code`: its kind, and its name in words with what it carries. */
export function failed({ tag, val }) {
  const name = tag.toLowerCase();
  const kind = Object.keys(KINDS).find((kind) => KINDS[kind].includes(name)) ?? "other";
  return new HttpError(kind, TEXTS[name] ?? `${name.replaceAll("-", " ")}${details(val)}`);
}

function details(value) {
  const values = typeof value === "object" && value !== null ? Object.values(value) : [value];
  const told = values.filter((part) => part !== null && part !== undefined);
  return told.length === 0 ? "" : ` (${told.join(", ")})`;
}
