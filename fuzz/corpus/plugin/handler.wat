;; A component with the contract's export, and nothing in it.
(component
  (component $c)
  (instance $i (instantiate $c))
  (export "wabbit:worker/handler@0.1.0" (instance $i))
)
