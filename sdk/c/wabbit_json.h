/* JSON, as much as most handlers need: a reader that looks into the text where it is, and a writer.
 *
 * A text is checked once, by `wabbit_json_parse` or `wabbit_body_json`; values are views of it, found by searching.
 * That needs no memory, and suits bodies of which a few fields are read. For trees that are changed, vendor a library
 * such as cJSON or yyjson into the plugin's folder. */
#ifndef WABBIT_JSON_H
#define WABBIT_JSON_H

#include "wabbit.h"

#ifdef __cplusplus
extern "C" {
#endif

/* A value in a checked text. All zeros are no value, which is what a missing field is. */
typedef struct wabbit_json {
  wabbit_str text;
} wabbit_json;

typedef enum wabbit_json_type {
  WABBIT_JSON_MISSING,
  WABBIT_JSON_NULL,
  WABBIT_JSON_BOOL,
  WABBIT_JSON_NUMBER,
  WABBIT_JSON_STRING,
  WABBIT_JSON_ARRAY,
  WABBIT_JSON_OBJECT,
} wabbit_json_type;

/* What is wrong with a text, and where. Lines and columns count from 1, columns in bytes. */
typedef struct wabbit_json_error {
  const char *what;
  size_t line, column;
} wabbit_json_error;

/* ---- reading ---- */

/* Checks that all of a text is one JSON value (RFC 8259, UTF-8, at most 128 deep). `error` may be NULL. */
bool wabbit_json_parse(wabbit_str text, wabbit_json *value, wabbit_json_error *error);

wabbit_json_type wabbit_json_typeof(wabbit_json value);
/* The member of that name; the last one where there are several. Missing too where `object` is no object. */
wabbit_json wabbit_json_get(wabbit_json object, const char *name);

/* The values, where they are of that type: else false, with `result` untouched. */
bool wabbit_json_bool(wabbit_json value, bool *result);
/* A number without fraction and exponent that fits. */
bool wabbit_json_integer(wabbit_json value, int64_t *result);
/* Any number, as the nearest double. */
bool wabbit_json_double(wabbit_json value, double *result);
/* A string without its quotes and escapes. It may contain zeros. */
bool wabbit_json_string(wabbit_call *call, wabbit_json value, wabbit_str *result);

/* Goes through an array or an object: `wabbit_json_each each = {.of = value}; while (wabbit_json_next(&each)) …`. */
typedef struct wabbit_json_each {
  wabbit_json of;
  /* The current member. The key is a string, missing in an array. */
  wabbit_json key, value;
  size_t at;
} wabbit_json_each;

bool wabbit_json_next(wabbit_json_each *each);

/* ---- reading the body: where these return false, the delivery has been dead-lettered, with the reason ---- */

bool wabbit_body_json(wabbit_call *call, const wabbit_delivery *delivery, wabbit_json *value);
/* The member of that name and type. */
bool wabbit_need_string(wabbit_call *call, wabbit_json object, const char *name, wabbit_str *result);
bool wabbit_need_integer(wabbit_call *call, wabbit_json object, const char *name, int64_t *result);
bool wabbit_need_double(wabbit_call *call, wabbit_json object, const char *name, double *result);
bool wabbit_need_bool(wabbit_call *call, wabbit_json object, const char *name, bool *result);

/* ---- writing ---- */

/* Writes into the call's memory; commas come by themselves. */
typedef struct wabbit_json_writer {
  wabbit_call *call;
  char *ptr;
  size_t len, capacity;
  /* Whether a comma has to come before the next value. */
  bool comma;
} wabbit_json_writer;

wabbit_json_writer wabbit_json_write(wabbit_call *call);
void wabbit_json_begin_object(wabbit_json_writer *writer);
void wabbit_json_end_object(wabbit_json_writer *writer);
void wabbit_json_begin_array(wabbit_json_writer *writer);
void wabbit_json_end_array(wabbit_json_writer *writer);
/* Before each value of an object. */
void wabbit_json_key(wabbit_json_writer *writer, const char *name);
void wabbit_json_key_str(wabbit_json_writer *writer, wabbit_str name);
/* Bytes that are not UTF-8 become U+FFFD. */
void wabbit_json_put_string(wabbit_json_writer *writer, wabbit_str value);
void wabbit_json_put_integer(wabbit_json_writer *writer, int64_t value);
/* `null` where it is not finite. */
void wabbit_json_put_double(wabbit_json_writer *writer, double value);
void wabbit_json_put_bool(wabbit_json_writer *writer, bool value);
void wabbit_json_put_null(wabbit_json_writer *writer);
/* A value that was read, unchanged. */
void wabbit_json_put(wabbit_json_writer *writer, wabbit_json value);
/* What was written. */
wabbit_str wabbit_json_done(const wabbit_json_writer *writer);

/* Publishes what was written, with the content type `application/json`. */
wabbit_publication *wabbit_publish_json(wabbit_call *call, const char *exchange, const char *routing_key,
                                        const wabbit_json_writer *writer);

/* ---- for other memory than a call's: what these return is the length; they write to `out` unless it is NULL ---- */

/* A string without its quotes and escapes. */
size_t wabbit_json_unescape(wabbit_json string, char *out);
/* A text with quotes and escapes. Bytes that are not UTF-8 become U+FFFD. */
size_t wabbit_json_escape(wabbit_str text, char *out);
/* A number in the fewest digits that read as the same, `null` where it is not finite. At most 31 bytes and a zero. */
size_t wabbit_json_format_double(double value, char out[32]);

#ifdef __cplusplus
}
#endif
#endif
