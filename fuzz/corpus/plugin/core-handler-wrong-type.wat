;; Its function is of another type.
(module
  (memory (export "memory") 1)
  (func (export "wabbit:worker/handler@0.1.0#handle") (param i64) (result f32) f32.const 0)
)
