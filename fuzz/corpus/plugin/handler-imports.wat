(component
  (import "wasi:http/outgoing-handler@0.2.0" (instance))
  (import "wasi:config/store@0.2.0-rc.1" (instance))
  (import "wasi:config/runtime@0.2.0-draft" (instance))
  (import "wasi:cli/environment@0.2.3" (instance))
  (component $c)
  (instance $i (instantiate $c))
  (export "wabbit:worker/handler@0.1.0" (instance $i))
)
