/** HTTP requests, to the origins that the manifest's `[grant] http` lists. */

import { decode } from "#host";
import { send } from "#http";
import { bodyOf, checkNames, textOf } from "./bytes.js";
import { HttpError } from "./error.js";

/** How much of a body goes into an error. */
const SHOWN_CHARACTERS_MAX = 200;

const KNOWN = new Set(["headers", "query", "body", "text", "json", "timeoutMs"]);
const KNOWN_OF_RESPONSE = new Set(["status", "headers", "body", "text", "json"]);

/** What a request and a response have in common. */
class Message {
  header(name) {
    const wanted = name.toLowerCase();
    return this.headers.find(([known]) => known.toLowerCase() === wanted)?.[1];
  }

  text() {
    const text = decode(this.body);
    if (text === undefined) throw new HttpError("body", `${this.what} is not UTF-8 text`);
    return text;
  }

  json() {
    const text = this.text();
    try {
      return JSON.parse(text);
    } catch (error) {
      throw new HttpError("body", `${this.what} is not JSON: ${error.message}`, { cause: error });
    }
  }
}

class Request extends Message {
  constructor(method, url, options) {
    super();
    checkNames(options, KNOWN, "a request");
    this.method = textOf(method, "a request's method");
    this.url = withQuery(textOf(url, "a request's URL"), options.query);
    Object.assign(this, contentOf(options, "a request's"));
    const { timeoutMs } = options;
    if (timeoutMs !== undefined && !(Number.isFinite(timeoutMs) && timeoutMs > 0)) {
      throw new RangeError("a request's `timeoutMs` is a number of milliseconds");
    }
    this.timeoutMs = timeoutMs;
  }

  get what() {
    return "the request";
  }
}

class Response extends Message {
  constructor({ status, headers, body }) {
    super();
    this.status = status;
    this.headers = headers;
    this.body = body;
  }

  get what() {
    return "the response";
  }

  get ok() {
    return this.status >= 200 && this.status < 300;
  }

  success() {
    if (this.ok) return this;
    const shown = (decode(this.body) ?? "").trim().slice(0, SHOWN_CHARACTERS_MAX);
    const text = `the server answered ${this.status}${shown === "" ? "" : `: ${shown}`}`;
    throw new HttpError("status", text, { status: this.status });
  }
}

/** The response that a test gives. */
export function responseOf(given) {
  checkNames(given, KNOWN_OF_RESPONSE, "a response");
  const { headers, body } = contentOf(given, "a response's");
  return { status: given.status ?? 200, headers: headers.map(([name, value]) => [name.toLowerCase(), value]), body };
}

/** Headers, as pairs of name and value, and the body, with its content type among the headers. */
function contentOf(given, whose) {
  const [body, contentType] = bodyOf(given, whose);
  const entries = given.headers?.[Symbol.iterator] === undefined ? Object.entries(given.headers ?? {}) : given.headers;
  const headers = [];
  for (const [name, value] of entries) {
    if (value !== undefined) headers.push([textOf(name, `${whose} header`), textOf(value, `${whose} header \`${name}\``)]);
  }
  if (contentType !== undefined && !headers.some(([name]) => name.toLowerCase() === "content-type")) {
    headers.push(["content-type", contentType]);
  }
  return { headers, body };
}

function withQuery(url, query) {
  const parameters = Object.entries(query ?? {}).filter(([, value]) => value !== undefined);
  if (parameters.length === 0) return url;
  const [address, fragment] = url.split(/(?=#)/, 2);
  const text = parameters.map(([name, value]) => `${escape(name)}=${escape(String(value))}`).join("&");
  return `${address}${address.includes("?") ? "&" : "?"}${text}${fragment ?? ""}`;
}

/** As `encodeURIComponent`, which leaves out some signs that have a meaning to some servers. */
const escape = (text) =>
  encodeURIComponent(text.toWellFormed()).replaceAll(
    /[!'()*]/g,
    (sign) => `%${sign.charCodeAt(0).toString(16).toUpperCase()}`,
  );

/** Scheme, authority, and path with query. Undefined where it has not the form of a URL for HTTP. */
export function partsOf(url) {
  const parts = /^(https?):\/\/([^\s\/?#\\@]+)(\/[\x21-\x7e]*|)(\?[\x21-\x7e]*|)$/i.exec(url.replace(/#.*$/s, ""));
  if (parts === null) return undefined;
  const [, scheme, authority, path, query] = parts;
  return { scheme: scheme.toLowerCase(), authority, path: `${path || "/"}${query}` };
}

function request(method, url, options = {}) {
  const made = new Request(method, url, options);
  const parts = partsOf(made.url);
  try {
    if (parts === undefined) throw new HttpError("request", "the request cannot be sent for its URL");
    return new Response(send(made, parts));
  } catch (error) {
    if (!(error instanceof HttpError)) throw error;
    // Without path and query, which may hold what is nobody's business.
    const place = parts === undefined ? "" : ` ${parts.scheme}://${parts.authority}`;
    throw new HttpError(error.kind, `${made.method}${place}: ${error.message}`, { cause: error.cause });
  }
}

const by = (method) => (url, options) => request(method, url, options);

export const http = {
  request,
  get: by("GET"),
  post: by("POST"),
  put: by("PUT"),
  patch: by("PATCH"),
  delete: by("DELETE"),
};
