package wabbit

import (
	"encoding/json"
	"math"
	"reflect"
	"strings"
	"testing"
	"time"
	"unsafe"
)

// The offsets once more, by the rule that they follow: each field at the next multiple of its alignment.
func TestOffsets(t *testing.T) {
	type kind struct{ size, align int }
	up := func(offset, align int) int { return (offset + align - 1) / align * align }
	option := func(of kind) kind { return kind{up(up(1, of.align)+of.size, of.align), of.align} }
	record := func(name string, offsets []int, size int, fields ...kind) kind {
		t.Helper()
		at, align := 0, 1
		for i, field := range fields {
			at = up(at, field.align)
			if at != offsets[i] {
				t.Errorf("%s: field %d is at %d, not at %d", name, i, at, offsets[i])
			}
			at, align = at+field.size, max(align, field.align)
		}
		if up(at, align) != size {
			t.Errorf("%s has %d bytes, not %d", name, up(at, align), size)
		}
		return kind{size, align}
	}
	flag, text := kind{1, 1}, kind{8, 4}
	optional, u32, u64 := option(text), kind{4, 4}, kind{8, 8}
	field := record("field", []int{0, fieldValue}, 16, flag, u64)
	record("header", []int{headerName, headerField}, headerSize, text, field)
	properties := record("properties", []int{
		propertiesContentType, propertiesContentEncoding, propertiesHeaders, propertiesPersistent, propertiesPriority,
		propertiesCorrelationID, propertiesReplyTo, propertiesExpirationMS, propertiesMessageID, propertiesTimestamp,
		propertiesKind, propertiesUserID, propertiesAppID,
	}, propertiesSize, optional, optional, kind{8, 4}, flag, option(flag), optional, optional, option(u32), optional,
		option(u64), optional, optional, optional)
	// The headers, of 8 bytes aligned for 4, are aligned for 8 by what goes before; what they point to is, too.
	properties.align = 8
	record("delivery", []int{
		deliveryBody, deliveryProperties, deliveryExchange, deliveryRoutingKey, deliveryQueue, deliveryRedelivered,
		deliveryAttempt,
	}, deliverySize, text, properties, text, text, text, flag, u32)
	record("publication", []int{
		publicationExchange, publicationRoutingKey, publicationBody, publicationProperties,
	}, publicationSize, text, text, text, properties)
	settlement := record("settlement", []int{0, settlementValue}, 12, flag, text)
	outcome := record("outcome", []int{0, resultPublications - resultValue}, 20, settlement, text)
	record("result", []int{0, resultValue}, resultSize, flag, outcome)
}

// simulated is a memory in which a block gets its address when somebody asks for it.
type simulated struct {
	blocks map[uint32][]byte
	next   uint32
}

func (s *simulated) address(bytes []byte) uint32 {
	s.next = (s.next+7)&^7 + 8
	at := s.next
	s.blocks[at] = bytes
	s.next += uint32(len(bytes))
	return at
}

func (s *simulated) at(address, length uint32) []byte {
	if length == 0 {
		return []byte{}
	}
	return s.blocks[address][:length]
}

func everything() Properties {
	return Properties{
		ContentType:     new(""),
		ContentEncoding: new("gzip"),
		Headers: Headers{
			{"yes", true}, {"no", false},
			{"least", int64(math.MinInt64)}, {"most", int64(math.MaxInt64)},
			{"float", 1.5}, {"infinite", math.Inf(-1)},
			{"text", "tëxt"}, {"empty", ""}, {"", "nameless"},
			{"binary", []byte{0, 255}},
			{"timestamp", Timestamp(math.MaxUint64)},
			{"json", json.RawMessage(`{"a":[1]}`)},
			{"void", nil},
		},
		Persistent:    true,
		Priority:      new(uint8(0)),
		CorrelationID: new("c"),
		ReplyTo:       new("r"),
		ExpirationMS:  new(uint32(math.MaxUint32)),
		MessageID:     new("m"),
		Timestamp:     new(uint64(math.MaxUint64)),
		Type:          new("t"),
		UserID:        new("u"),
		AppID:         new("ключ"),
	}
}

func TestPropertiesThereAndBack(t *testing.T) {
	for _, properties := range []Properties{{}, everything()} {
		m := &simulated{blocks: map[uint32][]byte{}}
		area, err := writeOutcome(m, Ack().Publish(Publication{}, Publication{Properties: properties}))
		if err != nil {
			t.Fatal(err)
		}
		second := area[resultSize+publicationSize:]
		if back := (reader{m}).properties(second[publicationProperties:]); !reflect.DeepEqual(back, properties) {
			t.Errorf("%+v came back as %+v", properties, back)
		}
	}
}

