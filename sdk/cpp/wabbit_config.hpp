// What the manifest tells a handler: `[grant] config` and `[grant] secrets`. A handler that calls none of these imports
// nothing for them.
#pragma once

#include "../c/wabbit_config.h"
#include "wabbit.hpp"

namespace wabbit {

// The value of that name; none where the manifest has none.
inline std::optional<std::string> setting(const std::string& name) {
  edge::Asking asking;
  wabbit_str value;
  if (!wabbit_setting(asking.call, name.c_str(), &value)) return std::nullopt;
  return edge::text(value);
}

// The same. Where the manifest has none, a failure that names it.
inline std::expected<std::string, Error> need_setting(const std::string& name) {
  edge::Asking asking;
  wabbit_str value;
  if (!wabbit_need_setting(asking.call, name.c_str(), &value)) return asking.failure();
  return edge::text(value);
}

// A value that is not printed by accident: it is no text.
class Secret {
  std::string value_;

 public:
  explicit Secret(std::string value) : value_(std::move(value)) {}
  // The value itself.
  const std::string& expose() const { return value_; }
  bool operator==(const Secret&) const = default;
};

// The secret of that name. Where the manifest has none, a failure that names it.
inline std::expected<Secret, Error> secret(const std::string& name) {
  auto value = need_setting(name);
  if (!value) return std::unexpected(std::move(value).error());
  return Secret(*std::move(value));
}

// All names with their values. Secrets are left out.
inline std::vector<std::pair<std::string, std::string>> settings() {
  edge::Asking asking;
  return edge::pairs(wabbit_settings(asking.call));
}

#ifndef __wasm__
// For tests: gives a name its value.
inline void provide_setting(const std::string& name, const std::string& value) {
  wabbit_provide_setting(name.c_str(), value.c_str());
}
#endif

}  // namespace wabbit
