package http

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"
)

// Response is what came back.
type Response struct {
	// Status is one such as 200.
	Status int
	// Headers have their names in lower case.
	Headers Headers
	// Body is the whole of it.
	Body []byte
}

// Headers are names and values, in their order.
type Headers []Header

// Header is one of them.
type Header struct{ Name, Value string }

// Get is the first value of that name, in whatever case. It is false where there is none.
func (h Headers) Get(name string) (string, bool) {
	for _, header := range h {
		if strings.EqualFold(header.Name, name) {
			return header.Value, true
		}
	}
	return "", false
}

// Header is the first header of that name, in whatever case; empty where there is none.
func (r *Response) Header(name string) string {
	value, _ := r.Headers.Get(name)
	return value
}

// Err is a [*StatusError] where the status is none of 200 to 299, and nil where it is.
func (r *Response) Err() error {
	if r.Status >= 200 && r.Status < 300 {
		return nil
	}
	text := strings.TrimSpace(strings.ToValidUTF8(string(r.Body[:min(len(r.Body), shownBytesMax)]), "\uFFFD"))
	return &StatusError{r.Status, text}
}

// Text is the body as UTF-8.
func (r *Response) Text() (string, error) {
	if !utf8.Valid(r.Body) {
		return "", errors.New("the response is not UTF-8")
	}
	return string(r.Body), nil
}

// JSON reads the body into what v points to, as [json.Unmarshal] does.
func (r *Response) JSON(v any) error {
	if err := json.Unmarshal(r.Body, v); err != nil {
		return fmt.Errorf("the response is not the JSON expected: %w", err)
	}
	return nil
}

// How much of a body goes into an error.
const shownBytesMax = 200

// The errors of a request. As the error of a handler they are failures, which the manifest lets try again.
var (
	// ErrNotGranted: the manifest does not list the origin, or its address is of a network that it does not list.
	ErrNotGranted = errors.New("not granted by the manifest's `[grant] http`")
	// ErrRequest: the request has no form that could be sent.
	ErrRequest = errors.New("the request cannot be sent")
	// ErrConnection: the server cannot be found or reached.
	ErrConnection = errors.New("no connection")
	// ErrTimeout: somebody took too long.
	ErrTimeout = errors.New("timeout")
	// ErrTooLarge: the body of the request or of the response is larger than the host allows.
	ErrTooLarge = errors.New("too large")
)

// StatusError is the error of a response, see [Response.Err].
type StatusError struct {
	Status int
	// Text is how the body begins.
	Text string
}

func (e *StatusError) Error() string {
	text := fmt.Sprintf("the server answered %d", e.Status)
	if e.Text != "" {
		text += ": " + e.Text
	}
	return text
}

// failure is an error with the host's text that is one of the kinds above.
type failure struct {
	kind error
	text string
}

func (f *failure) Error() string { return f.text }

func (f *failure) Unwrap() error { return f.kind }

func malformed(what string) error { return fmt.Errorf("%w for %s", ErrRequest, what) }

var answering func(Request) (*Response, error)

// Answer answers the requests of a test until its end, or until it is called again. Tests that run in parallel share
// it. In a plugin it does nothing.
//
//	http.Answer(t, func(r http.Request) (*http.Response, error) {
//		return &http.Response{Status: 200, Body: []byte(`{"euro": 0.9}`)}, nil
//	})
func Answer(t interface{ Cleanup(func()) }, answer func(Request) (*Response, error)) {
	before := answering
	answering = answer
	t.Cleanup(func() { answering = before })
}
