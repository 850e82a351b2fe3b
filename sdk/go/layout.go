package wabbit

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"math"
	"time"
	"unicode/utf8"
	"unsafe"
)

// The records of sdk/wit/worker.wit as the component model's canonical ABI lays them out in a 32-bit memory: each
// field at the next multiple of its alignment, a text or list as address and length, an option or variant as a byte
// that says which case it is and then, aligned for the widest case, the value.
//
// Offsets within a record:
const (
	deliveryBody        = 0
	deliveryProperties  = 8
	deliveryExchange    = 144
	deliveryRoutingKey  = 152
	deliveryQueue       = 160
	deliveryRedelivered = 168
	deliveryAttempt     = 172
	deliverySize        = 176

	propertiesContentType     = 0
	propertiesContentEncoding = 12
	propertiesHeaders         = 24
	propertiesPersistent      = 32
	propertiesPriority        = 33
	propertiesCorrelationID   = 36
	propertiesReplyTo         = 48
	propertiesExpirationMS    = 60
	propertiesMessageID       = 68
	propertiesTimestamp       = 80
	propertiesKind            = 96
	propertiesUserID          = 108
	propertiesAppID           = 120
	propertiesSize            = 136

	headerName  = 0
	headerField = 8
	headerSize  = 24
	// A field's value is aligned for its 64-bit cases.
	fieldValue = 8

	publicationExchange   = 0
	publicationRoutingKey = 8
	publicationBody       = 16
	publicationProperties = 24
	publicationSize       = 160

	// result<outcome, string>: which of the two, then the outcome or the text.
	resultValue        = 4
	resultSettlement   = 4
	resultPublications = 16
	resultSize         = 24
	// A settlement's value: the option of a retry or the reason of a dead letter.
	settlementValue = 4
)

// The cases of a field.
const (
	fieldBoolean = iota
	fieldInteger
	fieldFloat
	fieldText
	fieldBinary
	fieldTimestamp
	fieldJSON
	fieldVoid
)

// memory is where the records are: the module's own, or a simulated one in tests.
type memory interface {
	// at is the bytes at that address, shared and not copied.
	at(address, length uint32) []byte
	// address is where those bytes are.
	address(bytes []byte) uint32
}

var little = binary.LittleEndian

type reader struct{ memory }

func (r reader) bytes(record []byte, offset int) []byte {
	return r.at(little.Uint32(record[offset:]), little.Uint32(record[offset+4:]))
}

// The host hands over texts that are UTF-8. They are shared with the block that it wrote, which nothing else writes.
func (r reader) text(record []byte, offset int) string {
	bytes := r.bytes(record, offset)
	return unsafe.String(unsafe.SliceData(bytes), len(bytes))
}

func (r reader) optionalText(record []byte, offset int) *string {
	if record[offset] == 0 {
		return nil
	}
	return new(r.text(record, offset+4))
}

func (r reader) delivery(address uint32) *Delivery {
	d := r.at(address, deliverySize)
	return &Delivery{
		Body:        r.bytes(d, deliveryBody),
		Properties:  r.properties(d[deliveryProperties:]),
		Exchange:    r.text(d, deliveryExchange),
		RoutingKey:  r.text(d, deliveryRoutingKey),
		Queue:       r.text(d, deliveryQueue),
		Redelivered: d[deliveryRedelivered] != 0,
		Attempt:     little.Uint32(d[deliveryAttempt:]),
	}
}

func (r reader) properties(p []byte) Properties {
	properties := Properties{
		ContentType:     r.optionalText(p, propertiesContentType),
		ContentEncoding: r.optionalText(p, propertiesContentEncoding),
		Headers:         r.headers(p),
		Persistent:      p[propertiesPersistent] != 0,
		CorrelationID:   r.optionalText(p, propertiesCorrelationID),
		ReplyTo:         r.optionalText(p, propertiesReplyTo),
		MessageID:       r.optionalText(p, propertiesMessageID),
		Type:            r.optionalText(p, propertiesKind),
		UserID:          r.optionalText(p, propertiesUserID),
		AppID:           r.optionalText(p, propertiesAppID),
	}
	if p[propertiesPriority] != 0 {
		properties.Priority = new(p[propertiesPriority+1])
	}
	if p[propertiesExpirationMS] != 0 {
		properties.ExpirationMS = new(little.Uint32(p[propertiesExpirationMS+4:]))
	}
	if p[propertiesTimestamp] != 0 {
		properties.Timestamp = new(little.Uint64(p[propertiesTimestamp+8:]))
	}
	return properties
}

