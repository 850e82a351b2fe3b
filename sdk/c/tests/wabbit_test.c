/* Tests of the library, run natively with the sanitizers: what handlers call, but for JSON. */
#undef NDEBUG
#include <assert.h>
#include <stdlib.h>
#include <string.h>
#include <wabbit.h>

static void (*handler)(wabbit_call *call, const wabbit_delivery *delivery);

void wabbit_handle(wabbit_call *call, const wabbit_delivery *delivery) { handler(call, delivery); }

static wabbit_str bytes(const char *text, size_t len) { return (wabbit_str){text, len}; }

static void a_delivery_left_alone_has_failed(void) {
  wabbit_call *call = wabbit_call_new();
  const wabbit_result *result = wabbit_call_result(call);
  assert(result->failed);
  assert(wabbit_is(result->error, "the handler returned without settling the delivery"));
  wabbit_call_free(call);
}

static void the_last_settlement_counts(void) {
  wabbit_call *call = wabbit_call_new();
  const wabbit_result *result = wabbit_call_result(call);
  const wabbit_settlement *settlement = &result->outcome.settlement;

  wabbit_fail(call, "no %s", "route");
  assert(result->failed && wabbit_is(result->error, "no route"));
  wabbit_retry_after(call, 500);
  assert(!result->failed && settlement->kind == WABBIT_RETRY);
  assert(settlement->retry_ms.some && settlement->retry_ms.value == 500);
  wabbit_retry(call);
  assert(settlement->kind == WABBIT_RETRY && !settlement->retry_ms.some);
  wabbit_dead_letter(call, "no. %d", 7);
  assert(settlement->kind == WABBIT_DEAD_LETTER && wabbit_is(settlement->reason, "no. 7"));
  wabbit_requeue(call);
  assert(settlement->kind == WABBIT_REQUEUE);
  wabbit_ack(call);
  assert(settlement->kind == WABBIT_ACK);
  wabbit_call_free(call);
}

static void reasons_are_made_utf8(void) {
  wabbit_call *call = wabbit_call_new();
  wabbit_fail(call, "\xff h\xc3\xa4 \xc3");
  assert(wabbit_is(wabbit_call_result(call)->error, "? h\xc3\xa4 ?"));
  wabbit_call_free(call);
}

static void publications_keep_their_order(void) {
  wabbit_call *call = wabbit_call_new();
  wabbit_publication *first = wabbit_publish(call, "a", "b", wabbit_cstr("0"));
  for (int i = 1; i < 100; i++)
    wabbit_publish_to(call, wabbit_cstr(""), wabbit_format(call, "key.%d", i), wabbit_format(call, "%d", i));
  /* The pointer is still good. */
  first->properties.persistent = true;
  wabbit_ack(call);

  const wabbit_publications *all = &wabbit_call_result(call)->outcome.publications;
  assert(all->len == 100);
  assert(wabbit_is(all->ptr[0].exchange, "a") && wabbit_is(all->ptr[0].routing_key, "b"));
  assert(all->ptr[0].properties.persistent && !all->ptr[0].properties.content_type.some);
  assert(wabbit_is(all->ptr[99].routing_key, "key.99") && wabbit_is(all->ptr[99].body, "99"));
  wabbit_call_free(call);
}

static void a_failure_publishes_nothing(void) {
  wabbit_call *call = wabbit_call_new();
  wabbit_publish(call, "", "q", wabbit_cstr(""));
  wabbit_fail(call, "down");
  assert(wabbit_call_result(call)->failed);
  wabbit_call_free(call);
}

static void a_reply_goes_where_it_is_awaited(void) {
  wabbit_call *call = wabbit_call_new();
  wabbit_delivery delivery = wabbit_delivery_of("ping");
  assert(wabbit_reply(call, &delivery, wabbit_cstr("pong")) == NULL);
  delivery.properties.reply_to = wabbit_some("answers");
  delivery.properties.correlation_id = wabbit_some("7");
  wabbit_publication *reply = wabbit_reply(call, &delivery, wabbit_cstr("pong"));
  assert(wabbit_is(reply->exchange, "") && wabbit_is(reply->routing_key, "answers"));
  assert(reply->properties.correlation_id.some && wabbit_is(reply->properties.correlation_id.value, "7"));
  wabbit_ack(call);
  assert(wabbit_call_result(call)->outcome.publications.len == 1);
  wabbit_call_free(call);
}

