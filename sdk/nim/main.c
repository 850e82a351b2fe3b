/* What a Nim program needs under wasi-libc. */
#include <stdlib.h>

/* Nim writes a `main` of three arguments, which wasi-libc does not start. */
void NimMain(void);
extern int nim_program_result;

int main(void) {
  NimMain();
  return nim_program_result;
}

/* Nim does not look whether it was given memory, and in wasm there is memory at NULL: it would go on with wrong data.
 * So that it ends instead, `build` has it call these. */
static void *given(void *memory) {
  if (!memory) abort();
  return memory;
}

void *checked_malloc(size_t size) { return given(malloc(size)); }

void *checked_calloc(size_t count, size_t size) { return given(calloc(count, size)); }

void *checked_realloc(void *memory, size_t size) { return given(realloc(memory, size)); }
