// Does what the header `do` says: the same in every language, so that one table of cases tests them all.
#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <wabbit.hpp>
#include <wabbit_config.hpp>
#include <wabbit_http.hpp>
#include <wabbit_json.hpp>
#include <wabbit_keyvalue.hpp>

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

std::string header(const Delivery& delivery, std::string_view name) {
  const auto* text = delivery.header<std::string>(name);
  return text ? *text : "";
}

Result setting(const Delivery& delivery) {
  return wabbit::ack().publish(
      Publication("", "setting").text(wabbit::setting(header(delivery, "name")).value_or("none")));
}

Result count(const Delivery& delivery) {
  std::string key = header(delivery, "key");
  const auto* by = delivery.header<std::int64_t>("by");
  WABBIT_TRY(auto store, wabbit::Store::open("default"));
  WABBIT_TRY(auto sum, store.increment(key, by ? static_cast<std::uint64_t>(*by) : 0));
  WABBIT_TRY(auto value, store.get(key));
  return wabbit::ack().publish(Publication("", "count").text(std::to_string(sum), "/", value.value_or("")));
}

Result keep(const Delivery& delivery) {
  std::string key = header(delivery, "key");
  WABBIT_TRY(auto store, wabbit::Store::open("default"));
  WABBIT_CHECK(store.set(key, delivery.body));
  WABBIT_TRY(auto value, store.get(key));
  WABBIT_CHECK(store.erase(key));
  WABBIT_TRY(bool exists, store.contains(key));
  Outcome outcome = exists ? wabbit::dead_letter("still there") : wabbit::ack();
  return std::move(outcome).publish(Publication("", "kept").text(value.value_or("")));
}

Result fetch(const Delivery& delivery) {
  auto response = wabbit::http::Request(header(delivery, "method"), header(delivery, "url"))
                      .header("x-test", "wabbit")
                      .bytes(std::string(delivery.body))
                      .send();
  if (!response) return wabbit::dead_letter(response.error().reason);
  const std::string* answer = response->header("x-answer");
  return wabbit::ack().publish(Publication("", "fetched")
                                   .text(std::to_string(response->status), " ", answer ? *answer : "", " ",
                                         response->body));
}

Result write(const Delivery& delivery) {
  std::string path = header(delivery, "path"), text(delivery.body.size() + 1, '\0');
  std::FILE* file = std::fopen(path.c_str(), "wb");
  bool done = file && std::fwrite(delivery.body.data(), 1, delivery.body.size(), file) == delivery.body.size();
  if (file && std::fclose(file) != 0) done = false;
  file = done ? std::fopen(path.c_str(), "rb") : nullptr;
  if (!file) return wabbit::dead_letter(path + ": " + std::strerror(errno));
  text.resize(std::fread(text.data(), 1, text.size(), file));
  std::fclose(file);
  return wabbit::ack().publish(Publication("", "written").text(std::move(text)));
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
  if (action == "setting") return setting(delivery);
  if (action == "count") return count(delivery);
  if (action == "keep") return keep(delivery);
  if (action == "fetch") return fetch(delivery);
  if (action == "write") return write(delivery);
  if (action == "log") {
    wabbit::log(delivery.body);
    return wabbit::ack();
  }
  return wabbit::dead_letter(wabbit::concat("unknown: ", action));
}

}  // namespace

WABBIT_HANDLER(handle)
