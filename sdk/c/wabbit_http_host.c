/* Requests by way of wasi:http. The names and layouts are those that the canonical ABI gives sdk/wit/deps. */
#ifdef __wasm__

#include "wabbit_http.h"

#include "wabbit_call.h"

#include <string.h>

/* How much of a response is read at once. */
enum { PIECE_BYTES = 64 * 1024 };

#define TYPES(name) __attribute__((import_module("wasi:http/types@0.2.0"), import_name(name)))
#define HANDLER(name) __attribute__((import_module("wasi:http/outgoing-handler@0.2.0"), import_name(name)))
#define STREAMS(name) __attribute__((import_module("wasi:io/streams@0.2.0"), import_name(name)))
#define POLL(name) __attribute__((import_module("wasi:io/poll@0.2.0"), import_name(name)))
#define ERROR(name) __attribute__((import_module("wasi:io/error@0.2.0"), import_name(name)))

/* ---- layouts ---- */

struct field_size {
  wabbit_opt_str name;
  wabbit_opt_u32 size;
};

struct error_code {
  uint8_t code;
  union {
    uint64_t alignment;
    wabbit_opt_str text; /* also the name of a DNS error */
    struct {
      wabbit_opt_u8 id;
      wabbit_opt_str message;
    } alert;
    wabbit_opt_u64 size;
    wabbit_opt_u32 section;
    struct field_size field;
    struct {
      uint8_t some;
      struct field_size value;
    } opt_field;
  };
};
_Static_assert(sizeof(struct error_code) == 32 && offsetof(struct error_code, text) == 8, "error-code");
_Static_assert(offsetof(struct error_code, alert.message) == 12, "TLS-alert-received-payload");
_Static_assert(offsetof(struct error_code, opt_field.value) == 12, "field-size-payload");

/* result<own<…>, error-code>, result<_, error-code> and option<error-code>. */
struct sent {
  uint8_t case_;
  union {
    int32_t handle;
    struct error_code error;
  };
};
/* option<result<result<own<incoming-response>, error-code>>> */
struct come {
  uint8_t some;
  struct {
    uint8_t failed;
    struct sent sent;
  } result;
};
_Static_assert(sizeof(struct sent) == 40 && offsetof(struct sent, error) == 8, "sent");
_Static_assert(offsetof(struct come, result.sent.handle) == 24, "come");

/* result<own<…>> */
struct owned {
  uint8_t failed;
  int32_t handle;
};
/* variant stream-error */
struct stream_error {
  uint8_t closed;
  int32_t error;
};
struct piece {
  uint8_t failed;
  union {
    wabbit_str bytes;
    struct stream_error error;
  };
};
struct room {
  uint8_t failed;
  union {
    uint64_t bytes;
    struct stream_error error;
  };
};
struct written {
  uint8_t failed;
  struct stream_error error;
};
_Static_assert(sizeof(struct piece) == 12 && sizeof(struct room) == 16 && sizeof(struct written) == 12, "streams");

/* ---- imports: linked only where the handler sends requests ---- */

TYPES("[constructor]fields") int32_t host_fields(void);
TYPES("[method]fields.append")
void host_fields_append(int32_t self, const char *name, size_t len, const char *value, size_t value_len,
                        uint8_t result[2]);
TYPES("[method]fields.entries") void host_fields_entries(int32_t self, wabbit_pairs *entries);
TYPES("[resource-drop]fields") void host_fields_drop(int32_t self);

TYPES("[constructor]outgoing-request") int32_t host_request(int32_t fields);
TYPES("[method]outgoing-request.body") void host_request_body(int32_t self, struct owned *body);
TYPES("[method]outgoing-request.set-method")
int32_t host_request_set_method(int32_t self, int32_t method, const char *other, size_t len);
TYPES("[method]outgoing-request.set-scheme")
int32_t host_request_set_scheme(int32_t self, int32_t some, int32_t scheme, const char *other, size_t len);
TYPES("[method]outgoing-request.set-authority")
int32_t host_request_set_authority(int32_t self, int32_t some, const char *text, size_t len);
TYPES("[method]outgoing-request.set-path-with-query")
int32_t host_request_set_path(int32_t self, int32_t some, const char *text, size_t len);
TYPES("[resource-drop]outgoing-request") void host_request_drop(int32_t self);