static void headers_are_found_by_name(void) {
  wabbit_header list[] = {
      {wabbit_cstr("Tenant"), wabbit_text_field("acme")},
      {wabbit_cstr("n"), wabbit_integer_field(INT64_MIN)},
  };
  wabbit_delivery delivery = wabbit_delivery_of("");
  delivery.properties.headers = (wabbit_headers){list, 2};
  wabbit_str text = {0};
  int64_t number = 1;
  assert(wabbit_as_text(wabbit_get_header(&delivery, "Tenant"), &text) && wabbit_is(text, "acme"));
  assert(wabbit_get_header(&delivery, "tenant") == NULL);
  assert(!wabbit_as_integer(wabbit_get_header(&delivery, "tenant"), &number) && number == 1);
  assert(!wabbit_as_integer(wabbit_get_header(&delivery, "Tenant"), &number) && number == 1);
  assert(wabbit_as_integer(wabbit_get_header(&delivery, "n"), &number) && number == INT64_MIN);
}

static void fields_answer_to_their_kind(void) {
  bool boolean;
  double number;
  uint64_t seconds;
  wabbit_str str;
  wabbit_field field = wabbit_boolean_field(true);
  assert(wabbit_as_boolean(&field, &boolean) && boolean && !wabbit_as_text(&field, &str));
  field = wabbit_float_field(1.5);
  assert(wabbit_as_float(&field, &number) && number == 1.5);
  field = wabbit_integer_field(2);
  assert(wabbit_as_float(&field, &number) && number == 2);
  field = wabbit_binary_field(bytes("\0\xff", 2));
  assert(wabbit_as_bytes(&field, &str) && str.len == 2 && !wabbit_as_text(&field, &str));
  field = wabbit_text_field("");
  assert(wabbit_as_bytes(&field, &str) && str.len == 0);
  field = wabbit_timestamp_field(UINT64_MAX);
  assert(wabbit_as_timestamp(&field, &seconds) && seconds == UINT64_MAX);
  field = wabbit_json_field(wabbit_cstr("[]"));
  assert(wabbit_as_json(&field, &str) && wabbit_is(str, "[]"));
  field = wabbit_void_field();
  assert(field.kind == WABBIT_VOID && !wabbit_as_json(&field, &str));
}

static void set_headers_leave_the_delivery_alone(void) {
  wabbit_call *call = wabbit_call_new();
  wabbit_header list[] = {{wabbit_cstr("a"), wabbit_integer_field(1)}, {wabbit_cstr("b"), wabbit_integer_field(2)}};
  wabbit_properties properties = {.headers = {list, 2}};
  wabbit_publication *publication = wabbit_publish(call, "", "q", wabbit_cstr(""));
  publication->properties = properties;
  wabbit_set_header(call, publication, "a", wabbit_text_field("new"));
  wabbit_set_header(call, publication, "c", wabbit_void_field());

  const wabbit_headers *headers = &publication->properties.headers;
  assert(headers->len == 3);
  assert(wabbit_is(headers->ptr[0].name, "b") && wabbit_is(headers->ptr[1].name, "a"));
  assert(wabbit_is(headers->ptr[1].value.str, "new") && wabbit_is(headers->ptr[2].name, "c"));
  assert(list[0].value.kind == WABBIT_INTEGER && list[0].value.integer == 1);
  wabbit_call_free(call);
}

