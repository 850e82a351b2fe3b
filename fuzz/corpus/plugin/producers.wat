;; What made it, as far as it says.
(module
  (memory (export "memory") 1)
  (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32) i32.const 1024)
  (func (export "wabbit:worker/handler@0.1.0#handle") (param i32) (result i32) i32.const 0)
  (@producers (language "Rust" "1.95.0") (processed-by "rustc" "1.95.0") (sdk "wabbit" "0.1.0"))
  (@custom "producers" "\ff\ff")
)
