package wabbit

import (
	"math"
	"time"
)

// Outcome is the answer to a delivery: what is to be published, and then what becomes of the delivery. Its zero value
// is an ack that publishes nothing.
type Outcome struct {
	Settlement Settlement
	// Publications are published and confirmed, whatever the settlement, before it is carried out.
	Publications []Publication
}

// Settlement is what becomes of a delivery once every publication is confirmed. All but Acked are nacks.
type Settlement struct {
	Kind SettlementKind
	// DelayMS is after how many milliseconds a retry comes; nil leaves it to the manifest's backoff.
	DelayMS *uint32
	// Reason is that of a dead letter.
	Reason string
}

// SettlementKind is which of the settlements it is.
type SettlementKind uint8

// The settlements, in the order of the contract.
const (
	Acked SettlementKind = iota
	Requeued
	Retried
	DeadLettered
)

// Ack is done: the broker forgets the delivery.
func Ack() Outcome { return Outcome{} }

// Requeue puts the delivery back on its queue at once, for whoever takes it next; after a pause where it came back
// before.
func Requeue() Outcome { return Outcome{Settlement: Settlement{Kind: Requeued}} }

// Retry has the delivery come again after the manifest's backoff.
func Retry() Outcome { return Outcome{Settlement: Settlement{Kind: Retried}} }

// RetryAfter has the delivery come again after that time, in whole milliseconds. The host takes 100 ms to 7 days.
func RetryAfter(delay time.Duration) Outcome {
	ms := uint32(min(max(delay.Milliseconds(), 0), math.MaxUint32))
	return Outcome{Settlement: Settlement{Kind: Retried, DelayMS: &ms}}
}

// DeadLetter sends the delivery to the dead-letter queue, with this reason.
func DeadLetter(reason string) Outcome {
	return Outcome{Settlement: Settlement{Kind: DeadLettered, Reason: reason}}
}

// Publish adds messages to be published, after those already added. They are published whatever the settlement: with
// a requeue or a retry, again at each attempt.
func (o Outcome) Publish(publications ...Publication) Outcome {
	all := make([]Publication, 0, len(o.Publications)+len(publications))
	o.Publications = append(append(all, o.Publications...), publications...)
	return o
}
