package wabbit

import "time"

// Properties are the basic properties of AMQP 0-9-1. A nil pointer is a property that is not set, which differs from
// an empty one; `new("text")` makes one that is. Texts hold at most 255 bytes each.
type Properties struct {
	ContentType     *string
	ContentEncoding *string
	Headers         Headers
	// Persistent messages survive a restart of the broker in a durable queue.
	Persistent bool
	// Priority: higher is delivered first, in queues declared with priorities.
	Priority *uint8
	// CorrelationID says which request a reply belongs to.
	CorrelationID *string
	// ReplyTo is the queue that a reply is to be sent to, through the default exchange.
	ReplyTo *string
	// ExpirationMS is after how many milliseconds the message expires in its queue.
	ExpirationMS *uint32
	MessageID    *string
	// Timestamp counts seconds since the Unix epoch.
	Timestamp *uint64
	// Type is AMQP's `type`.
	Type *string
	// UserID is who published the message, checked by the broker.
	UserID *string
	AppID  *string
}

// Headers are a message's headers in their order. A received value is one of
//
//	bool
//	int64
//	float64
//	string           UTF-8
//	[]byte           a byte array, or a long string that is not UTF-8
//	Timestamp
//	json.RawMessage  a decimal, nested table or array
//	nil              AMQP's void
//
// A published value may be any other integer, a float32 or a [time.Time] as well.
type Headers []Header

// Header is a name with its value. Names are case-sensitive, and those that start with `x-wabbit-` are the host's.
type Header struct {
	Name  string
	Value any
}

// Timestamp counts seconds since the Unix epoch.
type Timestamp uint64

// Time is the timestamp in UTC.
func (t Timestamp) Time() time.Time { return time.Unix(int64(t), 0).UTC() }

// Get is the value of the first header of that name. It is false where there is none.
func (h Headers) Get(name string) (any, bool) {
	for _, header := range h {
		if header.Name == name {
			return header.Value, true
		}
	}
	return nil, false
}

// With is these headers with one more, or with that value in place of an earlier one. The receiver is left as it is.
func (h Headers) With(name string, value any) Headers {
	with := make(Headers, len(h), len(h)+1)
	copy(with, h)
	for i := range with {
		if with[i].Name == name {
			with[i].Value = value
			return with
		}
	}
	return append(with, Header{name, value})
}
