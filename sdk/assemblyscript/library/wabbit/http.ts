// HTTP requests, to the origins that the manifest's `[grant] http` lists.

import { Json, JsonWriter } from "./json";
import { exchange } from "./http-host";
import { ProblemKind, Result, failed } from "./result";
import { decodeUtf8, encodeUtf8 } from "./utf8";

/** A header of a request or of a response. */
export class HttpHeader {
  constructor(
    public name: string,
    public value: string,
  ) {}
}

/**
 * A request to be sent. It takes place at once, not with the settlement: a delivery that is tried again sends it again.
 * Redirects are not followed; the response says where it points to in its header `location`.
 */
export class Request {
  /** `host` and what concerns the connection is the host's to say. */
  headers: HttpHeader[] = [];
  /** Empty for none. */
  body: Uint8Array = new Uint8Array(0);
  /**
   * How many milliseconds each of connecting, waiting for the response and waiting for its next part may take; 0 for no
   * other than the host's limits. The delivery's time bounds it all.
   */
  timeoutMs: u32 = 0;

  /** The URL is `https://HOST/PATH?QUERY`, or `http://…`. What has a meaning there is written as `%xx`. */
  constructor(
    public method: string,
    public url: string,
  ) {}

  /** A `GET`. */
  static get(url: string): Request {
    return new Request("GET", url);
  }

  /** A `POST`. */
  static post(url: string): Request {
    return new Request("POST", url);
  }

  /** Adds a parameter to the URL's query, whatever signs are in it. */
  query(name: string, value: string): this {
    this.url += (this.url.includes("?") ? "&" : "?") + encodeURIComponent(name) + "=" + encodeURIComponent(value);
    return this;
  }

  /** Adds a header. */
  header(name: string, value: string): this {
    this.headers.push(new HttpHeader(name, value));
    return this;
  }

  /** Adds the header `authorization` with that token. */
  bearer(token: string): this {
    return this.header("authorization", "Bearer " + token);
  }

  /** Sets the body, and leaves the content type as it is. */
  bytes(body: Uint8Array): this {
    this.body = body;
    return this;
  }

  /** Sets the body to that text, with its content type. */
  text(text: string): this {
    return this.header("content-type", "text/plain; charset=utf-8").bytes(Uint8Array.wrap(encodeUtf8(text)));
  }

  /** Sets the body to what was written, with its content type. */
  json(json: JsonWriter): this {
    return this.header("content-type", "application/json").bytes(json.bytes());
  }

  /** Sets how many milliseconds each of connecting, the response and its next part may take. */
  within(ms: u32): this {
    this.timeoutMs = ms;
    return this;
  }

  /** Sends it, and waits for the whole response, whatever its status. */
  send(): Result<Response> {
    const target = Target.of(this.url);
    if (target === null) {
      return failed<Response>(
        `${this.method} a URL that is none: the request cannot be sent for its URL`, ProblemKind.Request,
      );
    }
    const answered = exchange(this, target);
    const problem = answered.problem;
    if (problem === null) return answered;
    // Without path and query, which may hold what is nobody's business.
    return failed<Response>(`${this.method} ${target.scheme}://${target.authority}: ${problem}`, answered.kind);
  }
}

/** What a URL says a request is made of. */
export class Target {
  constructor(
    public scheme: string,
    public authority: string,
    public path: string,
  ) {}

  static of(url: string): Target | null {
    const colon = url.indexOf("://");
    if (colon < 0) return null;
    const scheme = lowerCase(url.substring(0, colon));
    if (scheme != "http" && scheme != "https") return null;
    const from = colon + 3;
    const hash = url.indexOf("#", from);
    const to = hash < 0 ? url.length : hash;
    let end = from;
    while (end < to && url.charCodeAt(end) != SLASH && url.charCodeAt(end) != QUESTION) end++;
    if (end == from) return null;
    const path = url.substring(end, to);
    return new Target(scheme, url.substring(from, end), path.startsWith("/") ? path : "/" + path);
  }
}

/** ASCII alone: what the standard library has brings the tables of Unicode with it, 20 KB. */
export function lowerCase(text: string): string {
  let lower = "";
  for (let i = 0; i < text.length; i++) {
    const unit = text.charCodeAt(i);
    lower += String.fromCharCode(unit >= 0x41 && unit <= 0x5a ? unit + 0x20 : unit);
  }
  return lower;
}

const SLASH = 0x2f;
const QUESTION = 0x3f;

/** How much of a body goes into a problem. */
const SHOWN_CHARS_MAX = 200;

/** What came back. */
export class Response {
  /** Names are in lower case. */
  headers: HttpHeader[] = [];
  /** The whole of it. */
  body: Uint8Array = new Uint8Array(0);

  constructor(
    /** Such as 200. */
    public status: i32,
  ) {}

  /** The first header of that name, in whatever case; null where there is none. */
  header(name: string): string | null {
    const wanted = lowerCase(name);
    for (let i = 0; i < this.headers.length; i++) {
      if (lowerCase(this.headers[i].name) == wanted) return this.headers[i].value;
    }
    return null;
  }

  /** Null where the status is one of 200 to 299; otherwise what the server answered. */
  get problem(): string | null {
    if (this.status >= 200 && this.status < 300) return null;
    const text = this.text();
    const told = text === null ? "" : text.trim().substring(0, SHOWN_CHARS_MAX);
    return `the server answered ${this.status}` + (told == "" ? "" : ": " + told);
  }

  /** The body as UTF-8 text; null where it is none. */
  text(): string | null {
    return decodeUtf8(this.body.dataStart, this.body.length);
  }

  /** The body as JSON; null where it is none. */
  json(): Json | null {
    const text = this.text();
    return text === null ? null : Json.parse(text);
  }
}