TYPES("[constructor]request-options") int32_t host_options(void);
TYPES("[method]request-options.set-connect-timeout")
int32_t host_options_set_connect(int32_t self, int32_t some, uint64_t nanos);
TYPES("[method]request-options.set-first-byte-timeout")
int32_t host_options_set_first_byte(int32_t self, int32_t some, uint64_t nanos);
TYPES("[method]request-options.set-between-bytes-timeout")
int32_t host_options_set_between_bytes(int32_t self, int32_t some, uint64_t nanos);

HANDLER("handle") void host_send(int32_t request, int32_t some, int32_t options, struct sent *sent);

TYPES("[method]outgoing-body.write") void host_body_write(int32_t self, struct owned *stream);
TYPES("[static]outgoing-body.finish")
void host_body_finish(int32_t self, int32_t some, int32_t trailers, struct sent *result);
TYPES("[resource-drop]outgoing-body") void host_body_drop(int32_t self);

TYPES("[method]future-incoming-response.subscribe") int32_t host_future_subscribe(int32_t self);
TYPES("[method]future-incoming-response.get") void host_future_get(int32_t self, struct come *come);
TYPES("[resource-drop]future-incoming-response") void host_future_drop(int32_t self);

TYPES("[method]incoming-response.status") int32_t host_response_status(int32_t self);
TYPES("[method]incoming-response.headers") int32_t host_response_headers(int32_t self);
TYPES("[method]incoming-response.consume") void host_response_consume(int32_t self, struct owned *body);
TYPES("[resource-drop]incoming-response") void host_response_drop(int32_t self);
TYPES("[method]incoming-body.stream") void host_incoming_stream(int32_t self, struct owned *stream);
TYPES("[resource-drop]incoming-body") void host_incoming_drop(int32_t self);
TYPES("http-error-code") void host_error_code(int32_t error, struct sent *code);

STREAMS("[method]input-stream.blocking-read") void host_input_read(int32_t self, uint64_t bytes, struct piece *piece);
STREAMS("[resource-drop]input-stream") void host_input_drop(int32_t self);
STREAMS("[method]output-stream.subscribe") int32_t host_output_subscribe(int32_t self);
STREAMS("[method]output-stream.check-write") void host_output_room(int32_t self, struct room *room);
STREAMS("[method]output-stream.write")
void host_output_write(int32_t self, const char *bytes, size_t len, struct written *written);
STREAMS("[resource-drop]output-stream") void host_output_drop(int32_t self);
POLL("[method]pollable.block") void host_pollable_block(int32_t self);
POLL("[resource-drop]pollable") void host_pollable_drop(int32_t self);
ERROR("[method]error.to-debug-string") void host_error_text(int32_t self, wabbit_str *text);
ERROR("[resource-drop]error") void host_error_drop(int32_t self);

/* ---- errors ---- */

/* What an error carries. */
enum { NOTHING, TEXT, ALERT, SIZE, SECTION, FIELD, OPT_FIELD };

