package wabbit

import (
	"unsafe"

	"wabbit/internal/host"
)

// What the host calls. It lowers a delivery into blocks that it asks cabi_realloc for, calls handle with the address of
// the record, lifts the result that handle points to, and then calls the post-return function.

// What the result's records point to, until the host has read it.
var answered struct {
	area    []byte
	outcome Outcome
	failure string
}

// linear is the module's own memory.
type linear struct{}

func (linear) at(address, length uint32) []byte {
	return host.Bytes(address, length)
}

func (linear) address(bytes []byte) uint32 {
	return uint32(uintptr(unsafe.Pointer(unsafe.SliceData(bytes))))
}

//go:wasmexport wabbit:worker/handler@0.1.0#handle
func exportHandle(address uint32) uint32 {
	delivery := reader{linear{}}.delivery(address)
	host.StartCollector()
	host.Release()

	outcome, failure, ok := answer(delivery)
	if ok {
		area, err := writeOutcome(linear{}, outcome)
		if err == nil {
			answered.area, answered.outcome = area, outcome
		} else {
			failure, ok = err.Error(), false
		}
	}
	if !ok {
		answered.area, answered.failure = writeFailure(linear{}, failure), failure
	}

	host.StopCollector()
	return linear{}.address(answered.area)
}

//go:wasmexport cabi_post_wabbit:worker/handler@0.1.0#handle
func exportPostReturn(uint32) {
	answered.area, answered.outcome, answered.failure = nil, Outcome{}, ""
}
