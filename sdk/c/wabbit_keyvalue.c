/* Stores, by way of wasi:keyvalue. In native tests wabbit_keyvalue_native.c stands in for them. */
#ifdef __wasm__

#include "wabbit_keyvalue.h"

#include "wabbit_call.h"

#include <string.h>

#define STORE(name) __attribute__((import_module("wasi:keyvalue/store@0.2.0-draft"), import_name(name)))
#define ATOMICS(name) __attribute__((import_module("wasi:keyvalue/atomics@0.2.0-draft"), import_name(name)))

struct error {
  uint8_t kind;
  wabbit_str text; /* of OTHER */
};
enum { NO_SUCH_STORE, ACCESS_DENIED, OTHER };

/* The answers: each is a result, whose value begins where the widest of value and error may. */
struct answer {
  uint8_t failed;
  union {
    struct error error;
    int32_t handle;
    bool boolean;
    wabbit_opt_str value;
  };
};
struct wide_answer {
  uint8_t failed;
  union {
    struct error error;
    uint64_t number;
    struct {
      wabbit_strs keys;
      wabbit_opt_u64 cursor;
    };
  };
};
_Static_assert(sizeof(struct answer) == 16 && offsetof(struct answer, error) == 4, "answer");
_Static_assert(sizeof(struct wide_answer) == 32 && offsetof(struct wide_answer, error) == 8, "wide_answer");
_Static_assert(offsetof(struct wide_answer, cursor) == 16, "wide_answer.cursor");

STORE("open") void host_store_open(const char *name, size_t len, struct answer *answer);
STORE("[resource-drop]bucket") void host_bucket_drop(int32_t handle);
STORE("[method]bucket.get") void host_bucket_get(int32_t handle, const char *key, size_t len, struct answer *answer);
STORE("[method]bucket.set")
void host_bucket_set(int32_t handle, const char *key, size_t len, const char *value, size_t value_len,
                     struct answer *answer);
STORE("[method]bucket.delete")
void host_bucket_delete(int32_t handle, const char *key, size_t len, struct answer *answer);
STORE("[method]bucket.exists")
void host_bucket_exists(int32_t handle, const char *key, size_t len, struct answer *answer);
STORE("[method]bucket.list-keys")
void host_bucket_list(int32_t handle, int32_t some, uint64_t cursor, struct wide_answer *answer);
ATOMICS("increment")
void host_bucket_increment(int32_t handle, const char *key, size_t len, uint64_t by, struct wide_answer *answer);

static bool done(wabbit_call *call, uint8_t failed, const struct error *error) {
  if (!failed) return true;
  if (error->kind == NO_SUCH_STORE) wabbit_fail(call, "the manifest grants no such store");
  else if (error->kind == ACCESS_DENIED) wabbit_fail(call, "the store is not for this handler");
  else {
    wabbit_adopt(call, error->text.ptr, error->text.len);
    wabbit_fail(call, "%.*s", WABBIT_ARG(error->text));
  }
  return false;
}

/* The host would end the call for any other text. */
static bool checked(wabbit_call *call, wabbit_str key) {
  if (wabbit_utf8_prefix(key) == key.len) return true;
  wabbit_fail(call, "the key `%.*s` is not UTF-8", WABBIT_ARG(key));
  return false;
}

static void close_store(void *handle) { host_bucket_drop((int32_t)(intptr_t)handle); }

bool wabbit_open_store(wabbit_call *call, const char *name, wabbit_store *store) {
  struct answer answer;
  wabbit_str text = wabbit_cstr(name);
  if (!checked(call, text)) return false;
  host_store_open(text.ptr, text.len, &answer);
  if (!done(call, answer.failed, &answer.error)) return false;
  store->handle = answer.handle;
  wabbit_at_return(call, close_store, (void *)(intptr_t)answer.handle);
  return true;
}

bool wabbit_store_get(wabbit_call *call, wabbit_store store, wabbit_str key, wabbit_opt_str *value) {
  struct answer answer;
  if (!checked(call, key)) return false;
  host_bucket_get(store.handle, key.ptr, key.len, &answer);
  if (!done(call, answer.failed, &answer.error)) return false;
  *value = answer.value;
  if (value->some) wabbit_adopt(call, value->value.ptr, value->value.len);
  return true;
}

bool wabbit_store_set(wabbit_call *call, wabbit_store store, wabbit_str key, wabbit_str value) {
  struct answer answer;
  if (!checked(call, key)) return false;
  host_bucket_set(store.handle, key.ptr, key.len, value.ptr, value.len, &answer);
  return done(call, answer.failed, &answer.error);
}

bool wabbit_store_delete(wabbit_call *call, wabbit_store store, wabbit_str key) {
  struct answer answer;
  if (!checked(call, key)) return false;
  host_bucket_delete(store.handle, key.ptr, key.len, &answer);
  return done(call, answer.failed, &answer.error);
}

bool wabbit_store_exists(wabbit_call *call, wabbit_store store, wabbit_str key, bool *exists) {
  struct answer answer;
  if (!checked(call, key)) return false;
  host_bucket_exists(store.handle, key.ptr, key.len, &answer);
  if (!done(call, answer.failed, &answer.error)) return false;
  *exists = answer.boolean;
  return true;
}

bool wabbit_store_increment(wabbit_call *call, wabbit_store store, wabbit_str key, uint64_t by, uint64_t *sum) {
  struct wide_answer answer;
  if (!checked(call, key)) return false;
  host_bucket_increment(store.handle, key.ptr, key.len, by, &answer);
  if (!done(call, answer.failed, &answer.error)) return false;
  if (sum) *sum = answer.number;
  return true;
}

bool wabbit_store_keys(wabbit_call *call, wabbit_store store, wabbit_strs *keys) {
  struct wide_answer answer = {.cursor = {0}};
  wabbit_strs all = {0};
  do {
    host_bucket_list(store.handle, answer.cursor.some, answer.cursor.value, &answer);
    if (!done(call, answer.failed, &answer.error)) return false;
    wabbit_strs more = answer.keys;
    if (more.len == 0) continue;
    size_t size = (all.len + more.len) * sizeof *all.ptr;
    all.ptr = (wabbit_str *)(all.len ? wabbit_resize(call, all.ptr, size)
                                     : wabbit_alloc(call, size < WABBIT_LARGE ? WABBIT_LARGE : size));
    memcpy(all.ptr + all.len, more.ptr, more.len * sizeof *more.ptr);
    all.len += more.len;
    for (size_t i = 0; i < more.len; i++) wabbit_adopt(call, more.ptr[i].ptr, more.ptr[i].len);
    wabbit_release(more.ptr, more.len);
  } while (answer.cursor.some);
  *keys = all;
  return true;
}

#endif