static const struct {
  const char *text;
  uint8_t error, carries;
} codes[] = {
    {"dns timeout", WABBIT_HTTP_TIMEOUT, NOTHING},
    {"dns error", WABBIT_HTTP_CONNECTION, TEXT},
    {"destination not found", WABBIT_HTTP_CONNECTION, NOTHING},
    {"destination unavailable", WABBIT_HTTP_CONNECTION, NOTHING},
    {"its address is of a network that the manifest's `[grant] http` does not name", WABBIT_HTTP_NOT_GRANTED, NOTHING},
    {"destination ip unroutable", WABBIT_HTTP_OTHER, NOTHING},
    {"connection refused", WABBIT_HTTP_CONNECTION, NOTHING},
    {"connection terminated", WABBIT_HTTP_CONNECTION, NOTHING},
    {"connection timeout", WABBIT_HTTP_TIMEOUT, NOTHING},
    {"connection read timeout", WABBIT_HTTP_TIMEOUT, NOTHING},
    {"connection write timeout", WABBIT_HTTP_TIMEOUT, NOTHING},
    {"connection limit reached", WABBIT_HTTP_CONNECTION, NOTHING},
    {"tls protocol error", WABBIT_HTTP_CONNECTION, NOTHING},
    {"tls certificate error", WABBIT_HTTP_CONNECTION, NOTHING},
    {"tls alert received", WABBIT_HTTP_CONNECTION, ALERT},
    {"not granted by the manifest's `[grant] http`", WABBIT_HTTP_NOT_GRANTED, NOTHING},
    {"http request length required", WABBIT_HTTP_REQUEST, NOTHING},
    {"http request body size", WABBIT_HTTP_TOO_LARGE, SIZE},
    {"http request method invalid", WABBIT_HTTP_REQUEST, NOTHING},
    {"http request uri invalid", WABBIT_HTTP_REQUEST, NOTHING},
    {"http request uri too long", WABBIT_HTTP_OTHER, NOTHING},
    {"http request header section size", WABBIT_HTTP_OTHER, SECTION},
    {"http request header size", WABBIT_HTTP_OTHER, OPT_FIELD},
    {"http request trailer section size", WABBIT_HTTP_OTHER, SECTION},
    {"http request trailer size", WABBIT_HTTP_OTHER, FIELD},
    {"http response incomplete", WABBIT_HTTP_OTHER, NOTHING},
    {"http response header section size", WABBIT_HTTP_TOO_LARGE, SECTION},
    {"http response header size", WABBIT_HTTP_OTHER, FIELD},
    {"http response body size", WABBIT_HTTP_TOO_LARGE, SIZE},
    {"http response trailer section size", WABBIT_HTTP_OTHER, SECTION},
    {"http response trailer size", WABBIT_HTTP_OTHER, FIELD},
    {"http response transfer coding", WABBIT_HTTP_OTHER, TEXT},
    {"http response content coding", WABBIT_HTTP_OTHER, TEXT},
    {"http response timeout", WABBIT_HTTP_TIMEOUT, NOTHING},
    {"http upgrade failed", WABBIT_HTTP_OTHER, NOTHING},
    {"http protocol error", WABBIT_HTTP_OTHER, NOTHING},
    {"loop detected", WABBIT_HTTP_OTHER, NOTHING},
    {"configuration error", WABBIT_HTTP_OTHER, NOTHING},
    {"internal error", WABBIT_HTTP_OTHER, TEXT},
};
_Static_assert(sizeof codes / sizeof *codes == 39, "error-code");

/* One exchange: who sends what, and where the answer goes. */
struct exchange {
  wabbit_call *call;
  const wabbit_request *request;
  wabbit_response *response;
};

static bool failed(const struct exchange *of, wabbit_http_error error, wabbit_str text) {
  wabbit_url url;
  /* Without path and query, which may hold what is nobody's business. */
  bool known = wabbit_url_parse(of->request->url, &url);
  wabbit_str place = {"", 0};
  if (known) place = wabbit_format(of->call, " %.*s://%.*s", WABBIT_ARG(url.scheme), WABBIT_ARG(url.authority));
  wabbit_fail(of->call, "%.*s%.*s: %.*s", WABBIT_ARG(of->request->method), WABBIT_ARG(place), WABBIT_ARG(text));
  *of->response = (wabbit_response){.error = error};
  return false;
}

static bool malformed(const struct exchange *of, const char *what) {
  return failed(of, WABBIT_HTTP_REQUEST, wabbit_format(of->call, "the request cannot be sent for %s", what));
}

static bool told(const struct exchange *of, const struct error_code *error) {
  if (error->code >= sizeof codes / sizeof *codes) return failed(of, WABBIT_HTTP_OTHER, wabbit_cstr("unknown error"));
  uint8_t carries = codes[error->code].carries;
  wabbit_opt_str more = {0};
  wabbit_opt_u64 size = {0};
  const struct field_size *field = NULL;
  if (carries == TEXT) more = error->text;
  else if (carries == ALERT) more = error->alert.message;
  else if (carries == SIZE) size = error->size;
  else if (carries == SECTION) size = (wabbit_opt_u64){error->section.some, error->section.value};
  else if (carries == FIELD) field = &error->field;
  else if (carries == OPT_FIELD && error->opt_field.some) field = &error->opt_field.value;
  if (field) more = field->name;
  if (more.some) wabbit_adopt(of->call, more.value.ptr, more.value.len);

  wabbit_str text = wabbit_cstr(codes[error->code].text);
  if (more.some) text = wabbit_format(of->call, "%.*s: %.*s", WABBIT_ARG(text), WABBIT_ARG(more.value));
  if (size.some) text = wabbit_format(of->call, "%.*s: %llu", WABBIT_ARG(text), (unsigned long long)size.value);
  return failed(of, (wabbit_http_error)codes[error->code].error, text);
}

