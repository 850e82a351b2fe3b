(component (component (component (core module (func (export "wabbit:worker/handler@0.1.0#handle"))) (component))) (type (func (param "x" string))) (export "t" (type 0)))
