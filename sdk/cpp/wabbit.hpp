// Handlers for wabbit in C++23: values over the C library in ../c, without exceptions and RTTI.
//
// A plugin has one function from a `Delivery` to a `Result`, and `WABBIT_HANDLER(function)`. README.md starts with a
// complete one. JSON is in wabbit_json.hpp.
#pragma once

#include "../c/wabbit.h"

#include <chrono>
#include <concepts>
#include <cstdint>
#include <expected>
#include <initializer_list>
#include <optional>
#include <ranges>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

namespace wabbit {

// The parts, one after the other.
template <std::convertible_to<std::string_view>... Parts>
std::string concat(const Parts&... parts) {
  std::string text;
  text.reserve((std::string_view(parts).size() + ... + 0));
  (text.append(std::string_view(parts)), ...);
  return text;
}

// Why a delivery could not be handled: a failure, unless it is a dead letter. `text` and `json` fail with dead letters,
// since a body that cannot be read will be no better the next time.
struct Error {
  std::string reason;
  // Whether the manifest's failure policy decides. Else the delivery goes to the dead-letter queue at once.
  bool retriable = true;

  explicit Error(std::string reason, bool retriable = true) : reason(std::move(reason)), retriable(retriable) {}
  bool operator==(const Error&) const = default;
};

// A failure, for `return wabbit::fail("…")`.
inline std::unexpected<Error> fail(std::string reason) { return std::unexpected(Error(std::move(reason))); }

struct Binary {
  std::string bytes;
  bool operator==(const Binary&) const = default;
};

// Seconds since the Unix epoch.
struct Timestamp {
  std::uint64_t seconds;
  bool operator==(const Timestamp&) const = default;
};

// JSON text: of a field, a decimal, nested table or array, in which numbers must be finite.
struct JsonText {
  std::string text;
  bool operator==(const JsonText&) const = default;
};

// AMQP's `void`: a name without a value.
struct Void {
  bool operator==(const Void&) const = default;
};

// One value of an AMQP field table, such as a header's. It is made of what it holds: `Field(1)`, `Field("acme")`.
struct Field {
  // In the contract's order, so that the index is the kind. An integer is received from one of any width, and sent with
  // 32 bits where they suffice; a double is received from a float too. Text is UTF-8.
  std::variant<bool, std::int64_t, double, std::string, Binary, Timestamp, JsonText, Void> value;

  Field(std::same_as<bool> auto boolean) : value(boolean) {}
  template <std::integral T>
    requires(!std::same_as<T, bool> && (sizeof(T) < 8 || std::signed_integral<T>))
  Field(T integer) : value(static_cast<std::int64_t>(integer)) {}
  Field(std::floating_point auto number) : value(static_cast<double>(number)) {}
  Field(std::string text) : value(std::move(text)) {}
  Field(std::string_view text) : value(std::string(text)) {}
  Field(const char* text) : value(std::string(text)) {}
  Field(Binary binary) : value(std::move(binary)) {}
  Field(Timestamp timestamp) : value(timestamp) {}
  Field(JsonText json) : value(std::move(json)) {}
  Field(Void nothing) : value(nothing) {}
  bool operator==(const Field&) const = default;

  // The value where it is of that type, else null: `field.as<std::string>()`.
  template <typename T>
  const T* as() const { return std::get_if<T>(&value); }
};

// The basic properties of AMQP 0-9-1. A publication's texts hold at most 255 bytes each.
struct Properties {
  std::optional<std::string> content_type;
  std::optional<std::string> content_encoding;
  // In the order of the message. Names are case-sensitive, and unique in a publication. Those that start with
  // `x-wabbit-` are the host's.
  std::vector<std::pair<std::string, Field>> headers;
  // Whether the message survives a restart of the broker, in a durable queue.
  bool persistent = false;
  std::optional<std::uint8_t> priority;
  std::optional<std::string> correlation_id;
  std::optional<std::string> reply_to;
  // Milliseconds after which the message expires in its queue.
  std::optional<std::uint32_t> expiration_ms;
  std::optional<std::string> message_id;
  // Seconds since the Unix epoch.
  std::optional<std::uint64_t> timestamp;
  // AMQP's `type`.
  std::optional<std::string> kind;
  // The broker refuses any other user than the host's own.
  std::optional<std::string> user_id;
  std::optional<std::string> app_id;

