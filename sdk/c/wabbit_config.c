/* Settings and secrets, by way of wasi:config; in native tests, those that the test provides. */
#include "wabbit_config.h"

#include "wabbit_call.h"

bool wabbit_need_setting(wabbit_call *call, const char *name, wabbit_str *value) {
  if (wabbit_setting(call, name, value)) return true;
  wabbit_fail(call, "the manifest grants no value `%s`", name);
  return false;
}

#ifdef __wasm__

#define STORE(name) __attribute__((import_module("wasi:config/store@0.2.0-rc.1"), import_name(name)))

/* result<option<string>, error>, and result<list<tuple<string, string>>, error>. */
struct found {
  uint8_t failed;
  wabbit_opt_str value;
};
struct listed {
  uint8_t failed;
  wabbit_pairs all;
  uint32_t rest_of_error;
};
_Static_assert(sizeof(struct found) == 16 && offsetof(struct found, value) == 4, "found");
_Static_assert(sizeof(struct listed) == 16 && offsetof(struct listed, all) == 4, "listed");
_Static_assert(sizeof(wabbit_pair) == 16 && offsetof(wabbit_pair, value) == 8, "wabbit_pair");

STORE("get") void host_config_get(const char *name, size_t len, struct found *found);
STORE("get-all") void host_config_get_all(struct listed *listed);

/* The values are there before a handler begins, so that reading them cannot fail. */

bool wabbit_setting(wabbit_call *call, const char *name, wabbit_str *value) {
  wabbit_str key = wabbit_cstr(name);
  struct found found;
  if (wabbit_utf8_prefix(key) < key.len) return false;
  host_config_get(key.ptr, key.len, &found);
  if (found.failed || !found.value.some) return false;
  *value = found.value.value;
  wabbit_adopt(call, value->ptr, value->len);
  return true;
}

wabbit_pairs wabbit_settings(wabbit_call *call) {
  struct listed listed;
  host_config_get_all(&listed);
  if (listed.failed) return (wabbit_pairs){0};
  wabbit_adopt_pairs(call, listed.all);
  return listed.all;
}

#else

#include <stdlib.h>
#include <string.h>

static wabbit_pairs provided;

static wabbit_str keep(const char *text) {
  size_t len = strlen(text);
  char *copy = (char *)malloc(len + 1);
  if (!copy) abort();
  return (wabbit_str){memcpy(copy, text, len + 1), len};
}

void wabbit_provide_setting(const char *name, const char *value) {
  size_t at = 0;
  while (at < provided.len && !wabbit_is(provided.ptr[at].name, name)) at++;
  if (at < provided.len) {
    free((void *)provided.ptr[at].name.ptr);
    free((void *)provided.ptr[at].value.ptr);
    provided.ptr[at] = provided.ptr[--provided.len];
  }
  if (value) {
    provided.ptr = (wabbit_pair *)realloc(provided.ptr, (provided.len + 1) * sizeof *provided.ptr);
    if (!provided.ptr) abort();
    provided.ptr[provided.len++] = (wabbit_pair){keep(name), keep(value)};
  }
}

bool wabbit_setting(wabbit_call *call, const char *name, wabbit_str *value) {
  for (size_t i = 0; i < provided.len; i++)
    if (wabbit_is(provided.ptr[i].name, name)) return *value = wabbit_copy(call, provided.ptr[i].value), true;
  return false;
}

wabbit_pairs wabbit_settings(wabbit_call *call) {
  wabbit_pairs all = {(wabbit_pair *)wabbit_alloc(call, provided.len * sizeof *all.ptr), provided.len};
  for (size_t i = 0; i < provided.len; i++) {
    all.ptr[i].name = wabbit_copy(call, provided.ptr[i].name);
    all.ptr[i].value = wabbit_copy(call, provided.ptr[i].value);
  }
  return all;
}

#endif
