package main

import (
	"reflect"
	"testing"

	"wabbit"
)

func TestHandle(t *testing.T) {
	check := func(body string, expected wabbit.Outcome) {
		t.Helper()
		outcome, err := handle(&wabbit.Delivery{Body: []byte(body)})
		if err != nil || !reflect.DeepEqual(outcome, expected) {
			t.Errorf("%q: %+v, %v", body, outcome, err)
		}
	}
	check("Ada", wabbit.Ack().Publish(wabbit.NewPublication("", "greetings").Text("Hello, Ada!")))
	check("", wabbit.DeadLetter("there is nobody to greet"))
}
