/* Does what the header `do` says: the same in every language, so that one table of cases tests them all. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <wabbit.h>
#include <wabbit_config.h>
#include <wabbit_http.h>
#include <wabbit_json.h>
#include <wabbit_keyvalue.h>

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

/* The text of a header, with a zero behind it. */
static wabbit_str header(wabbit_call *call, const wabbit_delivery *delivery, const char *name) {
  wabbit_str text = {"", 0};
  wabbit_as_text(wabbit_get_header(delivery, name), &text);
  return wabbit_format(call, "%.*s", WABBIT_ARG(text));
}

static void setting(wabbit_call *call, const wabbit_delivery *delivery) {
  wabbit_str value = wabbit_cstr("none");
  wabbit_setting(call, header(call, delivery, "name").ptr, &value);
  wabbit_publish(call, "", "setting", value);
  wabbit_ack(call);
}

static void count(wabbit_call *call, const wabbit_delivery *delivery) {
  wabbit_str key = header(call, delivery, "key");
  wabbit_store store;
  int64_t by = 0;
  uint64_t sum;
  wabbit_opt_str value;
  wabbit_as_integer(wabbit_get_header(delivery, "by"), &by);
  if (!wabbit_open_store(call, "default", &store)) return;
  if (!wabbit_store_increment(call, store, key, (uint64_t)by, &sum)) return;
  if (!wabbit_store_get(call, store, key, &value)) return;
  wabbit_str text = wabbit_format(call, "%llu/%.*s", (unsigned long long)sum, WABBIT_ARG(value.value));
  wabbit_publish(call, "", "count", text);
  wabbit_ack(call);
}

static void keep(wabbit_call *call, const wabbit_delivery *delivery) {
  wabbit_str key = header(call, delivery, "key");
  wabbit_store store;
  wabbit_opt_str value;
  bool exists;
  if (!wabbit_open_store(call, "default", &store)) return;
  if (!wabbit_store_set(call, store, key, delivery->body)) return;
  if (!wabbit_store_get(call, store, key, &value)) return;
  if (!wabbit_store_delete(call, store, key)) return;
  if (!wabbit_store_exists(call, store, key, &exists)) return;
  wabbit_publish(call, "", "kept", value.value);
  if (exists) wabbit_dead_letter(call, "still there");
  else wabbit_ack(call);
}

static void fetch(wabbit_call *call, const wabbit_delivery *delivery) {
  wabbit_request request = wabbit_request_of(header(call, delivery, "method").ptr, header(call, delivery, "url"));
  wabbit_request_header(call, &request, "x-test", wabbit_cstr("wabbit"));
  request.body = delivery->body;
  wabbit_response response;
  if (!wabbit_send(call, &request, &response)) {
    wabbit_dead_letter(call, "%.*s", WABBIT_ARG(wabbit_failure(call)));
    return;
  }
  wabbit_str answer = {"", 0};
  wabbit_response_header(&response, "x-answer", &answer);
  wabbit_str start = wabbit_format(call, "%u %.*s ", response.status, WABBIT_ARG(answer));
  char *text = wabbit_alloc(call, start.len + response.body.len);
  memcpy(text, start.ptr, start.len);
  if (response.body.len) memcpy(text + start.len, response.body.ptr, response.body.len);
  wabbit_publish(call, "", "fetched", (wabbit_str){text, start.len + response.body.len});
  wabbit_ack(call);
}

static void write_file(wabbit_call *call, const wabbit_delivery *delivery) {
  const char *path = header(call, delivery, "path").ptr;
  wabbit_str body = delivery->body;
  char *text = wabbit_alloc(call, body.len + 1);
  size_t len = 0;
  FILE *file = fopen(path, "wb");
  bool done = file && fwrite(body.ptr, 1, body.len, file) == body.len;
  if (file && fclose(file) != 0) done = false;
  if (done && (file = fopen(path, "rb"))) {
    len = fread(text, 1, body.len + 1, file);
    fclose(file);
    wabbit_publish(call, "", "written", (wabbit_str){text, len});
    wabbit_ack(call);
    return;
  }
  wabbit_dead_letter(call, "%s: %s", path, strerror(errno));
}

static const struct {
  const char *name;
  void (*action)(wabbit_call *call, const wabbit_delivery *delivery);
} actions[] = {
    {"echo", echo},       {"describe", describe},       {"many", many},   {"retry", retry}, {"memory", memory},
    {"log", log_body},    {"dead-letter", dead_letter}, {"error", error}, {"trap", trap},   {"loop", loop},
    {"context", context}, {"churn", churn},             {"json", json},
    {"setting", setting}, {"count", count},             {"keep", keep},   {"fetch", fetch}, {"write", write_file},
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
