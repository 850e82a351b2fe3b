// Does what the header `do` says: the same in every language, so that one table of cases tests them all.
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <wabbit.hpp>
#include <wabbit_json.hpp>

using wabbit::Delivery, wabbit::Outcome, wabbit::Publication, wabbit::Result;

namespace {

Result echo(const Delivery& delivery) {
  return wabbit::ack().publish(
      Publication(delivery.exchange, delivery.routing_key).forward(delivery.body).with(delivery.properties));
}

Result describe(const Delivery& delivery) {
  return wabbit::ack().publish(Publication("", "described")
                                   .text("queue=", delivery.queue, " exchange=", delivery.exchange, " key=",
                                         delivery.routing_key, " redelivered=", delivery.redelivered ? "true" : "false",
                                         " attempt=", std::to_string(delivery.attempt)));
}

Result many(const Delivery& delivery) {
  Outcome outcome = wabbit::ack();
  const auto* count = delivery.header<std::int64_t>("count");
  for (std::int64_t i = 0; count && i < *count; i++) {
    std::string number = std::to_string(i);
    outcome = std::move(outcome).publish(Publication("", "many." + number).text(number));
  }
  return outcome;
}

Result retry(const Delivery& delivery) {
  const auto* ms = delivery.header<std::int64_t>("ms");
  return ms ? wabbit::retry_after(std::chrono::milliseconds(*ms)) : wabbit::retry();
}

[[noreturn]] void trap() {
  std::fputs("planted bug\n", stderr);
  std::abort();
}

[[noreturn]] void loop() {
  for (volatile bool on = true; on;) {
  }
  std::abort();
}

[[noreturn]] void memory() {
  for (std::vector<std::unique_ptr<char[]>> blocks;;) {
    blocks.push_back(std::make_unique<char[]>(1 << 20));
    std::fill_n(blocks.back().get(), 1 << 20, 1);
  }
}

Result json(const Delivery& delivery) {
  WABBIT_TRY(std::string_view text, delivery.text());
  auto length = std::ranges::count_if(text, [](char c) { return (c & 0xc0) != 0x80; });
  return wabbit::ack().publish(Publication("", "json").json(wabbit::object({{"text", text}, {"length", length}})));
}

Result context() {
  bool left = wabbit::remaining().count() > 0;
  return wabbit::ack().publish(
      Publication("", "context").text("worker=", wabbit::worker(), " remaining=", left ? "true" : "false"));
}

Result churn() {
  for (int i = 0; i < 1000; i++) {
    std::string small(100, 'x');
    // So that the compiler does not leave it out.
    asm volatile("" : : "r"(small.data()) : "memory");
  }
  return wabbit::ack();
}

Result handle(const Delivery& delivery) {
  const auto* header = delivery.header<std::string>("do");
  std::string_view action = header ? std::string_view(*header) : "";
  if (action == "echo") return echo(delivery);
  if (action == "describe") return describe(delivery);
  if (action == "many") return many(delivery);
  if (action == "ack") return wabbit::ack();
  if (action == "requeue") return wabbit::requeue();
  if (action == "retry") return retry(delivery);
  if (action == "dead-letter") return wabbit::dead_letter(std::string(delivery.body));
  if (action == "error") return wabbit::fail(std::string(delivery.body));
  if (action == "trap") trap();
  if (action == "loop") loop();
  if (action == "memory") memory();
  if (action == "json") return json(delivery);
  if (action == "context") return context();
  if (action == "churn") return churn();
  if (action == "log") {
    wabbit::log(delivery.body);
    return wabbit::ack();
  }
  return wabbit::dead_letter(wabbit::concat("unknown: ", action));
}

}  // namespace

WABBIT_HANDLER(handle)