func (r reader) headers(p []byte) Headers {
	count := little.Uint32(p[propertiesHeaders+4:])
	if count == 0 {
		return nil
	}
	records := r.at(little.Uint32(p[propertiesHeaders:]), count*headerSize)
	headers := make(Headers, count)
	for i := range headers {
		record := records[i*headerSize:]
		headers[i] = Header{r.text(record, headerName), r.field(record[headerField:])}
	}
	return headers
}

func (r reader) field(f []byte) any {
	switch f[0] {
	case fieldBoolean:
		return f[fieldValue] != 0
	case fieldInteger:
		return int64(little.Uint64(f[fieldValue:]))
	case fieldFloat:
		return math.Float64frombits(little.Uint64(f[fieldValue:]))
	case fieldText:
		return r.text(f, fieldValue)
	case fieldBinary:
		return r.bytes(f, fieldValue)
	case fieldTimestamp:
		return Timestamp(little.Uint64(f[fieldValue:]))
	case fieldJSON:
		return json.RawMessage(r.bytes(f, fieldValue))
	default:
		return nil
	}
}

// writer fills one area with the records of a result. Texts and bodies stay where they are: the records point to them.
type writer struct {
	memory
	area []byte
	used int
	err  error
}

// newArea is zeroed memory, aligned for every record.
func newArea(size int) []byte {
	words := make([]uint64, (size+7)/8)
	return unsafe.Slice((*byte)(unsafe.Pointer(unsafe.SliceData(words))), size)
}

// writeOutcome makes the result of an outcome. Errors: it cannot be carried by the contract.
func writeOutcome(m memory, outcome Outcome) ([]byte, error) {
	size := resultSize + len(outcome.Publications)*publicationSize
	for i := range outcome.Publications {
		size += len(outcome.Publications[i].Properties.Headers) * headerSize
	}
	w := &writer{memory: m, area: newArea(size)}
	result := w.take(resultSize)
	w.settlement(result[resultSettlement:], outcome.Settlement)
	records := w.list(result, resultPublications, len(outcome.Publications), publicationSize)
	for i := range outcome.Publications {
		w.publication(records[i*publicationSize:], &outcome.Publications[i])
	}
	return w.area, w.err
}

// writeFailure makes the result of a failure.
func writeFailure(m memory, text string) []byte {
	w := &writer{memory: m, area: newArea(resultSize)}
	w.area[0] = 1
	w.text(w.area, resultValue, text)
	return w.area
}

func (w *writer) take(size int) []byte {
	from := w.used
	w.used += size
	return w.area[from:w.used]
}

func (w *writer) list(record []byte, offset, count, size int) []byte {
	records := w.take(count * size)
	if count > 0 {
		little.PutUint32(record[offset:], w.address(records))
		little.PutUint32(record[offset+4:], uint32(count))
	}
	return records
}

func (w *writer) bytes(record []byte, offset int, bytes []byte) {
	if len(bytes) > 0 {
		little.PutUint32(record[offset:], w.address(bytes))
		little.PutUint32(record[offset+4:], uint32(len(bytes)))
	}
}

func (w *writer) text(record []byte, offset int, text string) {
	// A Go string may hold anything; the contract's is UTF-8, and the host would call it a bug of the guest.
	if !utf8.ValidString(text) {
		w.fail("%q is not UTF-8", text)
	}
	w.bytes(record, offset, unsafe.Slice(unsafe.StringData(text), len(text)))
}

func (w *writer) fail(format string, arguments ...any) {
	if w.err == nil {
		w.err = fmt.Errorf("the outcome cannot be carried out: "+format, arguments...)
	}
}

func (w *writer) optionalText(record []byte, offset int, text *string) {
	if text != nil {
		record[offset] = 1
		w.text(record, offset+4, *text)
	}
}

