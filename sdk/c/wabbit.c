/* What a handler calls to read a delivery and to answer it. Nothing here knows of wasm: see wabbit_abi.c. */
#include "wabbit.h"

#include "wabbit_call.h"

#include <stdalign.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* ---- the call's memory ---- */

/* Smaller pieces are cut from chunks; larger ones are blocks of their own, which can be resized. */
enum { CHUNK = 4096, ALIGNMENT = 16 };

struct block {
  alignas(ALIGNMENT) struct block *prev;
  struct block *next;
  alignas(ALIGNMENT) char memory[];
};

static struct block *with_memory(void *block) {
  /* Nothing can be answered without memory, and the host sees that memory was refused. */
  if (!block) abort();
  return (struct block *)block;
}

static struct block *add_block(wabbit_call *call, size_t size) {
  if (size > SIZE_MAX - sizeof(struct block)) abort();
  struct block *block = with_memory(malloc(sizeof(struct block) + size));
  block->prev = NULL;
  block->next = call->blocks;
  if (call->blocks) call->blocks->prev = block;
  call->blocks = block;
  return block;
}

void *wabbit_alloc(wabbit_call *call, size_t size) {
  if (size >= WABBIT_LARGE) return memset(add_block(call, size)->memory, 0, size);
  size_t rounded = size ? (size + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT : ALIGNMENT;
  if (rounded > call->chunk_left) {
    call->chunk = add_block(call, CHUNK)->memory;
    call->chunk_left = CHUNK;
  }
  void *memory = call->chunk;
  call->chunk += rounded;
  call->chunk_left -= rounded;
  return memset(memory, 0, size);
}

void *wabbit_resize(wabbit_call *call, void *memory, size_t size) {
  if (size > SIZE_MAX - sizeof(struct block)) abort();
  struct block *old = (struct block *)((char *)memory - offsetof(struct block, memory));
  struct block *block = with_memory(realloc(old, sizeof(struct block) + size));
  if (block->prev) block->prev->next = block;
  else call->blocks = block;
  if (block->next) block->next->prev = block;
  return block->memory;
}

static void add(wabbit_call *call, struct deferred **list, void (*function)(void *), void *argument) {
  struct deferred *deferred = (struct deferred *)wabbit_alloc(call, sizeof *deferred);
  *deferred = (struct deferred){.function = function, .argument = argument, .next = *list};
  *list = deferred;
}

void wabbit_defer(wabbit_call *call, void (*function)(void *), void *argument) {
  add(call, &call->deferred, function, argument);
}

void wabbit_at_return(wabbit_call *call, void (*function)(void *), void *argument) {
  add(call, &call->returning, function, argument);
}

void wabbit_call_return(wabbit_call *call) {
  for (struct deferred *each = call->returning; each; each = each->next) each->function(each->argument);
  call->returning = NULL;
}

void wabbit_call_reset(wabbit_call *call) {
  wabbit_call_return(call);
  for (struct deferred *each = call->deferred; each; each = each->next) each->function(each->argument);
  for (struct block *block = call->blocks, *next; block; block = next) {
    next = block->next;
    free(block);
  }
  *call = (wabbit_call){.result = {.failed = true}};
}

wabbit_call *wabbit_call_new(void) {
  wabbit_call *call = (wabbit_call *)calloc(1, sizeof *call);
  if (!call) abort();
  call->result.failed = true;
  return call;
}

void wabbit_call_free(wabbit_call *call) {
  wabbit_call_reset(call);
  free(call);
}

/* ---- text ---- */

wabbit_str wabbit_cstr(const char *text) { return (wabbit_str){text, strlen(text)}; }

bool wabbit_is(wabbit_str str, const char *text) {
  size_t len = strlen(text);
  return str.len == len && (len == 0 || memcmp(str.ptr, text, len) == 0);
}

/* How many bytes the first character takes, 0 where it is not UTF-8. Overlong forms, surrogates and what is beyond
 * U+10FFFF are told by the second byte. */
static size_t utf8_character(const unsigned char *at, size_t len) {
  unsigned char first = at[0], low = 0x80, high = 0xbf;
  size_t size;
  if (first < 0x80) return 1;
  else if (first < 0xc2) return 0;
  else if (first < 0xe0) size = 2;
  else if (first < 0xf0) size = 3;
  else if (first < 0xf5) size = 4;
  else return 0;
  if (first == 0xe0) low = 0xa0;
  else if (first == 0xed) high = 0x9f;
  else if (first == 0xf0) low = 0x90;
  else if (first == 0xf4) high = 0x8f;
  if (len < size || at[1] < low || at[1] > high) return 0;
  for (size_t i = 2; i < size; i++)
    if ((at[i] & 0xc0) != 0x80) return 0;
  return size;
}

size_t wabbit_utf8_prefix(wabbit_str str) {
  const unsigned char *bytes = (const unsigned char *)str.ptr;
  size_t at = 0;
  while (at < str.len) {
    /* Most text is ASCII, eight bytes of which are looked at together. */
    uint64_t eight;
    if (str.len - at >= sizeof eight) {
      memcpy(&eight, bytes + at, sizeof eight);
      if ((eight & 0x8080808080808080) == 0) {
        at += sizeof eight;
        continue;
      }
    }
    size_t size = utf8_character(bytes + at, str.len - at);
    if (size == 0) break;
    at += size;
  }
  return at;
}

wabbit_str wabbit_copy(wabbit_call *call, wabbit_str str) {
  char *copy = (char *)wabbit_alloc(call, str.len);
  if (str.len) memcpy(copy, str.ptr, str.len);
  return (wabbit_str){copy, str.len};
}

wabbit_str wabbit_vformat(wabbit_call *call, const char *format, va_list arguments) {
  va_list again;
  va_copy(again, arguments);
  int len = vsnprintf(NULL, 0, format, again);
  va_end(again);
  if (len < 0) abort();
  char *text = (char *)wabbit_alloc(call, (size_t)len + 1);
  vsnprintf(text, (size_t)len + 1, format, arguments);
  return (wabbit_str){text, (size_t)len};
}

wabbit_str wabbit_format(wabbit_call *call, const char *format, ...) {
  va_list arguments;
  va_start(arguments, format);
  wabbit_str text = wabbit_vformat(call, format, arguments);
  va_end(arguments);
  return text;
}

void wabbit_log(const char *format, ...) {
  wabbit_call call = {0};
  va_list arguments;
  va_start(arguments, format);
  wabbit_str text = wabbit_vformat(&call, format, arguments);
  va_end(arguments);
  /* The byte behind the text is there for its zero. One write, so that a line is not torn. */
  ((char *)text.ptr)[text.len] = '\n';
  for (size_t done = 0; done <= text.len;) {
    ssize_t written = write(STDOUT_FILENO, text.ptr + done, text.len + 1 - done);
    if (written <= 0) break;
    done += (size_t)written;
  }
  wabbit_call_reset(&call);
}

/* ---- settling ---- */

static void settle(wabbit_call *call, uint8_t kind) {
  memset(&call->result, 0, sizeof call->result);
  call->result.outcome.settlement.kind = kind;
}

void wabbit_ack(wabbit_call *call) { settle(call, WABBIT_ACK); }

void wabbit_requeue(wabbit_call *call) { settle(call, WABBIT_REQUEUE); }

void wabbit_retry(wabbit_call *call) { settle(call, WABBIT_RETRY); }

void wabbit_retry_after(wabbit_call *call, uint32_t ms) {
  settle(call, WABBIT_RETRY);
  call->result.outcome.settlement.retry_ms = wabbit_some_u32(ms);
}

/* A reason that is not UTF-8 could not be passed to the host, and would be lost with the call. */
static wabbit_str reason(wabbit_call *call, const char *format, va_list arguments) {
  wabbit_str text = wabbit_vformat(call, format, arguments);
  for (size_t at = 0;;) {
    at += wabbit_utf8_prefix((wabbit_str){text.ptr + at, text.len - at});
    if (at == text.len) return text;
    ((char *)text.ptr)[at] = '?';
  }
}

void wabbit_dead_letter(wabbit_call *call, const char *format, ...) {
  va_list arguments;
  va_start(arguments, format);
  wabbit_str why = reason(call, format, arguments);
  va_end(arguments);
  settle(call, WABBIT_DEAD_LETTER);
  call->result.outcome.settlement.reason = why;
}

void wabbit_fail(wabbit_call *call, const char *format, ...) {
  va_list arguments;
  va_start(arguments, format);
  wabbit_str why = reason(call, format, arguments);
  va_end(arguments);
  memset(&call->result, 0, sizeof call->result);
  call->result.failed = true;
  call->result.error = why;
}

wabbit_str wabbit_failure(wabbit_call *call) {
  return call->result.failed && call->result.error.ptr ? call->result.error : wabbit_cstr("");
}

/* ---- publishing ---- */

wabbit_publication *wabbit_publish_to(wabbit_call *call, wabbit_str exchange, wabbit_str routing_key, wabbit_str body) {
  struct pending *pending = (struct pending *)wabbit_alloc(call, sizeof *pending);
  pending->publication.exchange = exchange;
  pending->publication.routing_key = routing_key;
  pending->publication.body = body;
  if (call->last) call->last->next = pending;
  else call->first = pending;
  call->last = pending;
  call->pending++;
  return &pending->publication;
}

wabbit_publication *wabbit_publish(wabbit_call *call, const char *exchange, const char *routing_key, wabbit_str body) {
  return wabbit_publish_to(call, wabbit_cstr(exchange), wabbit_cstr(routing_key), body);
}

wabbit_publication *wabbit_reply(wabbit_call *call, const wabbit_delivery *delivery, wabbit_str body) {
  if (!delivery->properties.reply_to.some) return NULL;
  wabbit_publication *reply = wabbit_publish_to(call, wabbit_cstr(""), delivery->properties.reply_to.value, body);
  reply->properties.correlation_id = delivery->properties.correlation_id;
  return reply;
}

void wabbit_set_header(wabbit_call *call, wabbit_publication *publication, const char *name, wabbit_field value) {
  wabbit_headers *headers = &publication->properties.headers;
  /* A new list, since the old one may be the delivery's own. */
  wabbit_header *list = (wabbit_header *)wabbit_alloc(call, (headers->len + 1) * sizeof *list);
  size_t len = 0;
  for (size_t i = 0; i < headers->len; i++)
    if (!wabbit_is(headers->ptr[i].name, name)) list[len++] = headers->ptr[i];
  list[len++] = (wabbit_header){wabbit_cstr(name), value};
  *headers = (wabbit_headers){list, len};
}

const wabbit_result *wabbit_call_result(wabbit_call *call) {
  wabbit_result *result = &call->result;
  if (result->failed) {
    if (!result->error.ptr) result->error = wabbit_cstr("the handler returned without settling the delivery");
    return result;
  }
  wabbit_publication *list = (wabbit_publication *)wabbit_alloc(call, call->pending * sizeof *list);
  size_t len = 0;
  for (struct pending *each = call->first; each; each = each->next) list[len++] = each->publication;
  result->outcome.publications = (wabbit_publications){list, len};
  return result;
}

/* ---- fields and options ---- */

wabbit_field wabbit_boolean_field(bool value) { return (wabbit_field){.kind = WABBIT_BOOLEAN, .boolean = value}; }

wabbit_field wabbit_integer_field(int64_t value) { return (wabbit_field){.kind = WABBIT_INTEGER, .integer = value}; }

wabbit_field wabbit_float_field(double value) { return (wabbit_field){.kind = WABBIT_FLOAT, .number = value}; }

wabbit_field wabbit_text_field(const char *value) { return wabbit_str_field(wabbit_cstr(value)); }

wabbit_field wabbit_str_field(wabbit_str value) { return (wabbit_field){.kind = WABBIT_TEXT, .str = value}; }

wabbit_field wabbit_binary_field(wabbit_str value) { return (wabbit_field){.kind = WABBIT_BINARY, .str = value}; }

wabbit_field wabbit_timestamp_field(uint64_t seconds) {
  return (wabbit_field){.kind = WABBIT_TIMESTAMP, .timestamp = seconds};
}

wabbit_field wabbit_json_field(wabbit_str json) { return (wabbit_field){.kind = WABBIT_JSON, .str = json}; }

wabbit_field wabbit_void_field(void) { return (wabbit_field){.kind = WABBIT_VOID}; }

wabbit_opt_str wabbit_some(const char *value) { return wabbit_some_str(wabbit_cstr(value)); }

wabbit_opt_str wabbit_some_str(wabbit_str value) { return (wabbit_opt_str){true, value}; }

wabbit_opt_u8 wabbit_some_u8(uint8_t value) { return (wabbit_opt_u8){true, value}; }

wabbit_opt_u32 wabbit_some_u32(uint32_t value) { return (wabbit_opt_u32){true, value}; }

wabbit_opt_u64 wabbit_some_u64(uint64_t value) { return (wabbit_opt_u64){true, value}; }

/* ---- reading ---- */

wabbit_delivery wabbit_delivery_of(const char *body) {
  return (wabbit_delivery){.body = wabbit_cstr(body), .attempt = 1};
}

bool wabbit_body_text(wabbit_call *call, const wabbit_delivery *delivery, wabbit_str *text) {
  size_t valid = wabbit_utf8_prefix(delivery->body);
  if (valid == delivery->body.len) {
    *text = delivery->body;
    return true;
  }
  wabbit_dead_letter(call, "the body is not UTF-8 text: an invalid sequence at byte %zu", valid);
  return false;
}

const wabbit_field *wabbit_get_header(const wabbit_delivery *delivery, const char *name) {
  const wabbit_headers *headers = &delivery->properties.headers;
  for (size_t i = 0; i < headers->len; i++)
    if (wabbit_is(headers->ptr[i].name, name)) return &headers->ptr[i].value;
  return NULL;
}

static bool is(const wabbit_field *field, uint8_t kind) { return field && field->kind == kind; }

bool wabbit_as_boolean(const wabbit_field *field, bool *value) {
  return is(field, WABBIT_BOOLEAN) && (*value = field->boolean, true);
}

bool wabbit_as_integer(const wabbit_field *field, int64_t *value) {
  return is(field, WABBIT_INTEGER) && (*value = field->integer, true);
}

bool wabbit_as_float(const wabbit_field *field, double *value) {
  if (is(field, WABBIT_INTEGER)) *value = (double)field->integer;
  else if (is(field, WABBIT_FLOAT)) *value = field->number;
  else return false;
  return true;
}

bool wabbit_as_text(const wabbit_field *field, wabbit_str *value) {
  return is(field, WABBIT_TEXT) && (*value = field->str, true);
}

bool wabbit_as_bytes(const wabbit_field *field, wabbit_str *value) {
  return (is(field, WABBIT_BINARY) || is(field, WABBIT_TEXT)) && (*value = field->str, true);
}

bool wabbit_as_timestamp(const wabbit_field *field, uint64_t *seconds) {
  return is(field, WABBIT_TIMESTAMP) && (*seconds = field->timestamp, true);
}

bool wabbit_as_json(const wabbit_field *field, wabbit_str *json) {
  return is(field, WABBIT_JSON) && (*json = field->str, true);
}
