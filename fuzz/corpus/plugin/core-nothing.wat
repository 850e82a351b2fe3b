(module (table 1 funcref) (global i32 (i32.const 1)) (func $f (result i32) i32.const 1) (elem (i32.const 0) $f) (start 1) (func))
