// Package wabbit is what a handler for wabbit is written with: one function from a delivery to an outcome.
//
//	package main
//
//	import "wabbit"
//
//	func init() { wabbit.Handle(handle) }
//
//	func main() {}
//
//	func handle(d *wabbit.Delivery) (wabbit.Outcome, error) {
//		name, err := d.Text()
//		if err != nil {
//			return wabbit.Outcome{}, err
//		}
//		return wabbit.Ack().Publish(wabbit.NewPublication("", "greetings").Text("Hello, " + name + "!")), nil
//	}
//
// An error is a failure: nothing is published, and the manifest's failure policy decides about retries. Only an error
// of [DeadLetterError], and so one of [Delivery.Text] or [Delivery.JSON], sends the delivery to the dead-letter queue.
package wabbit

import (
	"errors"
	"strings"
)

// Handler answers a delivery.
type Handler func(*Delivery) (Outcome, error)

var handler Handler

// Handle names the handler of this plugin. It must be called once, by an init function: main is not run in a plugin.
func Handle(h Handler) {
	if handler != nil {
		panic("wabbit.Handle was called twice")
	}
	handler = h
}

// answer calls the handler. What it gives is an outcome, or else the text of a failure.
func answer(d *Delivery) (outcome Outcome, failure string, ok bool) {
	if handler == nil {
		return Outcome{}, "no handler: no init function calls wabbit.Handle", false
	}
	outcome, err := handler(d)
	if err == nil {
		return outcome, "", true
	}
	// Error texts may quote the message, and so hold anything.
	text := strings.ToValidUTF8(err.Error(), "\uFFFD")
	var dead *deadLetterError
	if errors.As(err, &dead) {
		return DeadLetter(text), "", true
	}
	return Outcome{}, text, false
}

// DeadLetterError makes an error that another try would not mend: the delivery goes to the dead-letter queue, with the
// error's text as the reason. It may be wrapped.
func DeadLetterError(err error) error {
	if err == nil {
		return nil
	}
	return &deadLetterError{err}
}

type deadLetterError struct{ error }

func (e *deadLetterError) Unwrap() error { return e.error }
