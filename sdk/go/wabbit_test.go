package wabbit

import (
	"errors"
	"fmt"
	"reflect"
	"testing"
	"time"
)

func TestAnswers(t *testing.T) {
	defer func() { handler = nil }()
	check := func(give Outcome, err error, outcome Outcome, failure string) {
		t.Helper()
		handler = func(*Delivery) (Outcome, error) { return give, err }
		got, text, ok := answer(&Delivery{})
		if !reflect.DeepEqual(got, outcome) || text != failure || ok != (failure == "") {
			t.Errorf("%v, %v gave %v, %q, %v", give, err, got, text, ok)
		}
	}
	done := Ack().Publish(NewPublication("", "key"))
	broken := errors.New("broke")
	check(done, nil, done, "")
	check(done, broken, Outcome{}, "broke")
	check(done, DeadLetterError(broken), DeadLetter("broke"), "")
	check(done, fmt.Errorf("order 7: %w", DeadLetterError(broken)), DeadLetter("order 7: broke"), "")
	check(done, errors.New("a\xff"), Outcome{}, "a\uFFFD")
	handler = nil
	if _, text, ok := answer(&Delivery{}); ok || text != "no handler: no init function calls wabbit.Handle" {
		t.Error(text)
	}
}

func TestDeadLetterErrorsWrapTheirCause(t *testing.T) {
	cause := errors.New("cause")
	if !errors.Is(DeadLetterError(cause), cause) || DeadLetterError(nil) != nil {
		t.Error("the cause is lost")
	}
}

func TestBodies(t *testing.T) {
	type order struct{ ID int }
	check := func(body, text, textError, jsonError string) {
		t.Helper()
		d := &Delivery{Body: []byte(body)}
		got, err := d.Text()
		if got != text || fmt.Sprint(err) != textError {
			t.Errorf("%q is the text %q, %v", body, got, err)
		}
		if err := d.JSON(new(order)); fmt.Sprint(err) != jsonError {
			t.Errorf("%q is JSON with %v", body, err)
		}
	}
	const notJSON, notText = "the body is not the JSON expected: ", "the body is not UTF-8 text: see byte "
	check(`{"ID": 7}`, `{"ID": 7}`, "<nil>", "<nil>")
	check("", "", "<nil>", notJSON+"unexpected end of JSON input at byte 0")
	check("hä", "hä", "<nil>", notJSON+"invalid character 'h' looking for beginning of value at byte 1")
	check("h\xffa", "", notText+"1", notJSON+"invalid character 'h' looking for beginning of value at byte 1")
	check("h\uFFFD\xed\xa0\x80", "", notText+"4", notJSON+"invalid character 'h' looking for beginning of value at byte 1")
	check(`{"ID": "x"}`, `{"ID": "x"}`, "<nil>",
		notJSON+"json: cannot unmarshal string into Go struct field order.ID of type int")
	_, err := (&Delivery{Body: []byte{255}}).Text()
	if dead := new(deadLetterError); !errors.As(err, &dead) {
		t.Error("a body that is not UTF-8 is no dead letter")
	}
}

func TestReplies(t *testing.T) {
	if _, ok := (&Delivery{}).Reply(); ok {
		t.Error("a reply that nobody waits for")
	}
	d := &Delivery{Properties: Properties{ReplyTo: new("answers"), CorrelationID: new("7")}}
	reply, ok := d.Reply()
	if expected := NewPublication("", "answers").CorrelationID("7"); !ok || !reflect.DeepEqual(reply, expected) {
		t.Errorf("%v, %v", reply, ok)
	}
}

func TestHeaders(t *testing.T) {
	one := NewPublication("", "").Header("Tenant", "acme")
	two := one.Header("Tenant", "emca").Header("n", 1)
	if expected := (Headers{{"Tenant", "acme"}}); !reflect.DeepEqual(one.Properties.Headers, expected) {
		t.Errorf("the first publication changed to %v", one.Properties.Headers)
	}
	if expected := (Headers{{"Tenant", "emca"}, {"n", 1}}); !reflect.DeepEqual(two.Properties.Headers, expected) {
		t.Errorf("%v", two.Properties.Headers)
	}
	d := &Delivery{Properties: Properties{Headers: Headers{{"Tenant", "acme"}, {"void", nil}}}}
	if d.Header("Tenant") != "acme" || d.Header("tenant") != nil {
		t.Error("names are case-sensitive")
	}
	if _, ok := d.Properties.Headers.Get("void"); !ok {
		t.Error("a void header is there")
	}
}

func TestPublicationsSetTheContentType(t *testing.T) {
	text := NewPublication("x", "k").Text("hällo").Persistent().ReplyTo("q")
	expected := Publication{Exchange: "x", RoutingKey: "k", Body: []byte("hällo"), Properties: Properties{
		ContentType: new("text/plain"), Persistent: true, ReplyTo: new("q"),
	}}
	if !reflect.DeepEqual(text, expected) {
		t.Errorf("%v", text)
	}
	json := NewPublication("", "k").JSON(map[string]int{"a": 1})
	if string(json.Body) != `{"a":1}` || *json.Properties.ContentType != "application/json" || json.Err() != nil {
		t.Errorf("%v", json)
	}
}

func TestOutcomesShareNothing(t *testing.T) {
	one := Ack().Publish(NewPublication("", "1"))
	two, three := one.Publish(NewPublication("", "2")), one.Publish(NewPublication("", "3"))
	if len(one.Publications) != 1 || two.Publications[1].RoutingKey != "2" || three.Publications[1].RoutingKey != "3" {
		t.Error(one, two, three)
	}
}

func TestDelaysAreBounded(t *testing.T) {
	for delay, ms := range map[time.Duration]uint32{
		-time.Second: 0, 1500 * time.Microsecond: 1, time.Second: 1000, 1e9 * time.Second: 1<<32 - 1,
	} {
		if got := *RetryAfter(delay).Settlement.DelayMS; got != ms {
			t.Errorf("%v is %d ms", delay, got)
		}
	}
}
