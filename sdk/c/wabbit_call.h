/* What a call is made of. For the library's own files: handlers know it by pointer only. */
#ifndef WABBIT_CALL_H
#define WABBIT_CALL_H

#include "wabbit.h"

/* Publications wait in a list, so that a handler's pointers to them stay good; the host wants them side by side. */
struct pending {
  wabbit_publication publication;
  struct pending *next;
};

struct deferred {
  void (*function)(void *);
  void *argument;
  struct deferred *next;
};

struct wabbit_call {
  wabbit_result result;
  struct pending *first, *last;
  size_t pending;
  struct deferred *returning, *deferred;
  struct block *blocks;
  char *chunk;
  size_t chunk_left;
};

/* Makes memory from `wabbit_alloc` larger or smaller, and may move it. It must have been of at least `WABBIT_LARGE`
 * bytes from the start. */
enum { WABBIT_LARGE = 1024 };
void *wabbit_resize(wabbit_call *call, void *memory, size_t size);

/* Has `function` called with `argument` when the handler returns, while the host may still be called: after that, it
 * may not. */
void wabbit_at_return(wabbit_call *call, void (*function)(void *), void *argument);
/* Calls these. */
void wabbit_call_return(wabbit_call *call);

#ifdef __wasm__
/* Text or a list from the host, which lives until the call is over. */
void wabbit_adopt(wabbit_call *call, const void *memory, size_t len);
void wabbit_adopt_pairs(wabbit_call *call, wabbit_pairs pairs);
/* Frees it at once. */
void wabbit_release(const void *memory, size_t len);
#endif

/* The parts of a URL that a request is made of. False where it has none. */
typedef struct wabbit_url {
  wabbit_str scheme, authority;
  /* With the query, without a fragment. */
  wabbit_str path;
} wabbit_url;
bool wabbit_url_parse(wabbit_str text, wabbit_url *url);

/* Ends the call: frees all its memory, and makes it ready for another. */
void wabbit_call_reset(wabbit_call *call);

#endif
