// JSON: a reader that looks into the text where it is, and `object` and `array`, which write one.
#pragma once

#include "../c/wabbit_json.h"
#include "wabbit.hpp"

namespace wabbit {

// A value in a text that was checked, and that has to live as long. A missing member is a value too, of no type.
class Json {
  wabbit_json value_ = {};

  explicit Json(wabbit_json value) : value_(value) {}

 public:
  Json() = default;

  // Checks that all of a text is one JSON value. Else an error that is a dead letter.
  static std::expected<Json, Error> parse(std::string_view text) {
    wabbit_json value;
    wabbit_json_error error;
    if (wabbit_json_parse({text.data(), text.size()}, &value, &error)) return Json(value);
    return std::unexpected(Error(std::string("the body is not JSON: ") + error.what + " at line " +
                                     std::to_string(error.line) + " column " + std::to_string(error.column),
                                 false));
  }

  bool is_missing() const { return type() == WABBIT_JSON_MISSING; }
  bool is_null() const { return type() == WABBIT_JSON_NULL; }
  bool is_array() const { return type() == WABBIT_JSON_ARRAY; }
  bool is_object() const { return type() == WABBIT_JSON_OBJECT; }

  // The member of that name, missing where there is none or this is no object.
  Json operator[](const char* name) const { return Json(wabbit_json_get(value_, name)); }

  // The value where it is of that type: std::string, std::int64_t, double or bool.
  template <typename T>
  std::optional<T> as() const {
    T result;
    if constexpr (std::same_as<T, bool>) {
      if (!wabbit_json_bool(value_, &result)) return std::nullopt;
    } else if constexpr (std::same_as<T, std::int64_t>) {
      if (!wabbit_json_integer(value_, &result)) return std::nullopt;
    } else if constexpr (std::same_as<T, double>) {
      if (!wabbit_json_double(value_, &result)) return std::nullopt;
    } else {
      static_assert(std::same_as<T, std::string>, "a string, std::int64_t, double or bool");
      if (type() != WABBIT_JSON_STRING) return std::nullopt;
      result.resize(wabbit_json_unescape(value_, nullptr));
      wabbit_json_unescape(value_, result.data());
    }
    return result;
  }

  // The member of that name and type. Else an error that is a dead letter, and names the member.
  template <typename T>
  std::expected<T, Error> need(const char* name) const {
    Json member = (*this)[name];
    if (std::optional<T> value = member.as<T>()) return *std::move(value);
    std::string reason = "the body is not the JSON expected: ";
    if (member.is_missing()) return std::unexpected(Error(reason + "missing field `" + name + "`", false));
    const char* type = std::same_as<T, bool>           ? "true or false"
                       : std::same_as<T, std::int64_t> ? "an integer"
                       : std::same_as<T, double>       ? "a number"
                                                       : "a string";
    return std::unexpected(Error(reason + "field `" + name + "` is not " + type, false));
  }

  // The values of an array or an object, in order. None where this is neither.
  std::vector<Json> items() const {
    std::vector<Json> items;
    for (wabbit_json_each each = {.of = value_, .key = {}, .value = {}, .at = 0}; wabbit_json_next(&each);)
      items.push_back(Json(each.value));
    return items;
  }

  // The members of an object, in order. None where this is no object.
  std::vector<std::pair<std::string, Json>> members() const {
    std::vector<std::pair<std::string, Json>> members;
    if (!is_object()) return members;
    for (wabbit_json_each each = {.of = value_, .key = {}, .value = {}, .at = 0}; wabbit_json_next(&each);)
      members.emplace_back(*Json(each.key).as<std::string>(), Json(each.value));
    return members;
  }

  // The value as it stands there.
  JsonText text() const { return {is_missing() ? "null" : std::string(value_.text.ptr, value_.text.len)}; }

 private:
  wabbit_json_type type() const { return wabbit_json_typeof(value_); }
};

inline std::expected<Json, Error> Delivery::json() const { return Json::parse(body); }

// What `object` and `array` take: text (bytes that are not UTF-8 become U+FFFD), numbers (`null` where they are not
// finite), booleans, nullptr, and JSON text.
class JsonValue {
  std::variant<std::nullptr_t, bool, std::int64_t, double, std::string_view> value_;
  bool raw_ = false;

 public:
  JsonValue(std::nullptr_t) : value_(nullptr) {}
  JsonValue(std::same_as<bool> auto boolean) : value_(boolean) {}
  template <std::integral T>
    requires(!std::same_as<T, bool> && (sizeof(T) < 8 || std::signed_integral<T>))
  JsonValue(T integer) : value_(static_cast<std::int64_t>(integer)) {}
  JsonValue(std::floating_point auto number) : value_(static_cast<double>(number)) {}
  // Views: a JsonValue lives no longer than the call that it is passed to.
  JsonValue(const char* text) : value_(std::string_view(text)) {}
  JsonValue(std::string_view text) : value_(text) {}
  JsonValue(const std::string& text) : value_(std::string_view(text)) {}
  JsonValue(const JsonText& json) : value_(std::string_view(json.text)), raw_(true) {}

  void append_to(std::string& out) const {
    if (const auto* text = std::get_if<std::string_view>(&value_)) {
      if (raw_) out.append(*text);
      else append_string(out, *text);
    } else if (const auto* number = std::get_if<double>(&value_)) {
      char digits[32];
      out.append(digits, wabbit_json_format_double(*number, digits));
    } else if (const auto* integer = std::get_if<std::int64_t>(&value_)) out.append(std::to_string(*integer));
    else if (const auto* boolean = std::get_if<bool>(&value_)) out.append(*boolean ? "true" : "false");
    else out.append("null");
  }

  static void append_string(std::string& out, std::string_view text) {
    wabbit_str str = {text.data(), text.size()};
    std::size_t start = out.size(), size = start + wabbit_json_escape(str, nullptr);
    // A little more, so that what follows a large text does not move it.
    if (size > out.capacity()) out.reserve(size + size / 16 + 16);
    out.resize(size);
    wabbit_json_escape(str, out.data() + start);
  }
};

// An object: `wabbit::object({{"to", email}, {"tries", 3}, {"tags", wabbit::array({"a", "b"})}})`.
inline JsonText object(std::initializer_list<std::pair<std::string_view, JsonValue>> members) {
  std::string out = "{";
  for (const auto& [name, value] : members) {
    if (out.size() > 1) out += ',';
    JsonValue::append_string(out, name);
    out += ':';
    value.append_to(out);
  }
  out += '}';
  return {std::move(out)};
}

// An array, of a list or of any range: `wabbit::array({1, "a"})`, `wabbit::array(names)`.
template <std::ranges::input_range Values = std::initializer_list<JsonValue>>
JsonText array(const Values& values) {
  std::string out = "[";
  for (const auto& value : values) {
    if (out.size() > 1) out += ',';
    JsonValue(value).append_to(out);
  }
  out += ']';
  return {std::move(out)};
}

}  // namespace wabbit
