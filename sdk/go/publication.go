package wabbit

import (
	"encoding/json"
	"fmt"
)

// Publication is a message to be published. The manifest grants exchanges and routing keys; publishing elsewhere is a
// failure of the delivery. What has no method here is set in Properties.
type Publication struct {
	// Exchange is empty for the default exchange, which routes to the queue that the routing key names.
	Exchange string
	// RoutingKey holds at most 255 bytes.
	RoutingKey string
	Body       []byte
	Properties Properties

	err error
}

// NewPublication is an empty, transient message to that exchange with that routing key.
func NewPublication(exchange, routingKey string) Publication {
	return Publication{Exchange: exchange, RoutingKey: routingKey}
}

// Bytes sets the body, and leaves the content type as it is. The bytes are not copied: leave them alone afterwards.
func (p Publication) Bytes(body []byte) Publication {
	p.Body = body
	return p
}

// Text sets the body to that text, and the content type to text/plain.
func (p Publication) Text(text string) Publication {
	return p.Bytes([]byte(text)).ContentType("text/plain")
}

// JSON sets the body to v as JSON, as [json.Marshal] writes it, and the content type to application/json. Where v has
// no JSON form, such as a channel or a float that is not finite, the delivery fails when it is answered with this
// publication; Err tells.
func (p Publication) JSON(v any) Publication {
	body, err := json.Marshal(v)
	if err != nil {
		p.err = fmt.Errorf("cannot publish to exchange %q with routing key %q: %w", p.Exchange, p.RoutingKey, err)
		return p
	}
	return p.Bytes(body).ContentType("application/json")
}

// Err is why the publication cannot be published: what JSON could not write.
func (p Publication) Err() error { return p.err }

// ContentType sets the MIME type of the body.
func (p Publication) ContentType(contentType string) Publication {
	p.Properties.ContentType = &contentType
	return p
}

// Header sets one header, in place of an earlier one of that name. The types of values are those of [Headers].
func (p Publication) Header(name string, value any) Publication {
	p.Properties.Headers = p.Properties.Headers.With(name, value)
	return p
}

// Persistent lets the message survive a restart of the broker, in a durable queue.
func (p Publication) Persistent() Publication {
	p.Properties.Persistent = true
	return p
}

// CorrelationID says which request this message belongs to. [Delivery.Reply] sets it by itself.
func (p Publication) CorrelationID(id string) Publication {
	p.Properties.CorrelationID = &id
	return p
}

// ReplyTo sets the queue that replies are to be sent to, through the default exchange.
func (p Publication) ReplyTo(queue string) Publication {
	p.Properties.ReplyTo = &queue
	return p
}
