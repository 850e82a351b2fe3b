(module (func (export "wabbit:worker/handler@9\1b[2J#handle")))
