// A handler that keeps much and makes much garbage, for collector.mjs: the integer headers `keep` and `drop` say how
// many bytes it adds to what it keeps, and allocates and forgets. In between it asks the host, whose answers come
// through memory, too.
package main

import (
	"strings"

	"wabbit"
	"wabbit/config"
)

func init() { wabbit.Handle(handle) }

func main() {}

var (
	kept [][]byte
	last []byte
	// What the host said, which must stay as it is.
	asked []string
)

func handle(d *wabbit.Delivery) (wabbit.Outcome, error) {
	keep, _ := d.Header("keep").(int64)
	drop, _ := d.Header("drop").(int64)
	const block = 32 << 10
	for ; keep > 0; keep -= block {
		kept = append(kept, make([]byte, block))
	}
	for i := 0; drop > 0; i++ {
		drop -= block
		last = make([]byte, block)
		if i%16 == 0 {
			long, _ := config.Get("long")
			asked = append(asked, long)
		}
	}
	for _, long := range asked {
		if len(long) != 20_000 || strings.Trim(long, "a") != "" {
			panic("what the host said was overwritten")
		}
	}
	last, asked = nil, asked[:0]
	return wabbit.Ack(), nil
}
