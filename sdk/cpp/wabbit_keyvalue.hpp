// What outlives a delivery: the store of `[grant] keyvalue`. A handler that calls none of these imports nothing for
// them.
//
// What is written takes effect at once, not with the settlement: a delivery that is tried again writes again.
#pragma once

#include "../c/wabbit_keyvalue.h"
#include "wabbit.hpp"

#include <memory>

namespace wabbit {

// A store that is open, for as long as it lives. Keys are UTF-8, values any bytes.
class Store {
  struct Close {
    void operator()(wabbit_call* call) const { wabbit_call_free(call); }
  };
  std::unique_ptr<wabbit_call, Close> open_;
  wabbit_store store_;

  Store(wabbit_call* call, wabbit_store store) : open_(call), store_(store) {}

 public:
  // Opens the store of this name, which the manifest grants. It goes by `default`, too.
  static std::expected<Store, Error> open(const std::string& name) {
    Store store(wabbit_call_new(), {});
    if (!wabbit_open_store(store.open_.get(), name.c_str(), &store.store_))
      return std::unexpected(Error(edge::text(wabbit_failure(store.open_.get()))));
    return store;
  }

  // The value of a key; none where the key is not there.
  std::expected<std::optional<std::string>, Error> get(std::string_view key) const {
    edge::Asking asking;
    wabbit_opt_str value;
    if (!wabbit_store_get(asking.call, store_, edge::str(key), &value)) return asking.failure();
    return edge::optional(value);
  }

  // Gives a key a value.
  std::expected<void, Error> set(std::string_view key, std::string_view value) const {
    edge::Asking asking;
    if (!wabbit_store_set(asking.call, store_, edge::str(key), edge::str(value))) return asking.failure();
    return {};
  }

  // Takes a key away, if it is there.
  std::expected<void, Error> erase(std::string_view key) const {
    edge::Asking asking;
    if (!wabbit_store_delete(asking.call, store_, edge::str(key))) return asking.failure();
    return {};
  }

  // Whether a key is there.
  std::expected<bool, Error> contains(std::string_view key) const {
    edge::Asking asking;
    bool exists;
    if (!wabbit_store_exists(asking.call, store_, edge::str(key), &exists)) return asking.failure();
    return exists;
  }

  // Adds to a number, which is 0 where the key is not there, and returns the sum. Nobody comes in between. Elsewhere
  // the number is text, in decimal digits.
  std::expected<std::uint64_t, Error> increment(std::string_view key, std::uint64_t by = 1) const {
    edge::Asking asking;
    std::uint64_t sum;
    if (!wabbit_store_increment(asking.call, store_, edge::str(key), by, &sum)) return asking.failure();
    return sum;
  }

  // All keys, in their order.
  std::expected<std::vector<std::string>, Error> keys() const {
    edge::Asking asking;
    wabbit_strs found;
    if (!wabbit_store_keys(asking.call, store_, &found)) return asking.failure();
    std::vector<std::string> keys;
    keys.reserve(found.len);
    for (std::size_t i = 0; i < found.len; i++) keys.push_back(edge::text(found.ptr[i]));
    return keys;
  }
};

#ifndef __wasm__
// For tests: an empty store of that name, in the place of what was there.
inline void provide_store(const std::string& name) { wabbit_provide_store(name.c_str()); }
#endif

}  // namespace wabbit
