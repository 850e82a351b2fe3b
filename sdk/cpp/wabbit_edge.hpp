// Between the values of wabbit.hpp and the records of the C library. Handlers do not use it by name.
#pragma once

#include <type_traits>

namespace wabbit::edge {

// ---- from C ----

inline std::string text(wabbit_str str) { return {str.ptr, str.len}; }

inline std::optional<std::string> optional(const wabbit_opt_str& option) {
  if (!option.some) return std::nullopt;
  return text(option.value);
}

template <typename Option, typename Value = std::decay_t<decltype(Option::value)>>
std::optional<Value> optional(const Option& option) {
  if (!option.some) return std::nullopt;
  return option.value;
}

inline Field field(const wabbit_field& field) {
  switch (field.kind) {
    case WABBIT_BOOLEAN: return field.boolean;
    case WABBIT_INTEGER: return field.integer;
    case WABBIT_FLOAT: return field.number;
    case WABBIT_TEXT: return text(field.str);
    case WABBIT_BINARY: return Binary{text(field.str)};
    case WABBIT_TIMESTAMP: return Timestamp{field.timestamp};
    case WABBIT_JSON: return JsonText{text(field.str)};
    default: return Void{};
  }
}

inline Properties properties(const wabbit_properties& from) {
  Properties to;
  to.headers.reserve(from.headers.len);
  for (std::size_t i = 0; i < from.headers.len; i++)
    to.headers.emplace_back(text(from.headers.ptr[i].name), field(from.headers.ptr[i].value));
  to.content_type = optional(from.content_type);
  to.content_encoding = optional(from.content_encoding);
  to.persistent = from.persistent;
  to.priority = optional(from.priority);
  to.correlation_id = optional(from.correlation_id);
  to.reply_to = optional(from.reply_to);
  to.expiration_ms = optional(from.expiration_ms);
  to.message_id = optional(from.message_id);
  to.timestamp = optional(from.timestamp);
  to.kind = optional(from.kind);
  to.user_id = optional(from.user_id);
  to.app_id = optional(from.app_id);
  return to;
}

inline Delivery delivery(const wabbit_delivery& from) {
  return {
      .body = {from.body.ptr, from.body.len},
      .properties = properties(from.properties),
      .exchange = text(from.exchange),
      .routing_key = text(from.routing_key),
      .queue = text(from.queue),
      .redelivered = from.redelivered,
      .attempt = from.attempt,
  };
}

// ---- to C: as views, of values that are kept until the call is over ----

inline wabbit_str str(std::string_view text) { return {text.data(), text.size()}; }

// One question to the host: what it answers lives as long as this.
struct Asking {
  wabbit_call* call = wabbit_call_new();

  Asking() = default;
  Asking(const Asking&) = delete;
  ~Asking() { wabbit_call_free(call); }
  // Why it was not answered.
  std::string reason() const { return text(wabbit_failure(call)); }
  std::unexpected<Error> failure() const { return std::unexpected(Error(reason())); }
};

inline std::vector<std::pair<std::string, std::string>> pairs(wabbit_pairs from) {
  std::vector<std::pair<std::string, std::string>> to;
  to.reserve(from.len);
  for (std::size_t i = 0; i < from.len; i++) to.emplace_back(text(from.ptr[i].name), text(from.ptr[i].value));
  return to;
}

inline wabbit_opt_str opt(const std::optional<std::string>& text) {
  return text ? wabbit_some_str(str(*text)) : wabbit_opt_str{};
}

inline wabbit_field tagged(const Field& field) {
  struct Tagged {
    wabbit_field operator()(bool value) const { return wabbit_boolean_field(value); }
    wabbit_field operator()(std::int64_t value) const { return wabbit_integer_field(value); }
    wabbit_field operator()(double value) const { return wabbit_float_field(value); }
    wabbit_field operator()(const std::string& value) const { return wabbit_str_field(str(value)); }
    wabbit_field operator()(const Binary& value) const { return wabbit_binary_field(str(value.bytes)); }
    wabbit_field operator()(Timestamp value) const { return wabbit_timestamp_field(value.seconds); }
    wabbit_field operator()(const JsonText& value) const { return wabbit_json_field(str(value.text)); }
    wabbit_field operator()(Void) const { return wabbit_void_field(); }
  };
  return std::visit(Tagged{}, field.value);
}

inline void publish(wabbit_call* call, const Publication& publication) {
  const Properties& from = publication.properties;
  wabbit_properties& to = wabbit_publish_to(call, str(publication.exchange), str(publication.routing_key),
                                            str(publication.body.view()))
                              ->properties;
  auto* headers = static_cast<wabbit_header*>(wabbit_alloc(call, from.headers.size() * sizeof(wabbit_header)));
  to.headers = {headers, from.headers.size()};
  for (const auto& [name, value] : from.headers) *headers++ = {str(name), tagged(value)};
  to.content_type = opt(from.content_type);
  to.content_encoding = opt(from.content_encoding);
  to.persistent = from.persistent;
  if (from.priority) to.priority = wabbit_some_u8(*from.priority);
  to.correlation_id = opt(from.correlation_id);
  to.reply_to = opt(from.reply_to);
  if (from.expiration_ms) to.expiration_ms = wabbit_some_u32(*from.expiration_ms);
  to.message_id = opt(from.message_id);
  if (from.timestamp) to.timestamp = wabbit_some_u64(*from.timestamp);
  to.kind = opt(from.kind);
  to.user_id = opt(from.user_id);
  to.app_id = opt(from.app_id);
}

inline void dead_letter(wabbit_call* call, const std::string& reason) {
  wabbit_dead_letter(call, "%.*s", static_cast<int>(reason.size()), reason.data());
}

inline void settle(wabbit_call* call, const Outcome& outcome) {
  for (const Publication& publication : outcome.publications) publish(call, publication);
  if (std::holds_alternative<Ack>(outcome.settlement)) wabbit_ack(call);
  else if (std::holds_alternative<Requeue>(outcome.settlement)) wabbit_requeue(call);
  else if (const auto* dead = std::get_if<DeadLetter>(&outcome.settlement)) dead_letter(call, dead->reason);
  else if (const auto* retry = std::get_if<Retry>(&outcome.settlement)) {
    if (!retry->after) return wabbit_retry(call);
    // Times that the contract cannot name become ones that the host refuses.
    auto ms = retry->after->count();
    wabbit_retry_after(call, ms < 0 ? 0 : ms > UINT32_MAX ? UINT32_MAX : static_cast<std::uint32_t>(ms));
  }
}

// Calls the handler. What it returns is kept until the host has read it, with the delivery that it may refer to.
inline void run(wabbit_call* call, const wabbit_delivery& from, Result (*handle)(const Delivery&)) {
  struct Kept {
    Delivery delivery;
    std::optional<Result> result;
  };
  auto* kept = new Kept{delivery(from), std::nullopt};
  wabbit_defer(call, [](void* pointer) { delete static_cast<Kept*>(pointer); }, kept);
  const Result& result = kept->result.emplace(handle(kept->delivery));
  if (result) settle(call, *result);
  else if (!result.error().retriable) dead_letter(call, result.error().reason);
  else wabbit_fail(call, "%.*s", static_cast<int>(result.error().reason.size()), result.error().reason.data());
}

}  // namespace wabbit::edge
