/* Tests of {{name}}, run natively: `{{sdk}}/c/test .` in this folder. */
#undef NDEBUG
#include <assert.h>
#include <wabbit.h>

static void ada_is_greeted(void) {
  wabbit_call *call = wabbit_call_new();
  wabbit_delivery delivery = wabbit_delivery_of("Ada");
  wabbit_handle(call, &delivery);

  const wabbit_result *result = wabbit_call_result(call);
  assert(!result->failed);
  assert(result->outcome.settlement.kind == WABBIT_ACK);
  assert(result->outcome.publications.len == 1);
  const wabbit_publication *greeting = &result->outcome.publications.ptr[0];
  assert(wabbit_is(greeting->exchange, ""));
  assert(wabbit_is(greeting->routing_key, "greetings"));
  assert(wabbit_is(greeting->body, "Hello, Ada!"));
  wabbit_call_free(call);
}

static void an_empty_body_is_dead_lettered(void) {
  wabbit_call *call = wabbit_call_new();
  wabbit_delivery delivery = wabbit_delivery_of("");
  wabbit_handle(call, &delivery);

  const wabbit_result *result = wabbit_call_result(call);
  assert(!result->failed);
  assert(result->outcome.settlement.kind == WABBIT_DEAD_LETTER);
  assert(wabbit_is(result->outcome.settlement.reason, "there is nobody to greet"));
  assert(result->outcome.publications.len == 0);
  wabbit_call_free(call);
}

int main(void) {
  ada_is_greeted();
  an_empty_body_is_dead_lettered();
}
