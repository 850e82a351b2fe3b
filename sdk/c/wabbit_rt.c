/* What Debian's compiler-rt for wasm asks for, in 128-bit division, and its wasi-libc does not have. */
#ifdef __wasm__

#include <stdint.h>
#include <stdlib.h>

/* Another libc may have them. */
#define FOR_THE_LINKER __attribute__((weak, used))

FOR_THE_LINKER uintptr_t __stack_chk_guard = 0x0aff0d00;

FOR_THE_LINKER _Noreturn void __stack_chk_fail(void) { abort(); }

/*
 * Debian's malloc takes for its heap whatever memory there is when it is first called. The adapter that a command goes
 * through when its worker has folders takes memory of its own with the first call of WASI, and the two would be in the
 * same place. So malloc is called before all else: libc looks for its folders at 50.
 */
#pragma clang diagnostic push
#pragma clang diagnostic ignored "-Wprio-ctor-dtor"
__attribute__((constructor(1))) static void claim_the_heap(void) {
  void *volatile claimed = malloc(1);
  free(claimed);
}
#pragma clang diagnostic pop

#endif
