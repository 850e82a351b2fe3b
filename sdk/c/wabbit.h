/* Handlers for wabbit in C.
 *
 * A plugin defines one function, `wabbit_handle`. It settles the delivery that it is given (`wabbit_ack`,
 * `wabbit_retry`, …) and may publish; README.md starts with a complete one.
 *
 * The types are laid out as the contract's canonical ABI has them on wasm32 (wabbit_abi.c asserts it), so that nothing
 * is converted at the edge: a handler reads what the host wrote, and the host reads what a publication points to.
 */
#ifndef WABBIT_H
#define WABBIT_H

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#if defined(__GNUC__)
#define WABBIT_PRINTF(string, first) __attribute__((format(printf, string, first)))
#else
#define WABBIT_PRINTF(string, first)
#endif

/* ---- values ---- */

/* Text or bytes in memory that belongs to somebody else. No zero ends it: print it with `%.*s` and `WABBIT_ARG`. */
typedef struct wabbit_str {
  const char *ptr;
  size_t len;
} wabbit_str;

#define WABBIT_ARG(str) (int)(str).len, (str).ptr

/* Values that may be absent: `value` counts only where `some` is true. An empty text is not an absent one. */
typedef struct wabbit_opt_str {
  bool some;
  wabbit_str value;
} wabbit_opt_str;

/* Several of them. */
typedef struct wabbit_strs {
  wabbit_str *ptr;
  size_t len;
} wabbit_strs;

/* Names with values, such as the manifest's settings and HTTP's headers. */
typedef struct wabbit_pair {
  wabbit_str name, value;
} wabbit_pair;

typedef struct wabbit_pairs {
  wabbit_pair *ptr;
  size_t len;
} wabbit_pairs;

typedef struct wabbit_opt_u8 {
  bool some;
  uint8_t value;
} wabbit_opt_u8;

typedef struct wabbit_opt_u32 {
  bool some;
  uint32_t value;
} wabbit_opt_u32;

typedef struct wabbit_opt_u64 {
  bool some;
  uint64_t value;
} wabbit_opt_u64;

/* The kinds of a field, by number as in the contract. */
enum {
  WABBIT_BOOLEAN,
  /* Received from an integer of any width. Sent with 32 bits where they suffice, else with 64. */
  WABBIT_INTEGER,
  /* Received from a float or a double. Sent as a double. */
  WABBIT_FLOAT,
  /* A long string that is UTF-8. */
  WABBIT_TEXT,
  /* A byte array, or a long string that is not UTF-8. */
  WABBIT_BINARY,
  /* Seconds since the Unix epoch. */
  WABBIT_TIMESTAMP,
  /* A decimal, nested table or array, as JSON text. Numbers in it must be finite. */
  WABBIT_JSON,
  /* AMQP's `void`: a name without a value. */
  WABBIT_VOID,
};

/* One value of an AMQP field table, such as a header's. `wabbit_text_field` and its like make one. */
typedef struct wabbit_field {
  uint8_t kind;
  union {
    bool boolean;
    int64_t integer;
    double number; /* of WABBIT_FLOAT */
    wabbit_str str; /* of WABBIT_TEXT, WABBIT_BINARY and WABBIT_JSON */
    uint64_t timestamp;
  };
} wabbit_field;

typedef struct wabbit_header {
  wabbit_str name;
  wabbit_field value;
} wabbit_header;

/* In the order of the message. */
typedef struct wabbit_headers {
  wabbit_header *ptr;
  size_t len;
} wabbit_headers;

/* The basic properties of AMQP 0-9-1. All zeros are absent. A publication's texts hold at most 255 bytes each. */
typedef struct wabbit_properties {
  wabbit_opt_str content_type;
  wabbit_opt_str content_encoding;
  /* Names are case-sensitive, and unique in a publication. Those that start with `x-wabbit-` are the host's. */
  wabbit_headers headers;
  /* Whether the message survives a restart of the broker, in a durable queue. */
  bool persistent;
  wabbit_opt_u8 priority;
  wabbit_opt_str correlation_id;
  wabbit_opt_str reply_to;
  /* Milliseconds after which the message expires in its queue. */
  wabbit_opt_u32 expiration_ms;
  wabbit_opt_str message_id;
  /* Seconds since the Unix epoch. */
  wabbit_opt_u64 timestamp;
  /* AMQP's `type`, which is a keyword in many languages. */
  wabbit_opt_str kind;
  /* The broker refuses any other user than the host's own. */
  wabbit_opt_str user_id;
  wabbit_opt_str app_id;
} wabbit_properties;