/* ---- the request ---- */

/* Returns the fields' handle, or -1. */
static int32_t fields(const struct exchange *of) {
  const wabbit_request *request = of->request;
  int32_t fields = host_fields();
  bool has_length = false;
  for (size_t i = 0; i <= request->headers.len; i++) {
    wabbit_pair header;
    if (i < request->headers.len) header = request->headers.ptr[i];
    else if (request->body.len && !has_length)
      header = (wabbit_pair){wabbit_cstr("content-length"), wabbit_format(of->call, "%zu", request->body.len)};
    else break;
    wabbit_response named = {.headers = {&header, 1}};
    wabbit_str value;
    has_length = has_length || wabbit_response_header(&named, "content-length", &value);
    uint8_t result[2] = {1, 0};
    if (wabbit_utf8_prefix(header.name) == header.name.len)
      host_fields_append(fields, header.name.ptr, header.name.len, header.value.ptr, header.value.len, result);
    if (!result[0]) continue;
    host_fields_drop(fields);
    static const char *const why[] = {"invalid syntax", "forbidden", "immutable"};
    malformed(of, wabbit_format(of->call, "its header `%.*s` (%s)", WABBIT_ARG(header.name), why[result[1] % 3]).ptr);
    return -1;
  }
  return fields;
}

static bool set_up(const struct exchange *of, int32_t outgoing, const wabbit_url *url) {
  static const char *const methods[] = {"GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH"};
  enum { OTHER = sizeof methods / sizeof *methods };
  wabbit_str method = of->request->method;
  int32_t number = 0;
  while (number < OTHER && !wabbit_is(method, methods[number])) number++;
  if (wabbit_utf8_prefix(method) < method.len || host_request_set_method(outgoing, number, method.ptr, method.len))
    return malformed(of, "its method");
  if (host_request_set_scheme(outgoing, 1, wabbit_is(url->scheme, "https"), "", 0)) return malformed(of, "its scheme");
  if (host_request_set_authority(outgoing, 1, url->authority.ptr, url->authority.len))
    return malformed(of, "its host");
  wabbit_str path = url->path;
  if (*path.ptr == '?') path = wabbit_format(of->call, "/%.*s", WABBIT_ARG(path));
  if (host_request_set_path(outgoing, 1, path.ptr, path.len)) return malformed(of, "its path");
  return true;
}

static int32_t options(const wabbit_request *request) {
  uint64_t nanos = (uint64_t)request->timeout_ms * 1000000;
  int32_t options = host_options();
  /* A host that does not take it has limits of its own. */
  host_options_set_connect(options, 1, nanos);
  host_options_set_first_byte(options, 1, nanos);
  host_options_set_between_bytes(options, 1, nanos);
  return options;
}

/* A server that does not read on may have answered all the same. */
static void write_body(int32_t body, wabbit_str rest) {
  struct owned stream;
  host_body_write(body, &stream);
  if (stream.failed) return host_body_drop(body);
  int32_t ready = host_output_subscribe(stream.handle);
  struct written written = {0};
  while (rest.len && !written.failed) {
    struct room room;
    host_pollable_block(ready);
    host_output_room(stream.handle, &room);
    written = (struct written){room.failed, room.error};
    if (room.failed) break;
    size_t len = room.bytes < rest.len ? (size_t)room.bytes : rest.len;
    host_output_write(stream.handle, rest.ptr, len, &written);
    rest.ptr += len;
    rest.len -= len;
  }
  if (written.failed && !written.error.closed) host_error_drop(written.error.error);
  host_pollable_drop(ready);
  host_output_drop(stream.handle);
  if (written.failed) return host_body_drop(body);
  struct sent finished;
  host_body_finish(body, 0, 0, &finished);
}

