package host

import (
	"unsafe"
)

// The blocks that the host has been given and that nothing else points to yet, and their bytes.
var (
	lent      []unsafe.Pointer
	lentBytes uint64
)

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

// Release leaves the blocks to whatever points to them by now.
func Release() {
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
