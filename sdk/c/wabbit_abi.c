/* The edge to the host: the contract's canonical ABI (wabbit:worker/handler@0.1.0), written by hand.
 *
 * A delivery has more than 16 flat values, so it comes as a pointer to a record that the host wrote into memory from
 * `cabi_realloc`, and so do its texts and lists. All of it is the handler's then. The answer is a pointer to a record
 * too, which the host reads before it calls `cabi_post_…`: there everything is freed, so that an instance that is used
 * again does not grow. */
#include "wabbit_call.h"

#ifndef __wasm__

wabbit_str wabbit_worker(wabbit_call *call) {
  (void)call;
  return wabbit_cstr("test");
}

uint32_t wabbit_remaining_ms(void) { return 5000; }

#else

#include <stdio.h>
#include <stdlib.h>

/* What the canonical ABI says of each record: fields in order, each aligned by its type. */
#define AT(type, field, offset) _Static_assert(offsetof(type, field) == (offset), #type "." #field)
#define SIZE(type, size, alignment) _Static_assert(sizeof(type) == (size) && _Alignof(type) == (alignment), #type)

SIZE(wabbit_str, 8, 4);
AT(wabbit_str, len, 4);
SIZE(wabbit_opt_str, 12, 4);
AT(wabbit_opt_str, value, 4);
SIZE(wabbit_opt_u8, 2, 1);
SIZE(wabbit_opt_u32, 8, 4);
SIZE(wabbit_opt_u64, 16, 8);
AT(wabbit_opt_u64, value, 8);
SIZE(wabbit_field, 16, 8);
AT(wabbit_field, integer, 8);
AT(wabbit_field, str, 8);
SIZE(wabbit_header, 24, 8);
AT(wabbit_header, value, 8);

SIZE(wabbit_properties, 136, 8);
AT(wabbit_properties, content_encoding, 12);
AT(wabbit_properties, headers, 24);
AT(wabbit_properties, persistent, 32);
AT(wabbit_properties, priority, 33);
AT(wabbit_properties, correlation_id, 36);
AT(wabbit_properties, reply_to, 48);
AT(wabbit_properties, expiration_ms, 60);
AT(wabbit_properties, message_id, 68);
AT(wabbit_properties, timestamp, 80);
AT(wabbit_properties, kind, 96);
AT(wabbit_properties, user_id, 108);
AT(wabbit_properties, app_id, 120);

SIZE(wabbit_delivery, 176, 8);
AT(wabbit_delivery, properties, 8);
AT(wabbit_delivery, exchange, 144);
AT(wabbit_delivery, routing_key, 152);
AT(wabbit_delivery, queue, 160);
AT(wabbit_delivery, redelivered, 168);
AT(wabbit_delivery, attempt, 172);

SIZE(wabbit_publication, 160, 8);
AT(wabbit_publication, routing_key, 8);
AT(wabbit_publication, body, 16);
AT(wabbit_publication, properties, 24);

SIZE(wabbit_settlement, 12, 4);
AT(wabbit_settlement, retry_ms, 4);
AT(wabbit_settlement, reason, 4);
SIZE(wabbit_outcome, 20, 4);
AT(wabbit_outcome, publications, 12);
SIZE(wabbit_result, 24, 4);
AT(wabbit_result, outcome, 4);
AT(wabbit_result, error, 4);

/* ---- imports: linked only where the handler uses them ---- */

__attribute__((import_module("wabbit:worker/context@0.1.0"), import_name("worker"))) void host_worker(wabbit_str *name);
__attribute__((import_module("wabbit:worker/context@0.1.0"), import_name("remaining-ms"))) uint32_t
host_remaining_ms(void);

void wabbit_release(const void *memory, size_t len) {
  /* An empty list points nowhere: see `cabi_realloc`. */
  if (len) free((void *)memory);
}

void wabbit_adopt(wabbit_call *call, const void *memory, size_t len) {
  if (len) wabbit_defer(call, free, (void *)memory);
}

void wabbit_adopt_pairs(wabbit_call *call, wabbit_pairs pairs) {
  for (size_t i = 0; i < pairs.len; i++) {
    wabbit_adopt(call, pairs.ptr[i].name.ptr, pairs.ptr[i].name.len);
    wabbit_adopt(call, pairs.ptr[i].value.ptr, pairs.ptr[i].value.len);
  }
  wabbit_adopt(call, pairs.ptr, pairs.len);
}

wabbit_str wabbit_worker(wabbit_call *call) {
  wabbit_str name;
  host_worker(&name);
  wabbit_adopt(call, name.ptr, name.len);
  return name;
}

uint32_t wabbit_remaining_ms(void) { return host_remaining_ms(); }

/* ---- exports ---- */

/* Memory for what the host passes, and for the state of the adapter between WASI's versions, which stays for good: it
 * cannot all be freed at once, and does not come from the call's own memory. */
__attribute__((export_name("cabi_realloc"))) void *cabi_realloc(void *old, size_t old_size, size_t alignment,
                                                                size_t size) {
  if (size == 0) {
    wabbit_release(old, old_size);
    return (void *)alignment;
  }
  /* malloc aligns for everything that the contract and the adapter have. */
  void *memory = alignment > _Alignof(max_align_t) ? NULL : old_size ? realloc(old, size) : malloc(size);
  if (!memory) abort();
  return memory;
}

static wabbit_call call;
static wabbit_delivery *delivered;

__attribute__((export_name("wabbit:worker/handler@0.1.0#handle"))) const wabbit_result *
wabbit_export_handle(wabbit_delivery *delivery) {
  delivered = delivery;
  call.result.failed = true;
  wabbit_handle(&call, delivery);
  /* Nothing else would flush what printf holds. Costs nothing where stdout is not used. */
  fflush(NULL);
  wabbit_call_return(&call);
  return wabbit_call_result(&call);
}

static void release_option(wabbit_opt_str text) {
  if (text.some) wabbit_release(text.value.ptr, text.value.len);
}

static void release_header(wabbit_header header) {
  wabbit_release(header.name.ptr, header.name.len);
  uint8_t kind = header.value.kind;
  if (kind == WABBIT_TEXT || kind == WABBIT_BINARY || kind == WABBIT_JSON)
    wabbit_release(header.value.str.ptr, header.value.str.len);
}

__attribute__((export_name("cabi_post_wabbit:worker/handler@0.1.0#handle"))) void
wabbit_export_done(const wabbit_result *result) {
  (void)result;
  wabbit_call_reset(&call);
  const wabbit_properties *properties = &delivered->properties;
  wabbit_release(delivered->body.ptr, delivered->body.len);
  wabbit_release(delivered->exchange.ptr, delivered->exchange.len);
  wabbit_release(delivered->routing_key.ptr, delivered->routing_key.len);
  wabbit_release(delivered->queue.ptr, delivered->queue.len);
  for (size_t i = 0; i < properties->headers.len; i++) release_header(properties->headers.ptr[i]);
  wabbit_release(properties->headers.ptr, properties->headers.len);
  release_option(properties->content_type);
  release_option(properties->content_encoding);
  release_option(properties->correlation_id);
  release_option(properties->reply_to);
  release_option(properties->message_id);
  release_option(properties->kind);
  release_option(properties->user_id);
  release_option(properties->app_id);
  free(delivered);
  delivered = NULL;
}

#endif