/* ---- the response ---- */

static bool read_error(const struct exchange *of, int32_t error) {
  struct sent code;
  host_error_code(error, &code);
  wabbit_str text = {0};
  if (!code.case_) {
    host_error_text(error, &text);
    wabbit_adopt(of->call, text.ptr, text.len);
  }
  host_error_drop(error);
  return code.case_ ? told(of, &code.error) : failed(of, WABBIT_HTTP_OTHER, text);
}

/* Reads to the end. Only the first piece is not copied, where it is the last, too. */
static bool read_stream(const struct exchange *of, int32_t stream, wabbit_str *body) {
  char *all = NULL;
  size_t capacity = 0;
  for (;;) {
    struct piece piece;
    host_input_read(stream, PIECE_BYTES, &piece);
    if (piece.failed) return piece.error.closed || read_error(of, piece.error.error);
    wabbit_str bytes = piece.bytes;
    if (bytes.len == 0) continue;
    if (body->len == 0) {
      *body = bytes;
      wabbit_adopt(of->call, bytes.ptr, bytes.len);
      continue;
    }
    size_t len = body->len + bytes.len;
    if (len > capacity) {
      capacity = 2 * len > WABBIT_LARGE ? 2 * len : WABBIT_LARGE;
      bool first = !all;
      all = (char *)(first ? wabbit_alloc(of->call, capacity) : wabbit_resize(of->call, all, capacity));
      if (first) memcpy(all, body->ptr, body->len);
    }
    memcpy(all + body->len, bytes.ptr, bytes.len);
    wabbit_release(bytes.ptr, bytes.len);
    *body = (wabbit_str){all, len};
  }
}

static bool read_response(const struct exchange *of, int32_t incoming) {
  wabbit_response response = {.status = (uint16_t)host_response_status(incoming)};
  int32_t fields = host_response_headers(incoming);
  host_fields_entries(fields, &response.headers);
  wabbit_adopt_pairs(of->call, response.headers);
  host_fields_drop(fields);

  struct owned body, stream;
  host_response_consume(incoming, &body);
  bool read = !body.failed;
  if (read) {
    host_incoming_stream(body.handle, &stream);
    read = !stream.failed && read_stream(of, stream.handle, &response.body);
    if (!stream.failed) host_input_drop(stream.handle);
    host_incoming_drop(body.handle);
  }
  host_response_drop(incoming);
  if (body.failed || stream.failed) return failed(of, WABBIT_HTTP_OTHER, wabbit_cstr("the response has no body"));
  if (read) *of->response = response;
  return read;
}

bool wabbit_send(wabbit_call *call, const wabbit_request *request, wabbit_response *response) {
  struct exchange of = {call, request, response};
  wabbit_url url;
  *response = (wabbit_response){0};
  if (!wabbit_url_parse(request->url, &url)) return malformed(&of, "its URL");
  int32_t headers = fields(&of);
  if (headers < 0) return false;
  int32_t outgoing = host_request(headers);
  struct owned body = {.failed = 1};
  bool ready = set_up(&of, outgoing, &url);
  if (ready && request->body.len) {
    host_request_body(outgoing, &body);
    if (body.failed) ready = malformed(&of, "its body");
  }
  if (!ready) return host_request_drop(outgoing), false;

  struct sent sent;
  host_send(outgoing, request->timeout_ms > 0, request->timeout_ms ? options(request) : 0, &sent);
  if (sent.case_) {
    if (!body.failed) host_body_drop(body.handle);
    return told(&of, &sent.error);
  }
  if (!body.failed) write_body(body.handle, request->body);
  int32_t waiting = host_future_subscribe(sent.handle);
  host_pollable_block(waiting);
  host_pollable_drop(waiting);
  struct come come;
  host_future_get(sent.handle, &come);
  host_future_drop(sent.handle);
  if (!come.some || come.result.failed) return failed(&of, WABBIT_HTTP_OTHER, wabbit_cstr("there is no response"));
  if (come.result.sent.case_) return told(&of, &come.result.sent.error);
  return read_response(&of, come.result.sent.handle);
}

#endif
