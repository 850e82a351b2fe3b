/* Does what the header `do` says: the same in every language, so that one table of cases tests them all. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <wabbit.h>
#include <wabbit_json.h>

static void echo(wabbit_call *call, const wabbit_delivery *delivery) {
  wabbit_publish_to(call, delivery->exchange, delivery->routing_key, delivery->body)->properties = delivery->properties;
  wabbit_ack(call);
}

static void describe(wabbit_call *call, const wabbit_delivery *delivery) {
  wabbit_str text = wabbit_format(
      call, "queue=%.*s exchange=%.*s key=%.*s redelivered=%s attempt=%lu", WABBIT_ARG(delivery->queue),
      WABBIT_ARG(delivery->exchange), WABBIT_ARG(delivery->routing_key), delivery->redelivered ? "true" : "false",
      (unsigned long)delivery->attempt);
  wabbit_publish(call, "", "described", text);
  wabbit_ack(call);
}

static void many(wabbit_call *call, const wabbit_delivery *delivery) {
  int64_t count = 0;
  wabbit_as_integer(wabbit_get_header(delivery, "count"), &count);
  for (int64_t i = 0; i < count; i++) {
    wabbit_str text = wabbit_format(call, "%lld", (long long)i);
    wabbit_publish_to(call, wabbit_cstr(""), wabbit_format(call, "many.%lld", (long long)i), text);
  }
  wabbit_ack(call);
}

static void retry(wabbit_call *call, const wabbit_delivery *delivery) {
  int64_t ms;
  if (wabbit_as_integer(wabbit_get_header(delivery, "ms"), &ms)) wabbit_retry_after(call, (uint32_t)ms);
  else wabbit_retry(call);
}

static void dead_letter(wabbit_call *call, const wabbit_delivery *delivery) {
  wabbit_dead_letter(call, "%.*s", WABBIT_ARG(delivery->body));
}

static void error(wabbit_call *call, const wabbit_delivery *delivery) {
  wabbit_fail(call, "%.*s", WABBIT_ARG(delivery->body));
}

static void trap(wabbit_call *call, const wabbit_delivery *delivery) {
  (void)call, (void)delivery;
  fputs("planted bug\n", stderr);
  abort();
}

static void loop(wabbit_call *call, const wabbit_delivery *delivery) {
  (void)call, (void)delivery;
  for (;;);
}

static void memory(wabbit_call *call, const wabbit_delivery *delivery) {
  (void)delivery;
  for (;;) memset(wabbit_alloc(call, 1 << 20), 1, 1 << 20);
}

static void log_body(wabbit_call *call, const wabbit_delivery *delivery) {
  wabbit_log("%.*s", WABBIT_ARG(delivery->body));
  wabbit_ack(call);
}

static void json(wabbit_call *call, const wabbit_delivery *delivery) {
  wabbit_str text;
  if (!wabbit_body_text(call, delivery, &text)) return;
  int64_t length = 0;
  for (size_t i = 0; i < text.len; i++) length += (text.ptr[i] & 0xc0) != 0x80;

  wabbit_json_writer out = wabbit_json_write(call);
  wabbit_json_begin_object(&out);
  wabbit_json_key(&out, "text");
  wabbit_json_put_string(&out, text);
  wabbit_json_key(&out, "length");
  wabbit_json_put_integer(&out, length);
  wabbit_json_end_object(&out);
  wabbit_publish_json(call, "", "json", &out);
  wabbit_ack(call);
}

static void context(wabbit_call *call, const wabbit_delivery *delivery) {
  (void)delivery;
  wabbit_str text = wabbit_format(call, "worker=%.*s remaining=%s", WABBIT_ARG(wabbit_worker(call)),
                                  wabbit_remaining_ms() > 0 ? "true" : "false");
  wabbit_publish(call, "", "context", text);
  wabbit_ack(call);
}

static void churn(wabbit_call *call, const wabbit_delivery *delivery) {
  (void)delivery;
  for (int i = 0; i < 1000; i++) {
    char *volatile small = malloc(50);
    free(small);
    wabbit_alloc(call, 50);
  }
  wabbit_ack(call);
}

static const struct {
  const char *name;
  void (*action)(wabbit_call *call, const wabbit_delivery *delivery);
} actions[] = {
    {"echo", echo},       {"describe", describe},       {"many", many},   {"retry", retry}, {"memory", memory},
    {"log", log_body},    {"dead-letter", dead_letter}, {"error", error}, {"trap", trap},   {"loop", loop},
    {"context", context}, {"churn", churn},             {"json", json},
};

void wabbit_handle(wabbit_call *call, const wabbit_delivery *delivery) {
  wabbit_str name = {"", 0};
  wabbit_as_text(wabbit_get_header(delivery, "do"), &name);
  for (size_t i = 0; i < sizeof actions / sizeof *actions; i++) {
    if (!wabbit_is(name, actions[i].name)) continue;
    actions[i].action(call, delivery);
    return;
  }
  if (wabbit_is(name, "ack")) wabbit_ack(call);
  else if (wabbit_is(name, "requeue")) wabbit_requeue(call);
  else wabbit_dead_letter(call, "unknown: %.*s", WABBIT_ARG(name));
}