func (w *writer) settlement(record []byte, settlement Settlement) {
	record[0] = byte(settlement.Kind)
	switch settlement.Kind {
	case Acked, Requeued:
	case Retried:
		if settlement.DelayMS != nil {
			record[settlementValue] = 1
			little.PutUint32(record[settlementValue+4:], *settlement.DelayMS)
		}
	case DeadLettered:
		w.text(record, settlementValue, settlement.Reason)
	default:
		w.fail("there is no settlement %d", settlement.Kind)
	}
}

func (w *writer) publication(record []byte, p *Publication) {
	if p.err != nil && w.err == nil {
		w.err = p.err
	}
	w.text(record, publicationExchange, p.Exchange)
	w.text(record, publicationRoutingKey, p.RoutingKey)
	w.bytes(record, publicationBody, p.Body)
	w.properties(record[publicationProperties:], &p.Properties)
}

func (w *writer) properties(record []byte, p *Properties) {
	w.optionalText(record, propertiesContentType, p.ContentType)
	w.optionalText(record, propertiesContentEncoding, p.ContentEncoding)
	headers := w.list(record, propertiesHeaders, len(p.Headers), headerSize)
	for i, header := range p.Headers {
		w.text(headers[i*headerSize:], headerName, header.Name)
		w.field(headers[i*headerSize+headerField:], header)
	}
	if p.Persistent {
		record[propertiesPersistent] = 1
	}
	if p.Priority != nil {
		record[propertiesPriority], record[propertiesPriority+1] = 1, *p.Priority
	}
	w.optionalText(record, propertiesCorrelationID, p.CorrelationID)
	w.optionalText(record, propertiesReplyTo, p.ReplyTo)
	if p.ExpirationMS != nil {
		record[propertiesExpirationMS] = 1
		little.PutUint32(record[propertiesExpirationMS+4:], *p.ExpirationMS)
	}
	w.optionalText(record, propertiesMessageID, p.MessageID)
	if p.Timestamp != nil {
		record[propertiesTimestamp] = 1
		little.PutUint64(record[propertiesTimestamp+8:], *p.Timestamp)
	}
	w.optionalText(record, propertiesKind, p.Type)
	w.optionalText(record, propertiesUserID, p.UserID)
	w.optionalText(record, propertiesAppID, p.AppID)
}

func (w *writer) field(record []byte, header Header) {
	number := func(kind byte, bits uint64) {
		record[0] = kind
		little.PutUint64(record[fieldValue:], bits)
	}
	integer := func(n int64) { number(fieldInteger, uint64(n)) }
	natural := func(n uint64) {
		if n > math.MaxInt64 {
			w.fail("header %q is %d, more than a 64-bit integer of AMQP", header.Name, n)
		}
		integer(int64(n))
	}
	switch value := header.Value.(type) {
	case nil:
		record[0] = fieldVoid
	case bool:
		if value {
			record[fieldValue] = 1
		}
	case int64:
		integer(value)
	case int:
		integer(int64(value))
	case int32:
		integer(int64(value))
	case int16:
		integer(int64(value))
	case int8:
		integer(int64(value))
	case uint64:
		natural(value)
	case uint:
		natural(uint64(value))
	case uint32:
		natural(uint64(value))
	case uint16:
		natural(uint64(value))
	case uint8:
		natural(uint64(value))
	case float64:
		number(fieldFloat, math.Float64bits(value))
	case float32:
		number(fieldFloat, math.Float64bits(float64(value)))
	case string:
		record[0] = fieldText
		w.text(record, fieldValue, value)
	case json.RawMessage:
		record[0] = fieldJSON
		w.text(record, fieldValue, unsafe.String(unsafe.SliceData(value), len(value)))
	case []byte:
		record[0] = fieldBinary
		w.bytes(record, fieldValue, value)
	case Timestamp:
		number(fieldTimestamp, uint64(value))
	case time.Time:
		if value.Unix() < 0 {
			w.fail("header %q is a time before 1970", header.Name)
		}
		number(fieldTimestamp, uint64(value.Unix()))
	default:
		w.fail("header %q has a value of type %T", header.Name, value)
	}
}
