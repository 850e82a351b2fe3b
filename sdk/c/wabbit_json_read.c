/* Reads JSON: one pass that checks a text, then searches in what is known to be good. */
#include "wabbit_json.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_DEPTH = 128 };

/* ---- checking ---- */

struct reader {
  const char *at, *end;
  const char *error;
};

static bool fail(struct reader *in, const char *what) {
  in->error = what;
  return false;
}

static bool is_space(char c) { return c == ' ' || c == '\n' || c == '\t' || c == '\r'; }

static bool is_digit(char c) { return c >= '0' && c <= '9'; }

static void skip_space(struct reader *in) {
  while (in->at < in->end && is_space(*in->at)) in->at++;
}

static bool take(struct reader *in, char c) { return in->at < in->end && *in->at == c && (in->at++, true); }

static int hex_digit(char c) {
  if (is_digit(c)) return c - '0';
  c |= 0x20;
  return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* The four digits of `\uXXXX`, -1 where they are not. */
static int32_t hex4(const char *at, const char *end) {
  if (end - at < 4) return -1;
  int32_t value = 0;
  for (int i = 0; i < 4; i++) {
    int digit = hex_digit(at[i]);
    if (digit < 0) return -1;
    value = value << 4 | digit;
  }
  return value;
}

static bool is_high_surrogate(int32_t c) { return c >= 0xd800 && c < 0xdc00; }

static bool is_low_surrogate(int32_t c) { return c >= 0xdc00 && c < 0xe000; }

/* After the backslash. A surrogate without its other half has no UTF-8, so that it is refused. */
static bool check_escape(struct reader *in) {
  if (in->at == in->end) return fail(in, "the string does not end");
  char c = *in->at++;
  if (c != 'u') return memchr("\"\\/bfnrt", c, 8) || fail(in, "unknown escape");
  int32_t unit = hex4(in->at, in->end);
  if (unit < 0) return fail(in, "four hexadecimal digits expected");
  in->at += 4;
  if (is_low_surrogate(unit)) return fail(in, "half a surrogate pair");
  if (!is_high_surrogate(unit)) return true;
  if (in->end - in->at < 6 || in->at[0] != '\\' || in->at[1] != 'u' || !is_low_surrogate(hex4(in->at + 2, in->end)))
    return fail(in, "half a surrogate pair");
  in->at += 6;
  return true;
}

static bool check_string(struct reader *in) {
  if (!take(in, '"')) return fail(in, "string expected");
  while (in->at < in->end) {
    unsigned char c = (unsigned char)*in->at++;
    if (c == '"') return true;
    if (c < 0x20) return in->at--, fail(in, "control character in a string");
    if (c == '\\' && !check_escape(in)) return false;
  }
  return fail(in, "the string does not end");
}

static bool check_digits(struct reader *in) {
  if (in->at == in->end || !is_digit(*in->at)) return fail(in, "digit expected");
  while (in->at < in->end && is_digit(*in->at)) in->at++;
  return true;
}

static bool check_number(struct reader *in) {
  take(in, '-');
  if (take(in, '0')) {
    if (in->at < in->end && is_digit(*in->at)) return fail(in, "a number starts with 0");
  } else if (!check_digits(in)) return false;
  if (take(in, '.') && !check_digits(in)) return false;
  if (take(in, 'e') || take(in, 'E')) {
    if (!take(in, '+')) take(in, '-');
    return check_digits(in);
  }
  return true;
}

static bool check_word(struct reader *in, const char *word) {
  size_t len = strlen(word);
  if ((size_t)(in->end - in->at) < len || memcmp(in->at, word, len) != 0) return fail(in, "value expected");
  in->at += len;
  return true;
}

static bool check_scalar(struct reader *in) {
  if (in->at == in->end) return fail(in, "value expected, not the end");
  switch (*in->at) {
    case '"': return check_string(in);
    case 't': return check_word(in, "true");
    case 'f': return check_word(in, "false");
    case 'n': return check_word(in, "null");
    case '-': return check_number(in);
    default: return is_digit(*in->at) ? check_number(in) : fail(in, "value expected");
  }
}

static bool check_key(struct reader *in) {
  skip_space(in);
  if (!check_string(in)) return false;
  skip_space(in);
  return take(in, ':') || fail(in, "`:` expected");
}

/* A loop, so that a deep text cannot overrun the stack. */
static bool check_value(struct reader *in) {
  char closing[MAX_DEPTH];
  int depth = 0;
  for (;;) {
    skip_space(in);
    char open = in->at < in->end ? *in->at : 0;
    if (open == '{' || open == '[') {
      if (depth == MAX_DEPTH) return fail(in, "nested too deeply");
      in->at++;
      closing[depth++] = open == '{' ? '}' : ']';
      skip_space(in);
      if (!take(in, closing[depth - 1])) {
        if (open == '{' && !check_key(in)) return false;
        continue;
      }
      depth--;
    } else if (!check_scalar(in)) return false;
    /* A value has ended, and perhaps what contains it. */
    for (;;) {
      if (depth == 0) return true;
      skip_space(in);
      if (take(in, ',')) {
        if (closing[depth - 1] == '}' && !check_key(in)) return false;
        break;
      }
      if (!take(in, closing[depth - 1]))
        return fail(in, closing[depth - 1] == '}' ? "`,` or `}` expected" : "`,` or `]` expected");
      depth--;
    }
  }
}

static bool check_text(struct reader *in) {
  const char *start = in->at;
  size_t valid = wabbit_utf8_prefix((wabbit_str){start, (size_t)(in->end - start)});
  if (start + valid != in->end) {
    in->at = start + valid;
    return fail(in, "not UTF-8");
  }
  if (!check_value(in)) return false;
  skip_space(in);
  return in->at == in->end || fail(in, "something follows the value");
}

bool wabbit_json_parse(wabbit_str text, wabbit_json *value, wabbit_json_error *error) {
  struct reader in = {.at = text.ptr, .end = text.ptr + text.len};
  if (!check_text(&in)) {
    if (error) {
      *error = (wabbit_json_error){.what = in.error, .line = 1, .column = 1};
      for (const char *c = text.ptr; c < in.at; c++) {
        error->column++;
        if (*c == '\n') error->line++, error->column = 1;
      }
    }
    return false;
  }
  while (is_space(*text.ptr)) text.ptr++, text.len--;
  while (is_space(text.ptr[text.len - 1])) text.len--;
  value->text = text;
  return true;
}

/* ---- searching: the text is known to be good ---- */

wabbit_json_type wabbit_json_typeof(wabbit_json value) {
  if (value.text.len == 0) return WABBIT_JSON_MISSING;
  switch (value.text.ptr[0]) {
    case '{': return WABBIT_JSON_OBJECT;
    case '[': return WABBIT_JSON_ARRAY;
    case '"': return WABBIT_JSON_STRING;
    case 't':
    case 'f': return WABBIT_JSON_BOOL;
    case 'n': return WABBIT_JSON_NULL;
    default: return WABBIT_JSON_NUMBER;
  }
}

/* The value that starts there. */
static wabbit_json value_at(const char *start, const char *end) {
  const char *at = start;
  int depth = 0;
  do {
    char c = *at++;
    if (c == '"') {
      for (; *at != '"'; at++)
        if (*at == '\\') at++;
      at++;
    } else if (c == '{' || c == '[') depth++;
    else if (c == '}' || c == ']') depth--;
    else if (depth == 0)
      while (at < end && !is_space(*at) && *at != ',' && *at != '}' && *at != ']') at++;
  } while (depth > 0);
  return (wabbit_json){{start, (size_t)(at - start)}};
}

bool wabbit_json_next(wabbit_json_each *each) {
  wabbit_json_type type = wabbit_json_typeof(each->of);
  if (type != WABBIT_JSON_ARRAY && type != WABBIT_JSON_OBJECT) return false;
  const char *start = each->of.text.ptr, *end = start + each->of.text.len;
  const char *at = start + each->at + (each->at == 0);
  while (is_space(*at) || *at == ',') at++;
  if (*at == '}' || *at == ']') return false;
  each->key = (wabbit_json){0};
  if (type == WABBIT_JSON_OBJECT) {
    each->key = value_at(at, end);
    at += each->key.text.len;
    while (is_space(*at) || *at == ':') at++;
  }
  each->value = value_at(at, end);
  each->at = (size_t)(at - start) + each->value.text.len;
  return true;
}

static bool key_is(wabbit_json key, const char *name, size_t len) {
  /* Without escapes the key stands there as it is; one with escapes is longer than what it means. */
  wabbit_str inner = {key.text.ptr + 1, key.text.len - 2};
  if (inner.len == len && memcmp(inner.ptr, name, len) == 0) return memchr(name, '\\', len) == NULL;
  if (inner.len < len || wabbit_json_unescape(key, NULL) != len) return false;
  char *plain = malloc(len + 1);
  if (!plain) abort();
  wabbit_json_unescape(key, plain);
  bool same = memcmp(plain, name, len) == 0;
  free(plain);
  return same;
}

wabbit_json wabbit_json_get(wabbit_json object, const char *name) {
  wabbit_json found = {0};
  if (wabbit_json_typeof(object) != WABBIT_JSON_OBJECT) return found;
  size_t len = strlen(name);
  wabbit_json_each each = {.of = object};
  while (wabbit_json_next(&each))
    if (key_is(each.key, name, len)) found = each.value;
  return found;
}

bool wabbit_json_bool(wabbit_json value, bool *result) {
  if (wabbit_json_typeof(value) != WABBIT_JSON_BOOL) return false;
  *result = value.text.ptr[0] == 't';
  return true;
}

bool wabbit_json_integer(wabbit_json value, int64_t *result) {
  if (wabbit_json_typeof(value) != WABBIT_JSON_NUMBER) return false;
  bool negative = value.text.ptr[0] == '-';
  uint64_t limit = negative ? (uint64_t)1 << 63 : INT64_MAX, sum = 0;
  for (size_t i = negative; i < value.text.len; i++) {
    char c = value.text.ptr[i];
    if (!is_digit(c)) return false;
    uint64_t digit = (uint64_t)(c - '0');
    if (sum > (limit - digit) / 10) return false;
    sum = sum * 10 + digit;
  }
  *result = negative ? (int64_t)(0 - sum) : (int64_t)sum;
  return true;
}

bool wabbit_json_double(wabbit_json value, double *result) {
  if (wabbit_json_typeof(value) != WABBIT_JSON_NUMBER) return false;
  /* strtod wants a zero at the end. */
  char small[64], *number = small;
  if (value.text.len >= sizeof small && !(number = malloc(value.text.len + 1))) abort();
  memcpy(number, value.text.ptr, value.text.len);
  number[value.text.len] = 0;
  *result = strtod(number, NULL);
  if (number != small) free(number);
  return true;
}

static size_t put_utf8(char *out, uint32_t c) {
  char bytes[4];
  size_t len = c < 0x80 ? 1 : c < 0x800 ? 2 : c < 0x10000 ? 3 : 4;
  static const unsigned char first[] = {0, 0, 0xc0, 0xe0, 0xf0};
  for (size_t i = len - 1; i > 0; i--, c >>= 6) bytes[i] = (char)(0x80 | (c & 0x3f));
  bytes[0] = (char)(first[len] | c);
  if (out) memcpy(out, bytes, len);
  return len;
}

size_t wabbit_json_unescape(wabbit_json string, char *out) {
  const char *at = string.text.ptr + 1, *end = string.text.ptr + string.text.len - 1;
  size_t len = 0;
  while (at < end) {
    const char *escape = memchr(at, '\\', (size_t)(end - at));
    size_t plain = (size_t)((escape ? escape : end) - at);
    if (out) memcpy(out + len, at, plain);
    len += plain;
    if (!escape) break;
    at = escape + 2;
    uint32_t c = (unsigned char)escape[1];
    switch (c) {
      case 'b': c = '\b'; break;
      case 'f': c = '\f'; break;
      case 'n': c = '\n'; break;
      case 'r': c = '\r'; break;
      case 't': c = '\t'; break;
      case 'u':
        c = (uint32_t)hex4(at, end);
        at += 4;
        if (is_high_surrogate((int32_t)c)) {
          c = 0x10000 + ((c - 0xd800) << 10) + ((uint32_t)hex4(at + 2, end) - 0xdc00);
          at += 6;
        }
        break;
    }
    len += put_utf8(out ? out + len : NULL, c);
  }
  return len;
}

bool wabbit_json_string(wabbit_call *call, wabbit_json value, wabbit_str *result) {
  if (wabbit_json_typeof(value) != WABBIT_JSON_STRING) return false;
  wabbit_str inner = {value.text.ptr + 1, value.text.len - 2};
  if (!inner.len || !memchr(inner.ptr, '\\', inner.len)) {
    *result = inner;
    return true;
  }
  char *text = wabbit_alloc(call, wabbit_json_unescape(value, NULL));
  *result = (wabbit_str){text, wabbit_json_unescape(value, text)};
  return true;
}

/* ---- what a handler needs, or else dead-letters ---- */

bool wabbit_body_json(wabbit_call *call, const wabbit_delivery *delivery, wabbit_json *value) {
  wabbit_json_error error;
  if (wabbit_json_parse(delivery->body, value, &error)) return true;
  wabbit_dead_letter(call, "the body is not JSON: %s at line %zu column %zu", error.what, error.line, error.column);
  return false;
}

static bool needed(wabbit_call *call, wabbit_json object, const char *name, bool found, const char *type) {
  if (found) return true;
  if (wabbit_json_typeof(wabbit_json_get(object, name)) == WABBIT_JSON_MISSING)
    wabbit_dead_letter(call, "the body is not the JSON expected: missing field `%s`", name);
  else wabbit_dead_letter(call, "the body is not the JSON expected: field `%s` is not %s", name, type);
  return false;
}

bool wabbit_need_string(wabbit_call *call, wabbit_json object, const char *name, wabbit_str *result) {
  return needed(call, object, name, wabbit_json_string(call, wabbit_json_get(object, name), result), "a string");
}

bool wabbit_need_integer(wabbit_call *call, wabbit_json object, const char *name, int64_t *result) {
  return needed(call, object, name, wabbit_json_integer(wabbit_json_get(object, name), result), "an integer");
}

bool wabbit_need_double(wabbit_call *call, wabbit_json object, const char *name, double *result) {
  return needed(call, object, name, wabbit_json_double(wabbit_json_get(object, name), result), "a number");
}

bool wabbit_need_bool(wabbit_call *call, wabbit_json object, const char *name, bool *result) {
  return needed(call, object, name, wabbit_json_bool(wabbit_json_get(object, name), result), "true or false");
}
