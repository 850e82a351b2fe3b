/* What Debian's compiler-rt for wasm asks for, in 128-bit division, and its wasi-libc does not have. */
#ifdef __wasm__

#include <stdint.h>
#include <stdlib.h>

/* Another libc may have them. */
#define FOR_THE_LINKER __attribute__((weak, used))

FOR_THE_LINKER uintptr_t __stack_chk_guard = 0x0aff0d00;

FOR_THE_LINKER _Noreturn void __stack_chk_fail(void) { abort(); }

#endif