/* A message as the broker delivered it. */
typedef struct wabbit_delivery {
  wabbit_str body;
  wabbit_properties properties;
  /* The exchange that it was published to. Empty is the default exchange. */
  wabbit_str exchange;
  wabbit_str routing_key;
  /* The queue that it was consumed from. */
  wabbit_str queue;
  /* Whether the broker may have delivered it before. */
  bool redelivered;
  /* 1 on the first try, and one more for each recorded failure. */
  uint32_t attempt;
} wabbit_delivery;

/* A message to be published. What it points to has to live until the call is over: see `wabbit_publish`. */
typedef struct wabbit_publication {
  wabbit_str exchange;
  wabbit_str routing_key;
  wabbit_str body;
  wabbit_properties properties;
} wabbit_publication;

/* One call of the handler: what it answers, and the memory that lives as long as the call. */
typedef struct wabbit_call wabbit_call;

/* The handler. The plugin defines it. A delivery that it leaves unsettled has failed. */
void wabbit_handle(wabbit_call *call, const wabbit_delivery *delivery);

/* ---- settling: the last of these counts ---- */

/* Done. */
void wabbit_ack(wabbit_call *call);
/* Back on the queue at once; after a pause where it came back before. */
void wabbit_requeue(wabbit_call *call);
/* Again after the manifest's backoff. */
void wabbit_retry(wabbit_call *call);
/* Again after so many milliseconds: 100 to 604,800,000, which is 7 days. */
void wabbit_retry_after(wabbit_call *call, uint32_t ms);
/* Never again: to the dead-letter queue, with this reason. */
void wabbit_dead_letter(wabbit_call *call, const char *format, ...) WABBIT_PRINTF(2, 3);
/* A failure, for this reason: nothing is published, and the manifest's failure policy decides about retries. */
void wabbit_fail(wabbit_call *call, const char *format, ...) WABBIT_PRINTF(2, 3);

/* Why the delivery has failed, as things stand; empty where it has not. For what the host was asked and did not do
 * (wabbit_keyvalue.h, wabbit_http.h): `wabbit_dead_letter(call, "%.*s", WABBIT_ARG(wabbit_failure(call)))`. */
wabbit_str wabbit_failure(wabbit_call *call);

/* ---- publishing ---- */

/* Publishes before the delivery is settled, whatever the settlement. The publication that is returned can be changed
 * until the handler returns; it is transient and has no properties.
 *
 * Nothing is copied, so that large bodies cost nothing. Exchange, routing key, body and properties may point to
 * literals, into the delivery, or to what `wabbit_format`, `wabbit_copy` and `wabbit_alloc` returned: not to a local
 * buffer, and not to what the handler frees. */
wabbit_publication *wabbit_publish(wabbit_call *call, const char *exchange, const char *routing_key, wabbit_str body);
/* The same, where exchange and routing key are not C strings. */
wabbit_publication *wabbit_publish_to(wabbit_call *call, wabbit_str exchange, wabbit_str routing_key, wabbit_str body);
/* Answers to the delivery's `reply-to`, with its correlation id. NULL, and nothing is published, where it has none.
 * The manifest grants replies as "reply". */
wabbit_publication *wabbit_reply(wabbit_call *call, const wabbit_delivery *delivery, wabbit_str body);

/* Sets a header, in the place of one of the same name. The name has to live until the call is over, too. */
void wabbit_set_header(wabbit_call *call, wabbit_publication *publication, const char *name, wabbit_field value);

wabbit_field wabbit_boolean_field(bool value);
wabbit_field wabbit_integer_field(int64_t value);
wabbit_field wabbit_float_field(double value);
wabbit_field wabbit_text_field(const char *value);
wabbit_field wabbit_str_field(wabbit_str value);
wabbit_field wabbit_binary_field(wabbit_str value);
wabbit_field wabbit_timestamp_field(uint64_t seconds);
wabbit_field wabbit_json_field(wabbit_str json);
wabbit_field wabbit_void_field(void);

