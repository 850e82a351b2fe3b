;; It says what types it has, and what it says is nothing.
(module
  (memory (export "memory") 1)
  (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32) i32.const 1024)
  (func (export "wabbit:worker/handler@0.1.0#handle") (param i32) (result i32) i32.const 0)
  (@custom "component-type:worker" "\00asm\0d\00\01\00")
)
