package host

import (
	"runtime"
	"runtime/debug"
	"runtime/metrics"
)

// When garbage is collected.
//
// While the host lowers a delivery, and in the post-return function, a component must not call out. Go's collector
// does: it reads the clock. So it is on only while the handler runs. The blocks that the host writes into are ordinary
// memory of Go's heap, which the collector frees once the handler is done with them.
//
// In a fresh instance with a small message nothing is ever collected. A reused one, or one with a large body, collects
// before the handler runs, when enough has piled up; the runtime's own pace is for handlers that use much themselves.

const (
	gcPercent = 100
	gcOff     = -1
	// How much the heap may grow between two collections, at least. It is less than what Go's own pace allows to a small
	// heap, 4 MiB: a collection that begins in the middle of a call costs two, see StopCollector.
	growthMin = 2 << 20
)

var (
	// Whether an earlier call was handled by this instance.
	reused bool
	// The heap after the last collection, without the delivery that was being handled.
	liveBytes uint64
	heap      = []metrics.Sample{{Name: "/memory/classes/heap/objects:bytes"}}
	stats     debug.GCStats
)

func init() {
	debug.SetGCPercent(gcOff)
}

// heapBytes is how much memory objects take, garbage included.
func heapBytes() uint64 {
	metrics.Read(heap)
	return heap[0].Value.Uint64()
}

// StartCollector lets the runtime collect, before a delivery is handled, and does so itself where enough has piled up.
func StartCollector() {
	debug.SetGCPercent(gcPercent)
	// The first look at the metrics is a slow one, which a fresh instance need not take.
	grown := lentBytes
	if reused {
		grown = heapBytes() - min(liveBytes, heapBytes())
	}
	if grown >= max(growthMin, liveBytes/2) {
		runtime.GC()
		liveBytes = heapBytes() - lentBytes
	}
	reused = true
}

// StopCollector returns when no collection is under way, and none will begin.
func StopCollector() {
	before := collections()
	debug.SetGCPercent(gcOff)
	if collections() == before {
		return
	}
	// One was under way and ended while the collector was off. The runtime has now taken the goal of that time, which
	// is no goal at all, for the base of its next decisions, and would give memory back (another thing that reads the
	// clock) as soon as the heap grows. One whole collection at the right pace puts that right.
	debug.SetGCPercent(gcPercent)
	runtime.GC()
	debug.SetGCPercent(gcOff)
	liveBytes = heapBytes()
}

func collections() int64 {
	debug.ReadGCStats(&stats)
	return stats.NumGC
}
