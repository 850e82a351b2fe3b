;; It asks the contract itself.
(module
  (import "wabbit:worker/context@0.1.0" "worker-name" (func (param i32)))
  (memory (export "memory") 1)
  (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32) i32.const 1024)
  (func (export "wabbit:worker/handler@0.1.0#handle") (param i32) (result i32) i32.const 0)
)
