;; It asks for all that can be granted.
(module
  (import "wasi:http/outgoing-handler@0.2.0" "handle" (func (param i32 i32 i32 i32)))
  (import "wasi:keyvalue/store@0.2.0-draft" "open" (func (param i32 i32 i32)))
  (import "wasi:config/store@0.2.0-rc.1" "get" (func (param i32 i32 i32)))
  (memory (export "memory") 1)
  (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32) i32.const 1024)
  (func (export "wabbit:worker/handler@0.1.0#handle") (param i32) (result i32) i32.const 0)
)
