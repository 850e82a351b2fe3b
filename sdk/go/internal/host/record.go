// Package host is what every call out of a plugin, and every call into it, has in common: the blocks that the host
// writes into, and when garbage may be collected.
package host

import (
	"encoding/binary"
	"unsafe"
)

// Bytes is a part of the module's own memory, shared and not copied. Pointers have 64 bits in Go's wasm, the upper half
// of which is zero.
func Bytes(address, length uint32) []byte {
	if length == 0 {
		return []byte{}
	}
	return unsafe.Slice((*byte)(unsafe.Add(nil, address)), length)
}

// Record is where the host writes the answer to a call, laid out by the component model's canonical ABI. It is on the
// heap, since the host calls cabi_realloc before it writes there, and that may move the stack.
type Record []byte

// NewRecord is zeroed memory, aligned for every record.
func NewRecord(size int) Record {
	words := make([]uint64, (size+7)/8)
	return unsafe.Slice((*byte)(unsafe.Pointer(unsafe.SliceData(words))), size)
}

// Pointer is what the host is given.
func (r Record) Pointer() unsafe.Pointer { return unsafe.Pointer(unsafe.SliceData(r)) }

// U32 is a number, a handle, an address or a length.
func (r Record) U32(at int) uint32 { return binary.LittleEndian.Uint32(r[at:]) }

// U64 is a number.
func (r Record) U64(at int) uint64 { return binary.LittleEndian.Uint64(r[at:]) }

// Bytes is a list of bytes: the host's block, which is nobody else's.
func (r Record) Bytes(at int) []byte { return Bytes(r.U32(at), r.U32(at+4)) }

// Text is a text, which the host hands over as UTF-8.
func (r Record) Text(at int) string {
	bytes := r.Bytes(at)
	return unsafe.String(unsafe.SliceData(bytes), len(bytes))
}

// OptionalText is a text, and whether there is one.
func (r Record) OptionalText(at int) (string, bool) {
	if r[at] == 0 {
		return "", false
	}
	return r.Text(at + 4), true
}

// Flag says whether that byte is set.
func (r Record) Flag(at int) bool { return r[at] != 0 }

// List is a list of records of that size, each to be read before Receive returns.
func (r Record) List(at, size int) []Record {
	address, count := r.U32(at), r.U32(at+4)
	records := make([]Record, count)
	for i := range records {
		records[i] = Bytes(address+uint32(i*size), uint32(size))
	}
	return records
}

// Data is where bytes are, for a call to be given them.
func Data(bytes []byte) (unsafe.Pointer, uint32) {
	return unsafe.Pointer(unsafe.SliceData(bytes)), uint32(len(bytes))
}
