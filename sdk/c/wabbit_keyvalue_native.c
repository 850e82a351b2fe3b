/* Stores in memory, which stand in for the host's in native tests. */
#ifndef __wasm__

#include "wabbit_keyvalue.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

/* Sorted. */
struct keys {
  wabbit_pair *ptr;
  size_t len;
};

static struct {
  wabbit_str name;
  struct keys keys;
} *stores;
static int32_t stores_len;

static int compare(wabbit_str a, wabbit_str b) {
  size_t len = a.len < b.len ? a.len : b.len;
  int order = len ? memcmp(a.ptr, b.ptr, len) : 0;
  return order ? order : (a.len > b.len) - (a.len < b.len);
}

/* Where the key is, or would be. */
static size_t place(const struct keys *keys, wabbit_str key, bool *found) {
  size_t at = 0;
  while (at < keys->len && compare(keys->ptr[at].name, key) < 0) at++;
  *found = at < keys->len && compare(keys->ptr[at].name, key) == 0;
  return at;
}

static wabbit_str keep(wabbit_str text) {
  char *copy = (char *)malloc(text.len + 1);
  if (!copy) abort();
  if (text.len) memcpy(copy, text.ptr, text.len);
  return (wabbit_str){copy, text.len};
}

static void forget(wabbit_pair pair) {
  free((void *)pair.name.ptr);
  free((void *)pair.value.ptr);
}

void wabbit_provide_store(const char *name) {
  for (int32_t i = 0; i < stores_len; i++) {
    if (!wabbit_is(stores[i].name, name)) continue;
    while (stores[i].keys.len) forget(stores[i].keys.ptr[--stores[i].keys.len]);
    return;
  }
  stores = realloc(stores, (size_t)(stores_len + 1) * sizeof *stores);
  if (!stores) abort();
  stores[stores_len].name = keep(wabbit_cstr(name));
  stores[stores_len++].keys = (struct keys){0};
}

bool wabbit_open_store(wabbit_call *call, const char *name, wabbit_store *store) {
  for (int32_t i = 0; i < stores_len; i++)
    if (wabbit_is(stores[i].name, name)) return store->handle = i, true;
  wabbit_fail(call, "the manifest grants no such store");
  return false;
}

bool wabbit_store_get(wabbit_call *call, wabbit_store store, wabbit_str key, wabbit_opt_str *value) {
  const struct keys *keys = &stores[store.handle].keys;
  bool found;
  size_t at = place(keys, key, &found);
  *value = found ? wabbit_some_str(wabbit_copy(call, keys->ptr[at].value)) : (wabbit_opt_str){0};
  return true;
}

bool wabbit_store_set(wabbit_call *call, wabbit_store store, wabbit_str key, wabbit_str value) {
  struct keys *keys = &stores[store.handle].keys;
  wabbit_pair pair = {keep(key), keep(value)};
  wabbit_store_delete(call, store, key);
  bool found;
  size_t at = place(keys, pair.name, &found);
  keys->ptr = (wabbit_pair *)realloc(keys->ptr, (keys->len + 1) * sizeof pair);
  if (!keys->ptr) abort();
  memmove(keys->ptr + at + 1, keys->ptr + at, (keys->len++ - at) * sizeof pair);
  keys->ptr[at] = pair;
  return true;
}

bool wabbit_store_delete(wabbit_call *call, wabbit_store store, wabbit_str key) {
  (void)call;
  struct keys *keys = &stores[store.handle].keys;
  bool found;
  size_t at = place(keys, key, &found);
  if (!found) return true;
  forget(keys->ptr[at]);
  memmove(keys->ptr + at, keys->ptr + at + 1, (--keys->len - at) * sizeof *keys->ptr);
  return true;
}

bool wabbit_store_exists(wabbit_call *call, wabbit_store store, wabbit_str key, bool *exists) {
  (void)call;
  place(&stores[store.handle].keys, key, exists);
  return true;
}

bool wabbit_store_increment(wabbit_call *call, wabbit_store store, wabbit_str key, uint64_t by, uint64_t *sum) {
  wabbit_opt_str old;
  wabbit_store_get(call, store, key, &old);
  uint64_t number = 0;
  bool whole = !old.some || old.value.len;
  for (size_t i = 0; old.some && i < old.value.len; i++) {
    unsigned digit = (unsigned char)old.value.ptr[i] - '0';
    whole = whole && digit < 10 && number <= (UINT64_MAX - digit) / 10;
    if (whole) number = number * 10 + digit;
  }
  if (!whole) wabbit_fail(call, "the value of `%.*s` is not a whole number", WABBIT_ARG(key));
  else if (by > UINT64_MAX - number) wabbit_fail(call, "`%.*s` would be too large", WABBIT_ARG(key));
  else {
    if (sum) *sum = number + by;
    return wabbit_store_set(call, store, key, wabbit_format(call, "%" PRIu64, number + by));
  }
  return false;
}

bool wabbit_store_keys(wabbit_call *call, wabbit_store store, wabbit_strs *keys) {
  const struct keys *from = &stores[store.handle].keys;
  *keys = (wabbit_strs){(wabbit_str *)wabbit_alloc(call, from->len * sizeof *keys->ptr), from->len};
  for (size_t i = 0; i < from->len; i++) keys->ptr[i] = wabbit_copy(call, from->ptr[i].name);
  return true;
}

#endif
