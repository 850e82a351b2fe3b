// A handler that keeps much and makes much garbage, for collector.mjs: the integer headers `keep` and `drop` say how
// many bytes it adds to what it keeps, and allocates and forgets.
package main

import "wabbit"

func init() { wabbit.Handle(handle) }

func main() {}

var (
	kept [][]byte
	last []byte
)

func handle(d *wabbit.Delivery) (wabbit.Outcome, error) {
	keep, _ := d.Header("keep").(int64)
	drop, _ := d.Header("drop").(int64)
	const block = 32 << 10
	for ; keep > 0; keep -= block {
		kept = append(kept, make([]byte, block))
	}
	for ; drop > 0; drop -= block {
		last = make([]byte, block)
	}
	last = nil
	return wabbit.Ack(), nil
}
