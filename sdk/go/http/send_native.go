//go:build !wasip1

package http

import "fmt"

func send(r *Request) (*Response, error) {
	if _, ok := parts(r.URL); !ok {
		return nil, malformed("its URL")
	}
	if answering == nil {
		return nil, fmt.Errorf("%w: nobody answers; a test says how, by http.Answer", ErrConnection)
	}
	return answering(*r)
}
