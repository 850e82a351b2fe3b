package wabbit

import (
	"encoding/json"
	"errors"
	"fmt"
	"unicode/utf8"
)

// Delivery is a message as the broker delivered it. Tests make their own:
//
//	d := &wabbit.Delivery{Body: []byte("Ada"), RoutingKey: "hello"}
type Delivery struct {
	// Body is the body, whatever it is. Text and JSON read it.
	Body []byte
	// Properties are the basic properties, headers included.
	Properties Properties
	// Exchange is the one that the message was published to. Empty is the default exchange.
	Exchange string
	// RoutingKey is the one that the message was published with.
	RoutingKey string
	// Queue is the one that the message was consumed from.
	Queue string
	// Redelivered says whether the broker may have delivered it before.
	Redelivered bool
	// Attempt is 1 on the first try, and one more for each recorded failure.
	Attempt uint32
}

// Text reads the body as UTF-8. The error for a body that is not UTF-8 is a [DeadLetterError].
func (d *Delivery) Text() (string, error) {
	if valid := validPrefix(d.Body); valid < len(d.Body) {
		return "", DeadLetterError(fmt.Errorf("the body is not UTF-8 text: see byte %d", valid))
	}
	return string(d.Body), nil
}

// validPrefix is how many bytes of b are UTF-8.
func validPrefix(b []byte) int {
	if utf8.Valid(b) {
		return len(b)
	}
	at := 0
	for at < len(b) {
		r, size := utf8.DecodeRune(b[at:])
		if r == utf8.RuneError && size <= 1 {
			break
		}
		at += size
	}
	return at
}

// JSON reads the body into what v points to, as [json.Unmarshal] does. The error for a body that cannot be read is a
// [DeadLetterError]: it would be no better the next time.
func (d *Delivery) JSON(v any) error {
	err := json.Unmarshal(d.Body, v)
	if err == nil {
		return nil
	}
	where := ""
	if syntax, ok := errors.AsType[*json.SyntaxError](err); ok {
		where = fmt.Sprintf(" at byte %d", syntax.Offset)
	}
	return DeadLetterError(fmt.Errorf("the body is not the JSON expected: %w%s", err, where))
}

// Header is the value of that header, of the types that [Headers] lists; nil where there is none. Names are
// case-sensitive.
//
//	tenant, ok := d.Header("tenant").(string)
func (d *Delivery) Header(name string) any {
	value, _ := d.Properties.Headers.Get(name)
	return value
}

// Reply is a publication to the delivery's reply-to queue through the default exchange, with its correlation id. It is
// false where the delivery has no reply-to, and so nobody waits for one. The manifest grants replies as "reply".
func (d *Delivery) Reply() (Publication, bool) {
	if d.Properties.ReplyTo == nil {
		return Publication{}, false
	}
	reply := NewPublication("", *d.Properties.ReplyTo)
	reply.Properties.CorrelationID = d.Properties.CorrelationID
	return reply, true
}
