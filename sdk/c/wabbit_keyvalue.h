/* What outlives a delivery: the store of `[grant] keyvalue`.
 *
 * What is written takes effect at once, not with the settlement: a delivery that is tried again writes again.
 *
 * Where one of these returns false, the delivery has failed, with the reason; a handler that can do without settles it
 * otherwise. A handler that calls none of them imports nothing for them. */
#ifndef WABBIT_KEYVALUE_H
#define WABBIT_KEYVALUE_H

#include "wabbit.h"

#ifdef __cplusplus
extern "C" {
#endif

/* A store that is open, until the handler returns. */
typedef struct wabbit_store {
  int32_t handle;
} wabbit_store;

/* Opens the store of this name, which the manifest grants. It goes by `default`, too. */
bool wabbit_open_store(wabbit_call *call, const char *name, wabbit_store *store);

/* The value of a key; absent where the key is not there. */
bool wabbit_store_get(wabbit_call *call, wabbit_store store, wabbit_str key, wabbit_opt_str *value);
/* Gives a key a value. */
bool wabbit_store_set(wabbit_call *call, wabbit_store store, wabbit_str key, wabbit_str value);
/* Takes a key away, if it is there. */
bool wabbit_store_delete(wabbit_call *call, wabbit_store store, wabbit_str key);
/* Whether a key is there. */
bool wabbit_store_exists(wabbit_call *call, wabbit_store store, wabbit_str key, bool *exists);
/* Adds to a number, which is 0 where the key is not there. Nobody comes in between. Elsewhere the number is text, in
 * decimal digits. `sum` may be NULL. */
bool wabbit_store_increment(wabbit_call *call, wabbit_store store, wabbit_str key, uint64_t by, uint64_t *sum);
/* All keys, in their order. */
bool wabbit_store_keys(wabbit_call *call, wabbit_store store, wabbit_strs *keys);

#ifndef __wasm__
/* For tests: an empty store of that name, in the place of what was there. */
void wabbit_provide_store(const char *name);
#endif

#ifdef __cplusplus
}
#endif
#endif
