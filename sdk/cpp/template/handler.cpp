// {{name}}: greets whomever a message names.
#include <wabbit.hpp>

wabbit::Result handle(const wabbit::Delivery& delivery) {
  // A body that is not UTF-8 goes to the dead-letter queue, with a reason that says so.
  WABBIT_TRY(std::string_view name, delivery.text());
  if (name.empty()) return wabbit::dead_letter("there is nobody to greet");
  wabbit::log("greeting ", name);
  return wabbit::ack().publish(wabbit::Publication("", "greetings").text("Hello, ", name, "!"));
}

WABBIT_HANDLER(handle)
