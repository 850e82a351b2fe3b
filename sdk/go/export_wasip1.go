package wabbit

import (
	"unsafe"
)

// What the host calls. It lowers a delivery into blocks that it asks cabi_realloc for, calls handle with the address of
// the record, lifts the result that handle points to, and then calls the post-return function.

var (
	// The blocks that the host has been given and that nothing else points to yet, and their bytes.
	lent      []unsafe.Pointer
	lentBytes uint64
	// What the result's records point to, until the host has read it.
	answered struct {
		area    []byte
		outcome Outcome
		failure string
	}
)

// linear is the module's own memory. Pointers have 64 bits in Go's wasm, the upper half of which is zero.
type linear struct{}

func (linear) at(address, length uint32) []byte {
	if length == 0 {
		return []byte{}
	}
	return unsafe.Slice((*byte)(unsafe.Add(nil, address)), length)
}

func (linear) address(bytes []byte) uint32 {
	return uint32(uintptr(unsafe.Pointer(unsafe.SliceData(bytes))))
}

//go:wasmexport wabbit:worker/handler@0.1.0#handle
func exportHandle(address uint32) uint32 {
	delivery := reader{linear{}}.delivery(address)
	startCollector(lentBytes)
	release()

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

	stopCollector()
	return linear{}.address(answered.area)
}

//go:wasmexport cabi_post_wabbit:worker/handler@0.1.0#handle
func exportPostReturn(uint32) {
	answered.area, answered.outcome, answered.failure = nil, Outcome{}, ""
}

//go:wasmexport cabi_realloc
func exportRealloc(old unsafe.Pointer, oldSize, align, size uint32) unsafe.Pointer {
	if size == 0 {
		return unsafe.Add(nil, align)
	}
	// Without pointers in it, and aligned for any record.
	block := unsafe.Pointer(unsafe.SliceData(make([]uint64, (uint64(size)+7)/8)))
	if old != nil {
		copy(unsafe.Slice((*byte)(block), size), unsafe.Slice((*byte)(old), min(oldSize, size)))
	}
	lent = append(lent, block)
	lentBytes += uint64(size)
	return block
}

// release leaves the blocks to whatever points to them by now.
func release() {
	clear(lent)
	lent, lentBytes = lent[:0], 0
}

// The host's adapter from WASI preview 1 asks for its stack and its state when Go's runtime, half started, first calls
// out. Nothing may be allocated then, and the stack may be any: hence a static area and nosplit.
var (
	adapterArea [2*64<<10 + 4096]byte
	adapterUsed uintptr
)

//go:wasmexport cabi_realloc_adapter
//go:nosplit
func exportReallocAdapter(_ unsafe.Pointer, _, align, size uint32) unsafe.Pointer {
	start := unsafe.Pointer(&adapterArea)
	at := (uintptr(start)+adapterUsed+uintptr(align)-1)&^(uintptr(align)-1) - uintptr(start)
	adapterUsed = at + uintptr(size)
	if adapterUsed > unsafe.Sizeof(adapterArea) {
		*(*byte)(nil) = 0 // A trap: the adapter has another idea of its size.
	}
	return unsafe.Add(start, at)
}