/* Properties that are there: `publication->properties.content_type = wabbit_some("text/plain")`. */
wabbit_opt_str wabbit_some(const char *value);
wabbit_opt_str wabbit_some_str(wabbit_str value);
wabbit_opt_u8 wabbit_some_u8(uint8_t value);
wabbit_opt_u32 wabbit_some_u32(uint32_t value);
wabbit_opt_u64 wabbit_some_u64(uint64_t value);

/* ---- reading ---- */

/* The body as UTF-8. Where it is not, the delivery is dead-lettered with a reason that says so, and false returned. */
bool wabbit_body_text(wabbit_call *call, const wabbit_delivery *delivery, wabbit_str *text);

/* The header of that name, NULL where there is none. Names are case-sensitive. */
const wabbit_field *wabbit_get_header(const wabbit_delivery *delivery, const char *name);

/* The value of a field of that kind. False, with `value` untouched, where the field is another kind or NULL. */
bool wabbit_as_boolean(const wabbit_field *field, bool *value);
bool wabbit_as_integer(const wabbit_field *field, int64_t *value);
/* Of a float, or of an integer as the nearest float. */
bool wabbit_as_float(const wabbit_field *field, double *value);
bool wabbit_as_text(const wabbit_field *field, wabbit_str *value);
/* Of binary or text. */
bool wabbit_as_bytes(const wabbit_field *field, wabbit_str *value);
bool wabbit_as_timestamp(const wabbit_field *field, uint64_t *seconds);
bool wabbit_as_json(const wabbit_field *field, wabbit_str *json);

/* ---- text and memory ---- */

/* A C string, without its zero. */
wabbit_str wabbit_cstr(const char *text);
bool wabbit_is(wabbit_str str, const char *text);
/* How many bytes from the start are UTF-8: `str.len` where all are. */
size_t wabbit_utf8_prefix(wabbit_str str);

/* Memory that lives until the call is over, zeroed, aligned for anything. Never NULL: without memory the call traps. */
void *wabbit_alloc(wabbit_call *call, size_t size);
wabbit_str wabbit_copy(wabbit_call *call, wabbit_str str);
wabbit_str wabbit_format(wabbit_call *call, const char *format, ...) WABBIT_PRINTF(2, 3);
wabbit_str wabbit_vformat(wabbit_call *call, const char *format, va_list arguments);
/* Has `function` called with `argument` when the call is over. */
void wabbit_defer(wabbit_call *call, void (*function)(void *), void *argument);

/* ---- the host ---- */

/* Writes a line to the host's log, at once. `printf` and `fprintf(stderr, …)` do too; what stdout holds when the
 * handler returns is flushed, but lost where it traps. */
void wabbit_log(const char *format, ...) WABBIT_PRINTF(1, 2);
/* The worker's name, which is its manifest's. In native tests it is `test`. */
wabbit_str wabbit_worker(wabbit_call *call);
/* Milliseconds until the time limit. In native tests 5000. */
uint32_t wabbit_remaining_ms(void);

/* ---- the answer, for tests ---- */

enum { WABBIT_ACK, WABBIT_REQUEUE, WABBIT_RETRY, WABBIT_DEAD_LETTER };

typedef struct wabbit_settlement {
  uint8_t kind;
  union {
    wabbit_opt_u32 retry_ms;
    wabbit_str reason; /* of WABBIT_DEAD_LETTER */
  };
} wabbit_settlement;

typedef struct wabbit_publications {
  wabbit_publication *ptr;
  size_t len;
} wabbit_publications;

typedef struct wabbit_outcome {
  wabbit_settlement settlement;
  wabbit_publications publications;
} wabbit_outcome;

typedef struct wabbit_result {
  bool failed;
  union {
    wabbit_outcome outcome;
    wabbit_str error; /* where it failed */
  };
} wabbit_result;

/* A call, as the host makes one for each delivery. */
wabbit_call *wabbit_call_new(void);
void wabbit_call_free(wabbit_call *call);
/* What the handler answered. It lives as long as the call. */
const wabbit_result *wabbit_call_result(wabbit_call *call);
/* A first delivery of that body, empty otherwise. */
wabbit_delivery wabbit_delivery_of(const char *body);

#ifdef __cplusplus
}
#endif
#endif