  bool operator==(const Properties&) const = default;

  // The header of that name, null where there is none.
  const Field* header(std::string_view name) const {
    for (const auto& [key, value] : headers)
      if (key == name) return &value;
    return nullptr;
  }

  // Sets a header, in the place of one of the same name.
  void set_header(std::string name, Field value) {
    std::erase_if(headers, [&](const auto& header) { return header.first == name; });
    headers.emplace_back(std::move(name), std::move(value));
  }
};

// A publication's body: bytes of its own, or a view of what lives as long as the call.
class Body {
  std::variant<std::string, std::string_view> bytes_;

 public:
  Body() = default;
  explicit Body(std::string owned) : bytes_(std::move(owned)) {}
  static Body of(std::string_view view) {
    Body body;
    body.bytes_ = view;
    return body;
  }

  std::string_view view() const {
    return std::visit([](const auto& bytes) -> std::string_view { return bytes; }, bytes_);
  }
  bool operator==(const Body& other) const { return view() == other.view(); }
};

// A message to be published: `Publication("", "greetings").text("Hello!").persistent()`. It is transient by default.
struct Publication {
  // Empty is the default exchange, which routes to the queue that the routing key names.
  std::string exchange;
  std::string routing_key;
  Body body;
  Properties properties;

  Publication(std::string_view exchange, std::string_view routing_key) : exchange(exchange), routing_key(routing_key) {}
  bool operator==(const Publication&) const = default;

  // Text or bytes, which the publication owns.
  Publication text(std::string&& bytes) && { return body = Body(std::move(bytes)), std::move(*this); }
  // The parts, one after the other: `.text("Hello, ", name, "!")`.
  template <std::convertible_to<std::string_view>... Parts>
  Publication text(const Parts&... parts) && {
    return std::move(*this).text(concat(parts...));
  }
  // The delivery's body, or part of it, without copying it.
  Publication forward(std::string_view bytes) && { return body = Body::of(bytes), std::move(*this); }
  // JSON text, from `wabbit::object` and the like, with the content type `application/json`.
  Publication json(JsonText json) && {
    properties.content_type = "application/json";
    return std::move(*this).text(std::move(json.text));
  }
  Publication persistent() && { return properties.persistent = true, std::move(*this); }
  Publication content_type(std::string type) && {
    return properties.content_type = std::move(type), std::move(*this);
  }
  Publication header(std::string name, Field value) && {
    return properties.set_header(std::move(name), std::move(value)), std::move(*this);
  }
  Publication with(Properties all) && { return properties = std::move(all), std::move(*this); }
};

class Json;

// A message as the broker delivered it. Tests make their own: `wabbit::Delivery{.body = "Ada"}`.
struct Delivery {
  // Whatever it is. It lives as long as the call, so that a publication may `forward` it.
  std::string_view body = {};
  Properties properties = {};
  // The exchange that it was published to. Empty is the default exchange.
  std::string exchange = {};
  std::string routing_key = {};
  // The queue that it was consumed from.
  std::string queue = {};
  // Whether the broker may have delivered it before.
  bool redelivered = false;
  // 1 on the first try, and one more for each recorded failure.
  std::uint32_t attempt = 1;

  // The body as UTF-8. Where it is not, an error that is a dead letter.
  std::expected<std::string_view, Error> text() const {
    std::size_t valid = wabbit_utf8_prefix({body.data(), body.size()});
    if (valid == body.size()) return body;
    return std::unexpected(
        Error("the body is not UTF-8 text: an invalid sequence at byte " + std::to_string(valid), false));
  }

  // The body as JSON. Where it is not, an error that is a dead letter. Defined in wabbit_json.hpp.
  std::expected<Json, Error> json() const;

  // The header of that name, null where there is none.
  const Field* header(std::string_view name) const { return properties.header(name); }

  // The header where it is of that type, else null: `delivery.header<std::string>("tenant")`.
  template <typename T>
  const T* header(std::string_view name) const {
    const Field* field = properties.header(name);
    return field ? field->as<T>() : nullptr;
  }

