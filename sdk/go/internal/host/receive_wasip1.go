package host

import "runtime/debug"

// Receive runs a call whose answer has texts, lists or bytes in it, and then what reads that answer. The host asks
// cabi_realloc for memory in the middle of the call, and the collector must keep still meanwhile. What the answer holds
// is to be read before Receive returns: by then nothing else points to it.
func Receive(call func()) {
	StopCollector()
	call()
	Release()
	debug.SetGCPercent(gcPercent)
}
