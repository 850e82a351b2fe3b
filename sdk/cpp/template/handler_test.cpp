// Tests of {{name}}, run natively: `{{sdk}}/cpp/test .` in this folder.
#undef NDEBUG
#include <cassert>
#include <wabbit.hpp>

wabbit::Result handle(const wabbit::Delivery& delivery);

static void ada_is_greeted() {
  auto greeting = wabbit::Publication("", "greetings").text("Hello, Ada!");
  assert(handle({.body = "Ada"}) == wabbit::ack().publish(greeting));
}

static void an_empty_body_is_dead_lettered() {
  assert(handle({.body = ""}) == wabbit::dead_letter("there is nobody to greet"));
}

int main() {
  ada_is_greeted();
  an_empty_body_is_dead_lettered();
}