func TestDelivery(t *testing.T) {
	m := &simulated{blocks: map[uint32][]byte{}}
	record := newArea(deliverySize)
	w := writer{memory: m, area: newArea(len(everything().Headers) * headerSize)}
	w.bytes(record, deliveryBody, []byte{255, 0})
	w.properties(record[deliveryProperties:], new(everything()))
	w.text(record, deliveryExchange, "e")
	w.text(record, deliveryRoutingKey, "k.ä")
	w.text(record, deliveryQueue, "")
	record[deliveryRedelivered] = 1
	little.PutUint32(record[deliveryAttempt:], math.MaxUint32)
	expected := &Delivery{
		Body: []byte{255, 0}, Properties: everything(), Exchange: "e", RoutingKey: "k.ä", Redelivered: true,
		Attempt: math.MaxUint32,
	}
	if got := (reader{m}).delivery(m.address(record)); !reflect.DeepEqual(got, expected) {
		t.Errorf("%+v, not %+v", got, expected)
	}
}

func TestResults(t *testing.T) {
	check := func(outcome Outcome, expected ...byte) {
		t.Helper()
		m := &simulated{blocks: map[uint32][]byte{}}
		area, err := writeOutcome(m, outcome)
		if err != nil || !reflect.DeepEqual(area[:resultPublications], append(expected, make([]byte, 16-len(expected))...)) {
			t.Errorf("%v gave %v, %v", outcome, area, err)
		}
	}
	check(Ack())
	check(Requeue(), 0, 0, 0, 0, 1)
	check(Retry(), 0, 0, 0, 0, 2)
	check(RetryAfter(0), 0, 0, 0, 0, 2, 0, 0, 0, 1)
	check(RetryAfter(500*time.Millisecond), 0, 0, 0, 0, 2, 0, 0, 0, 1, 0, 0, 0, 0xf4, 1)
	check(DeadLetter("why"), 0, 0, 0, 0, 3, 0, 0, 0, 8, 0, 0, 0, 3)
	m := &simulated{blocks: map[uint32][]byte{}}
	failure := writeFailure(m, "broke")
	if failure[0] != 1 || (reader{m}).text(failure, resultValue) != "broke" {
		t.Errorf("a failure is %v", failure)
	}
}

func TestAreasAreAligned(t *testing.T) {
	for size := range 64 {
		if area := newArea(size); len(area) != size || uintptr(unsafe.Pointer(unsafe.SliceData(area)))%8 != 0 {
			t.Errorf("an area of %d bytes has %d at %p", size, len(area), area)
		}
	}
}

func TestPublishedNumbersAndTimes(t *testing.T) {
	for value, expected := range map[any]any{
		int(-1): int64(-1), int32(-2): int64(-2), int16(-3): int64(-3), int8(-4): int64(-4),
		uint(1): int64(1), uint64(math.MaxInt64): int64(math.MaxInt64), uint32(2): int64(2), uint16(3): int64(3),
		uint8(4): int64(4), float32(0.5): 0.5, time.Unix(7, 9): Timestamp(7),
	} {
		m := &simulated{blocks: map[uint32][]byte{}}
		w := writer{memory: m}
		record := make([]byte, 16)
		w.field(record, Header{"n", value})
		if got := (reader{m}).field(record); w.err != nil || got != expected {
			t.Errorf("%T %v became %T %v, %v", value, value, got, got, w.err)
		}
	}
}

func TestWhatCannotBeCarriedIsAFailure(t *testing.T) {
	plain := NewPublication("", "key")
	for text, publication := range map[string]Publication{
		`"\xff" is not UTF-8`:                          NewPublication("", "\xff"),
		`header "n" is 9223372036854775808`:            plain.Header("n", uint64(math.MaxInt64)+1),
		`header "n" has a value of type []string`:      plain.Header("n", []string{"a"}),
		`header "n" is a time before 1970`:             plain.Header("n", time.Unix(-1, 0)),
		`with routing key "key": json: unsupported ty`: plain.JSON(make(chan int)),
	} {
		_, err := writeOutcome(&simulated{blocks: map[uint32][]byte{}}, Ack().Publish(plain, publication))
		if err == nil || !strings.Contains(err.Error(), text) {
			t.Errorf("%v, not %s", err, text)
		}
	}
}
