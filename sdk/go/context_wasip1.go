package wabbit

import (
	"runtime/debug"
	"strings"
	"time"
	"unsafe"
)

//go:wasmimport wabbit:worker/context@0.1.0 worker
func hostWorker(result unsafe.Pointer)

//go:wasmimport wabbit:worker/context@0.1.0 remaining-ms
func hostRemainingMS() uint32

var (
	worker string
	// Address and length of the worker's name. It is no local variable: the host calls cabi_realloc before it writes
	// this, and that may move the stack.
	workerResult [8]byte
)

// Worker is the worker's name, which is its manifest's.
func Worker() string {
	if worker == "" {
		// The name comes through cabi_realloc, which must not collect garbage.
		debug.SetGCPercent(gcOff)
		hostWorker(unsafe.Pointer(&workerResult))
		worker = strings.Clone(reader{linear{}}.text(workerResult[:], 0))
		release()
		debug.SetGCPercent(gcPercent)
	}
	return worker
}

// Remaining is how long it is until the time limit.
func Remaining() time.Duration {
	return time.Duration(hostRemainingMS()) * time.Millisecond
}
