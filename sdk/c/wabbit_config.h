/* What the manifest tells a handler: `[grant] config` and `[grant] secrets`.
 *
 * A handler that calls none of these imports nothing for them. */
#ifndef WABBIT_CONFIG_H
#define WABBIT_CONFIG_H

#include "wabbit.h"

#ifdef __cplusplus
extern "C" {
#endif

/* The value of that name. False, with `value` untouched, where the manifest has none. */
bool wabbit_setting(wabbit_call *call, const char *name, wabbit_str *value);
/* The same. Where the manifest has none, the delivery has failed, with a text that names it. */
bool wabbit_need_setting(wabbit_call *call, const char *name, wabbit_str *value);
/* All names with their values. Secrets are left out. */
wabbit_pairs wabbit_settings(wabbit_call *call);

#ifndef __wasm__
/* For tests: gives a name its value, copied; NULL takes it away. */
void wabbit_provide_setting(const char *name, const char *value);
#endif

#ifdef __cplusplus
}
#endif
#endif
