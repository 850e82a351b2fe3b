(component (component $c) (instance $i (instantiate $c)) (export "wabbit:worker/handler@0.2.0" (instance $i)))
