(module
  (import "wasi_snapshot_preview1" "\1b[2J" (func))
  (func (export "_start"))
)
