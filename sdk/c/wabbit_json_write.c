/* Writes JSON into the call's memory. */
#include "wabbit_json.h"

#include "wabbit_call.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

wabbit_json_writer wabbit_json_write(wabbit_call *call) {
  return (wabbit_json_writer){.call = call, .ptr = wabbit_alloc(call, WABBIT_LARGE), .capacity = WABBIT_LARGE};
}

static void reserve(wabbit_json_writer *out, size_t more) {
  if (more <= out->capacity - out->len) return;
  /* An eighth more than is needed: the memory of a large text is seldom moved, and little more than the text. */
  size_t needed = out->len + more;
  if (needed < more || needed > SIZE_MAX - needed / 8) abort();
  out->capacity = needed + needed / 8;
  out->ptr = wabbit_resize(out->call, out->ptr, out->capacity);
}

static void add(wabbit_json_writer *out, const char *text, size_t len) {
  reserve(out, len);
  if (len) memcpy(out->ptr + out->len, text, len);
  out->len += len;
}

static void before_value(wabbit_json_writer *out) {
  if (out->comma) add(out, ",", 1);
  out->comma = true;
}

static void open(wabbit_json_writer *out, const char *bracket) {
  before_value(out);
  add(out, bracket, 1);
  out->comma = false;
}

static void close(wabbit_json_writer *out, const char *bracket) {
  add(out, bracket, 1);
  out->comma = true;
}

void wabbit_json_begin_object(wabbit_json_writer *writer) { open(writer, "{"); }

void wabbit_json_end_object(wabbit_json_writer *writer) { close(writer, "}"); }

void wabbit_json_begin_array(wabbit_json_writer *writer) { open(writer, "["); }

void wabbit_json_end_array(wabbit_json_writer *writer) { close(writer, "]"); }

void wabbit_json_key(wabbit_json_writer *writer, const char *name) { wabbit_json_key_str(writer, wabbit_cstr(name)); }

void wabbit_json_key_str(wabbit_json_writer *writer, wabbit_str name) {
  wabbit_json_put_string(writer, name);
  add(writer, ":", 1);
  writer->comma = false;
}

/* One character that cannot stand for itself. */
static size_t escape_one(unsigned char c, char *out) {
  static const char hex[] = "0123456789abcdef", letters[] = "btn\0fr";
  char escape[6] = {'\\', (char)c, '0', '0', hex[c >> 4], hex[c & 15]};
  size_t len = 2;
  if (c < 0x20) {
    bool has_letter = c >= '\b' && c <= '\r' && c != '\v';
    escape[1] = has_letter ? letters[c - '\b'] : 'u';
    if (!has_letter) len = 6;
  }
  if (out) memcpy(out, escape, len);
  return len;
}

static size_t copy(const char *text, size_t len, char *out) {
  if (out && len) memcpy(out, text, len);
  return len;
}

size_t wabbit_json_escape(wabbit_str text, char *out) {
#define TO (out ? out + len : NULL)
  size_t len = 0;
  len += copy("\"", 1, TO);
  while (text.len) {
    size_t valid = wabbit_utf8_prefix(text), start = 0;
    for (size_t i = 0; i < valid; i++) {
      unsigned char c = (unsigned char)text.ptr[i];
      if (c >= 0x20 && c != '"' && c != '\\') continue;
      len += copy(text.ptr + start, i - start, TO);
      len += escape_one(c, TO);
      start = i + 1;
    }
    len += copy(text.ptr + start, valid - start, TO);
    if (valid < text.len) len += copy("\xef\xbf\xbd", 3, TO), valid++;
    text.ptr += valid;
    text.len -= valid;
  }
  len += copy("\"", 1, TO);
  return len;
#undef TO
}

size_t wabbit_json_format_double(double value, char out[32]) {
  if (!isfinite(value)) return copy("null", 5, out) - 1;
  int len = 0;
  for (int precision = 15; precision <= 17; precision++) {
    len = snprintf(out, 32, "%.*g", precision, value);
    if (strtod(out, NULL) == value) break;
  }
  return (size_t)len;
}

void wabbit_json_put_string(wabbit_json_writer *writer, wabbit_str value) {
  before_value(writer);
  reserve(writer, wabbit_json_escape(value, NULL));
  writer->len += wabbit_json_escape(value, writer->ptr + writer->len);
}

void wabbit_json_put_integer(wabbit_json_writer *writer, int64_t value) {
  char digits[24];
  before_value(writer);
  add(writer, digits, (size_t)snprintf(digits, sizeof digits, "%lld", (long long)value));
}

void wabbit_json_put_double(wabbit_json_writer *writer, double value) {
  char digits[32];
  before_value(writer);
  add(writer, digits, wabbit_json_format_double(value, digits));
}

void wabbit_json_put_bool(wabbit_json_writer *writer, bool value) {
  before_value(writer);
  add(writer, value ? "true" : "false", value ? 4 : 5);
}

void wabbit_json_put_null(wabbit_json_writer *writer) {
  before_value(writer);
  add(writer, "null", 4);
}

void wabbit_json_put(wabbit_json_writer *writer, wabbit_json value) {
  if (wabbit_json_typeof(value) == WABBIT_JSON_MISSING) {
    wabbit_json_put_null(writer);
    return;
  }
  before_value(writer);
  add(writer, value.text.ptr, value.text.len);
}

wabbit_str wabbit_json_done(const wabbit_json_writer *writer) { return (wabbit_str){writer->ptr, writer->len}; }

wabbit_publication *wabbit_publish_json(wabbit_call *call, const char *exchange, const char *routing_key,
                                        const wabbit_json_writer *writer) {
  wabbit_publication *publication = wabbit_publish(call, exchange, routing_key, wabbit_json_done(writer));
  publication->properties.content_type = wabbit_some("application/json");
  return publication;
}
