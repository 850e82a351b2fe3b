import assert from "node:assert/strict";
import test from "node:test";
import "./engine.js";
import { HttpError, http } from "../index.js";
import { failed } from "../runtime/http-errors.js";
import { partsOf } from "../src/http.js";
import { provide } from "../testing.js";

/** What is sent by `send`. */
function sent(send) {
  let seen;
  provide({
    http(request) {
      seen = request;
      return {};
    },
  });
  send();
  const { method, url, headers, body, timeoutMs } = seen;
  return [method, url, headers, new TextDecoder().decode(body), timeoutMs];
}

const URL = "https://a.example/b";

test("URLs have parts", () => {
  const cases = [
    ["https://a.example/b?c#d", "https", "a.example", "/b?c"],
    ["http://a.example:80", "http", "a.example:80", "/"],
    ["HTTP://[::1]:80?a=/", "http", "[::1]:80", "/?a=/"],
    ["https://a.example#/b", "https", "a.example", "/"],
    ...["a.example/b", "https:///b", "ftp://a.example/", "https://a b/", "https://a.example/b c"].map((url) => [url]),
    ...["https://user:word@a.example/", "https://a.example\\b", "https://a.example/\u00fc", ""].map((url) => [url]),
  ];
  for (const [url, scheme, authority, path] of cases) {
    assert.deepEqual(partsOf(url), scheme === undefined ? undefined : { scheme, authority, path }, url);
  }
});

test("requests are what was asked for", () => {
  const json = ["content-type", "application/json"];
  const cases = [
    [() => http.get(URL), ["GET", URL, [], "", undefined]],
    [() => http.request("PURGE", URL, { timeoutMs: 50 }), ["PURGE", URL, [], "", 50]],
    [() => http.post(URL, { json: [1] }), ["POST", URL, [json], "[1]", undefined]],
    [() => http.put(URL, { body: "a", headers: { A: "b", c: undefined } }), ["PUT", URL, [["A", "b"]], "a", undefined]],
    [() => http.patch(URL, { headers: new Map([["a", "b"]]) }), ["PATCH", URL, [["a", "b"]], "", undefined]],
    [
      () => http.delete(URL, { text: "a", headers: [["Content-Type", "x"]] }),
      ["DELETE", URL, [["Content-Type", "x"]], "a", undefined],
    ],
    [() => http.get(URL, { query: { a: undefined } }), ["GET", URL, [], "", undefined]],
    [() => http.get(URL, { query: { q: "a b&c='ü'", n: 1 } }), ["GET", `${URL}?q=a%20b%26c%3D%27%C3%BC%27&n=1`, [], "", undefined]],
    [() => http.get(`${URL}?x#y`, { query: { n: 1 } }), ["GET", `${URL}?x&n=1#y`, [], "", undefined]],
  ];
  for (const [send, expected] of cases) assert.deepEqual(sent(send), expected);
});

test("mistakes are refused where they are made", () => {
  const cases = [
    [{ jsn: 1 }, "a request has no `jsn`"],
    [{ json: 1, text: "" }, "a request has one of `body`, `text` and `json`"],
    [{ headers: { a: 1 } }, "a request's header `a` cannot be a number"],
    [{ timeoutMs: "1s" }, "a request's `timeoutMs` is a number of milliseconds"],
    [{ text: 1 }, "a request's `text` cannot be a number"],
  ];
  for (const [options, message] of cases) assert.throws(() => http.get(URL, options), { message });
  assert.throws(() => http.get("a.example"), {
    kind: "request",
    message: "GET: the request cannot be sent for its URL",
  });
});

test("responses are read", () => {
  provide({ http: ({ url }) => ({ status: 201, headers: { "X-Seen": url }, json: { a: 1 } }) });
  const response = http.get(URL);
  assert.deepEqual([response.status, response.ok, response.success()], [201, true, response]);
  assert.deepEqual([response.header("x-SEEN"), response.header("other")], [URL, undefined]);
  assert.deepEqual([response.text(), response.json()], ['{"a":1}', { a: 1 }]);
  assert.deepEqual(response.headers, [
    ["x-seen", URL],
    ["content-type", "application/json"],
  ]);
});

test("what went wrong is told", () => {
  provide();
  assert.throws(() => http.get(`${URL}?secret`), {
    kind: "connection",
    message: "GET https://a.example: nobody answers: a test says how, by `provide({ http })`",
  });
  provide({ http: () => ({ status: 503, body: " try later " }) });
  const error = { name: "HttpError", kind: "status", status: 503, message: "the server answered 503: try later" };
  assert.throws(() => http.get(URL).success(), error);
  assert.throws(() => http.get(URL).json(), { kind: "body", message: /^the response is not JSON: ./ });
  provide({ http: () => ({ body: new Uint8Array([0xff]) }) });
  assert.throws(() => http.get(URL).text(), { kind: "body", message: "the response is not UTF-8 text" });
  const thrower = () => {
    throw new HttpError("timeout", "too slow");
  };
  provide({ http: thrower });
  assert.throws(() => http.get(URL), { kind: "timeout", message: "GET https://a.example: too slow" });
});

test("errors of the host have words", () => {
  const cases = [
    [{ tag: "HTTP-request-denied" }, "not-granted", "not granted by the manifest's `[grant] http`"],
    [{ tag: "connection-read-timeout" }, "timeout", "connection read timeout"],
    [{ tag: "HTTP-response-body-size", val: 7 }, "too-large", "http response body size (7)"],
    [{ tag: "HTTP-response-body-size", val: null }, "too-large", "http response body size"],
    [{ tag: "DNS-error", val: { rcode: "NXDOMAIN", infoCode: null } }, "connection", "dns error (NXDOMAIN)"],
    [{ tag: "internal-error", val: "odd" }, "other", "internal error (odd)"],
  ];
  for (const [code, kind, message] of cases) {
    const error = failed(code);
    assert.deepEqual([error.kind, error.message], [kind, message]);
  }
});
