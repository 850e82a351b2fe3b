package wabbit

import (
	"time"
	"unsafe"

	"wabbit/internal/host"
)

//go:wasmimport wabbit:worker/context@0.1.0 worker
func hostWorker(result unsafe.Pointer)

//go:wasmimport wabbit:worker/context@0.1.0 remaining-ms
func hostRemainingMS() uint32

var worker string

// Worker is the worker's name, which is its manifest's.
func Worker() string {
	if worker == "" {
		host.Receive(func() {
			result := host.NewRecord(8)
			hostWorker(result.Pointer())
			worker = result.Text(0)
		})
	}
	return worker
}

// Remaining is how long it is until the time limit.
func Remaining() time.Duration {
	return time.Duration(hostRemainingMS()) * time.Millisecond
}
