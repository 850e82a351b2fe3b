;; Names that a terminal would act upon.
(module
  (import "\1b[2J" "\e2\80\ae\07" (func))
  (func (export "wabbit:worker/handler@0.1.0#\1b[31m"))
  (func (export "a\0ab\0d"))
  (@producers (language "\1b]0;x\07" "\c2\9b" ) )
)
