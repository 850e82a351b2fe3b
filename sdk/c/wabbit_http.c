/* What requests and responses are made of. wabbit_http_host.c sends them; in native tests the test answers. */
#include "wabbit_http.h"

#include "wabbit_call.h"

#include <string.h>

/* How much of a body goes into an error. */
enum { SHOWN_BYTES_MAX = 200 };

static const char *find(wabbit_str text, const char *any, size_t from) {
  for (size_t i = from; i < text.len; i++)
    if (strchr(any, text.ptr[i]) && text.ptr[i]) return text.ptr + i;
  return text.ptr + text.len;
}

bool wabbit_url_parse(wabbit_str text, wabbit_url *url) {
  const char *colon = find(text, ":/?#", 0), *end = find(text, "#", 0);
  size_t scheme = (size_t)(colon - text.ptr), start = scheme + 3;
  if (text.len < start || memcmp(colon, "://", 3) != 0) return false;
  const char *slash = find(text, "/?#", start);
  *url = (wabbit_url){{text.ptr, scheme}, {text.ptr + start, (size_t)(slash - text.ptr) - start},
                      {slash, slash < end ? (size_t)(end - slash) : 0}};
  if (url->path.len == 0) url->path = wabbit_cstr("/");
  bool known = wabbit_is(url->scheme, "https") || wabbit_is(url->scheme, "http");
  for (size_t i = 0; i < text.len; i++)
    if ((unsigned char)text.ptr[i] <= ' ' || (unsigned char)text.ptr[i] >= 0x7f) return false;
  return known && url->authority.len;
}

/* ---- requests ---- */

wabbit_request wabbit_request_of(const char *method, wabbit_str url) {
  return (wabbit_request){.method = wabbit_cstr(method), .url = url};
}

static char *escape(char *to, wabbit_str text) {
  static const char digits[] = "0123456789ABCDEF";
  for (size_t i = 0; i < text.len; i++) {
    unsigned char byte = (unsigned char)text.ptr[i];
    bool plain = (byte | 32) >= 'a' && (byte | 32) <= 'z' && byte < 0x80;
    if (plain || (byte >= '0' && byte <= '9') || (byte && strchr("-._~", byte))) *to++ = (char)byte;
    else *to++ = '%', *to++ = digits[byte >> 4], *to++ = digits[byte & 15];
  }
  return to;
}

void wabbit_request_query(wabbit_call *call, wabbit_request *request, const char *name, wabbit_str value) {
  wabbit_str old = request->url;
  char *url = (char *)wabbit_alloc(call, old.len + 2 + 3 * (strlen(name) + value.len));
  char *to = url;
  if (old.len) memcpy(to, old.ptr, old.len);
  to += old.len;
  *to++ = old.len && memchr(old.ptr, '?', old.len) ? '&' : '?';
  to = escape(to, wabbit_cstr(name));
  *to++ = '=';
  to = escape(to, value);
  request->url = (wabbit_str){url, (size_t)(to - url)};
}

void wabbit_request_header(wabbit_call *call, wabbit_request *request, const char *name, wabbit_str value) {
  wabbit_pairs *headers = &request->headers;
  wabbit_pair *list = (wabbit_pair *)wabbit_alloc(call, (headers->len + 1) * sizeof *list);
  if (headers->len) memcpy(list, headers->ptr, headers->len * sizeof *list);
  list[headers->len] = (wabbit_pair){wabbit_cstr(name), value};
  *headers = (wabbit_pairs){list, headers->len + 1};
}

void wabbit_request_bearer(wabbit_call *call, wabbit_request *request, wabbit_str token) {
  wabbit_request_header(call, request, "authorization", wabbit_format(call, "Bearer %.*s", WABBIT_ARG(token)));
}

void wabbit_request_text(wabbit_call *call, wabbit_request *request, wabbit_str text) {
  wabbit_request_header(call, request, "content-type", wabbit_cstr("text/plain; charset=utf-8"));
  request->body = text;
}

void wabbit_request_json(wabbit_call *call, wabbit_request *request, const wabbit_json_writer *json) {
  wabbit_request_header(call, request, "content-type", wabbit_cstr("application/json"));
  request->body = wabbit_json_done(json);
}

bool wabbit_get(wabbit_call *call, const char *url, wabbit_response *response) {
  wabbit_request request = wabbit_request_of("GET", wabbit_cstr(url));
  return wabbit_send(call, &request, response);
}

/* ---- responses ---- */

bool wabbit_success(wabbit_call *call, const wabbit_response *response) {
  if (response->status >= 200 && response->status < 300) return true;
  wabbit_str body = response->body;
  if (body.len > SHOWN_BYTES_MAX) body.len = SHOWN_BYTES_MAX;
  /* A character that is cut in two is left out. */
  while (body.len < response->body.len && body.len && ((unsigned char)body.ptr[body.len] & 0xc0) == 0x80) body.len--;
  while (body.len && (unsigned char)body.ptr[body.len - 1] <= ' ') body.len--;
  while (body.len && (unsigned char)*body.ptr <= ' ') body.ptr++, body.len--;
  wabbit_fail(call, "the server answered %u%s%.*s", response->status, body.len ? ": " : "", WABBIT_ARG(body));
  return false;
}

static bool same_name(wabbit_str name, const char *other) {
  if (name.len != strlen(other)) return false;
  for (size_t i = 0; i < name.len; i++) {
    unsigned char a = (unsigned char)name.ptr[i], b = (unsigned char)other[i];
    if (a != b && ((a ^ b) != 32 || (a | 32) < 'a' || (a | 32) > 'z')) return false;
  }
  return true;
}

bool wabbit_response_header(const wabbit_response *response, const char *name, wabbit_str *value) {
  for (size_t i = 0; i < response->headers.len; i++)
    if (same_name(response->headers.ptr[i].name, name)) return *value = response->headers.ptr[i].value, true;
  return false;
}

bool wabbit_response_text(wabbit_call *call, const wabbit_response *response, wabbit_str *text) {
  if (wabbit_utf8_prefix(response->body) == response->body.len) return *text = response->body, true;
  wabbit_fail(call, "the response is not UTF-8");
  return false;
}

bool wabbit_response_json(wabbit_call *call, const wabbit_response *response, wabbit_json *value) {
  wabbit_json_error error;
  if (wabbit_json_parse(response->body, value, &error)) return true;
  wabbit_fail(call, "the response is not JSON: %s at line %zu column %zu", error.what, error.line, error.column);
  return false;
}

/* ---- tests ---- */

#ifndef __wasm__

static wabbit_answering *answering;
static void *answering_with;

void wabbit_answer(wabbit_answering *answer, void *argument) {
  answering = answer;
  answering_with = argument;
}

bool wabbit_send(wabbit_call *call, const wabbit_request *request, wabbit_response *response) {
  *response = (wabbit_response){0};
  if (answering && answering(answering_with, call, request, response)) return true;
  if (!answering) wabbit_fail(call, "nobody answers: a test says how, by `wabbit_answer`");
  if (response->error == WABBIT_HTTP_OK) response->error = WABBIT_HTTP_CONNECTION;
  response->status = 0;
  return false;
}

#endif
