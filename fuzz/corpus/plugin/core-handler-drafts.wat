;; It asks for drafts that this host has not.
(module
  (import "wasi:keyvalue/batch@0.2.0-draft" "get-many" (func (param i32 i32 i32 i32)))
  (memory (export "memory") 1)
  (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32) i32.const 1024)
  (func (export "wabbit:worker/handler@0.1.0#handle") (param i32) (result i32) i32.const 0)
)