  // The answer to the delivery's `reply-to`, with its correlation id. Nothing where it has none, and so nobody waits.
  // The manifest grants replies as "reply".
  std::optional<Publication> reply(std::string text) const {
    if (!properties.reply_to) return std::nullopt;
    Publication reply = Publication("", *properties.reply_to).text(std::move(text));
    reply.properties.correlation_id = properties.correlation_id;
    return reply;
  }
};

struct Ack {
  bool operator==(const Ack&) const = default;
};
struct Requeue {
  bool operator==(const Requeue&) const = default;
};
struct Retry {
  // The manifest's backoff decides where none is given.
  std::optional<std::chrono::milliseconds> after = {};
  bool operator==(const Retry&) const = default;
};
struct DeadLetter {
  std::string reason;
  bool operator==(const DeadLetter&) const = default;
};

// What becomes of a delivery, and what is published before.
struct Outcome {
  std::variant<Ack, Requeue, Retry, DeadLetter> settlement;
  std::vector<Publication> publications = {};

  bool operator==(const Outcome&) const = default;

  Outcome publish(Publication publication) && {
    return publications.push_back(std::move(publication)), std::move(*this);
  }
  // Of `delivery.reply(…)`, which may be nothing.
  Outcome publish(std::optional<Publication> publication) && {
    if (publication) publications.push_back(*std::move(publication));
    return std::move(*this);
  }
};

// Done.
inline Outcome ack() { return {Ack{}}; }
// Back on the queue at once; after a pause where it came back before.
inline Outcome requeue() { return {Requeue{}}; }
// Again after the manifest's backoff.
inline Outcome retry() { return {Retry{}}; }
// Again after that time: 100 ms to 7 days.
inline Outcome retry_after(std::chrono::milliseconds time) { return {Retry{time}}; }
// Never again: to the dead-letter queue, with this reason.
inline Outcome dead_letter(std::string reason) { return {DeadLetter{std::move(reason)}}; }

// What a handler returns.
using Result = std::expected<Outcome, Error>;

// Writes the parts as a line to the host's log, at once.
template <std::convertible_to<std::string_view>... Parts>
void log(const Parts&... parts) {
  std::string line = concat(parts...);
  wabbit_log("%.*s", static_cast<int>(line.size()), line.data());
}

// The worker's name, which is its manifest's. In native tests it is `test`.
inline std::string worker() {
  wabbit_call* call = wabbit_call_new();
  wabbit_str name = wabbit_worker(call);
  std::string copy(name.ptr, name.len);
  wabbit_call_free(call);
  return copy;
}

// The time until the host ends this call. In native tests 5 seconds.
inline std::chrono::milliseconds remaining() { return std::chrono::milliseconds(wabbit_remaining_ms()); }

}  // namespace wabbit

#include "wabbit_edge.hpp"

// Makes a function `wabbit::Result function(const wabbit::Delivery&)` the plugin's handler.
#define WABBIT_HANDLER(function)                                                              \
  extern "C" void wabbit_handle(wabbit_call* call, const wabbit_delivery* delivery) {         \
    wabbit::edge::run(call, *delivery, function);                                             \
  }

// Takes the value of an expected, or returns its error from the handler: `WABBIT_TRY(auto name, delivery.text());`
#define WABBIT_TRY(declaration, expression) WABBIT_TRY_AS(declaration, expression, WABBIT_JOIN(wabbit_try_, __LINE__))
#define WABBIT_TRY_AS(declaration, expression, name)             \
  auto&& name = expression;                                      \
  if (!name) return std::unexpected(std::move(name).error());    \
  declaration = *std::move(name)
// The same of an expected without a value: `WABBIT_CHECK(store.set("key", "value"));`
#define WABBIT_CHECK(expression)                                                                      \
  do {                                                                                                \
    if (auto&& wabbit_checked = expression; !wabbit_checked)                                          \
      return std::unexpected(std::move(wabbit_checked).error());                                      \
  } while (false)
#define WABBIT_JOIN(a, b) WABBIT_JOIN_(a, b)
#define WABBIT_JOIN_(a, b) a##b
