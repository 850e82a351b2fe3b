/* {{name}}: greets whomever a message names. */
#include <wabbit.h>

void wabbit_handle(wabbit_call *call, const wabbit_delivery *delivery) {
  wabbit_str name;
  /* A body that is not UTF-8 goes to the dead-letter queue, with a reason that says so. */
  if (!wabbit_body_text(call, delivery, &name)) return;
  if (name.len == 0) {
    wabbit_dead_letter(call, "there is nobody to greet");
    return;
  }
  wabbit_log("greeting %.*s", WABBIT_ARG(name));
  wabbit_publish(call, "", "greetings", wabbit_format(call, "Hello, %.*s!", WABBIT_ARG(name)));
  wabbit_ack(call);
}
