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
  struct deferred *deferred;
  struct block *blocks;
  char *chunk;
  size_t chunk_left;
};

/* Makes memory from `wabbit_alloc` larger or smaller, and may move it. It must have been of at least `WABBIT_LARGE`
 * bytes from the start. */
enum { WABBIT_LARGE = 1024 };
void *wabbit_resize(wabbit_call *call, void *memory, size_t size);

/* Ends the call: frees all its memory, and makes it ready for another. */
void wabbit_call_reset(wabbit_call *call);

#endif