static void only_utf8_is_text(void) {
  static const struct {
    const char *text;
    size_t valid;
  } cases[] = {
      {"", 0},           {"a", 1},
      {"h\xc3\xa4", 3},  {"\xe2\x82\xac", 3},
      {"\xf0\x9f\x98\x80", 4}, {"\xf4\x8f\xbf\xbf", 4},
      {"a\xff", 1},      {"\x80", 0},
      {"\xc0\x80", 0},   {"\xc1\xbf", 0},             /* overlong */
      {"\xe0\x9f\xbf", 0}, {"\xf0\x8f\xbf\xbf", 0},   /* overlong */
      {"\xed\xa0\x80", 0}, {"\xed\x9f\xbf", 3},       /* a surrogate, and what comes before them */
      {"\xf4\x90\x80\x80", 0}, {"\xf5\x80\x80\x80", 0}, /* beyond U+10FFFF */
      {"ab\xe2\x82", 2}, {"ab\xf0\x9f\x98", 2},       /* cut off */
      {"\xe2\x82z", 0},
      {"12345678\xff", 8}, {"1234567\xff", 7},       /* eight at a time */
      {"1234567h\xc3\xa4\xc3\xa4\xc3\xa4z\xff", 15},
  };
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
    assert(wabbit_utf8_prefix(wabbit_cstr(cases[i].text)) == cases[i].valid);
  assert(wabbit_utf8_prefix(bytes("a\0b", 3)) == 3);
}

static void a_body_is_read_as_text(void) {
  wabbit_call *call = wabbit_call_new();
  wabbit_str text = {0};
  wabbit_delivery delivery = wabbit_delivery_of("h\xc3\xa4llo");
  assert(wabbit_body_text(call, &delivery, &text) && wabbit_is(text, "h\xc3\xa4llo"));
  delivery.body = bytes("a\xff", 2);
  assert(!wabbit_body_text(call, &delivery, &text));
  const wabbit_settlement *settlement = &wabbit_call_result(call)->outcome.settlement;
  assert(settlement->kind == WABBIT_DEAD_LETTER);
  assert(wabbit_is(settlement->reason, "the body is not UTF-8 text: an invalid sequence at byte 1"));
  wabbit_call_free(call);
}

static int deferred;

static void defer(void *argument) { deferred += *(int *)argument; }

static void memory_lives_as_long_as_the_call(void) {
  wabbit_call *call = wabbit_call_new();
  int one = 1;
  wabbit_defer(call, defer, &one);
  /* The sanitizers tell whether these overlap, overrun or leak. */
  for (size_t size = 0; size < 3000; size += 7) {
    unsigned char *memory = wabbit_alloc(call, size);
    assert((uintptr_t)memory % _Alignof(max_align_t) == 0);
    for (size_t i = 0; i < size; i++) assert(memory[i] == 0);
    memset(memory, 0xff, size);
  }
  wabbit_str copy = wabbit_copy(call, bytes(NULL, 0));
  assert(copy.len == 0);
  assert(deferred == 0);
  wabbit_call_free(call);
  assert(deferred == 1);
}

static void acknowledge(wabbit_call *call, const wabbit_delivery *delivery) {
  wabbit_log("%.*s", WABBIT_ARG(delivery->body));
  wabbit_publish(call, "", "context", wabbit_worker(call));
  if (wabbit_remaining_ms() == 5000) wabbit_ack(call);
}

static void tests_have_a_context(void) {
  wabbit_call *call = wabbit_call_new();
  wabbit_delivery delivery = wabbit_delivery_of("the log works");
  handler = acknowledge;
  wabbit_handle(call, &delivery);
  const wabbit_result *result = wabbit_call_result(call);
  assert(!result->failed && wabbit_is(result->outcome.publications.ptr[0].body, "test"));
  wabbit_call_free(call);
}

int main(void) {
  a_delivery_left_alone_has_failed();
  the_last_settlement_counts();
  reasons_are_made_utf8();
  publications_keep_their_order();
  a_failure_publishes_nothing();
  a_reply_goes_where_it_is_awaited();
  headers_are_found_by_name();
  fields_answer_to_their_kind();
  set_headers_leave_the_delivery_alone();
  only_utf8_is_text();
  a_body_is_read_as_text();
  memory_lives_as_long_as_the_call();
  tests_have_a_context();
}
