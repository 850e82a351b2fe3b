// Package http sends requests to the origins that the manifest's `[grant] http` lists.
//
//	response, err := http.Get("https://rates.example.com/usd")
//	if err != nil {
//		return wabbit.Outcome{}, err
//	}
//	if err := response.Err(); err != nil {
//		return wabbit.Outcome{}, err
//	}
//	var rate Rate
//	if err := response.JSON(&rate); err != nil {
//		return wabbit.Outcome{}, err
//	}
//
// A request takes place at once, not with the settlement: a delivery that is tried again sends it again. Redirects are
// not followed; the response says where it points to in its header location.
//
// It is much smaller than net/http, which cannot connect from inside a plugin. In tests, [Answer] says what comes back.
package http

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"
)

// Request is a request to be sent.
type Request struct {
	// Method is one such as GET.
	Method string
	// URL is https://HOST/PATH?QUERY, or http://…. What has a meaning there is written as %xx.
	URL string
	// Headers are the request's own; host and what concerns the connection is the host's to say.
	Headers Headers
	// Body is empty for none.
	Body []byte
	// Timeout is how long each of connecting, waiting for the response and waiting for its next part may take; zero for
	// no other than the host's limits. The delivery's time bounds it all.
	Timeout time.Duration

	err error
}

// Get gets that URL, and waits for the whole response.
func Get(url string) (*Response, error) { return NewRequest("GET", url).Send() }

// NewRequest is a request with that method, without a body.
func NewRequest(method, url string) Request { return Request{Method: method, URL: url} }

// Query adds a parameter to the URL's query, whatever signs are in it.
func (r Request) Query(name, value string) Request {
	sign := "?"
	if strings.Contains(r.URL, "?") {
		sign = "&"
	}
	r.URL += sign + escape(name) + "=" + escape(value)
	return r
}

// Header adds a header.
func (r Request) Header(name, value string) Request {
	r.Headers = append(r.Headers[:len(r.Headers):len(r.Headers)], Header{name, value})
	return r
}

// Bearer adds the header authorization with that token.
func (r Request) Bearer(token string) Request { return r.Header("authorization", "Bearer "+token) }

// Bytes sets the body, and leaves the content type as it is.
func (r Request) Bytes(body []byte) Request {
	r.Body = body
	return r
}

// Text sets the body to that text, with its content type.
func (r Request) Text(text string) Request {
	return r.Bytes([]byte(text)).Header("content-type", "text/plain; charset=utf-8")
}

// JSON sets the body to v as JSON, as [json.Marshal] writes it, with its content type. Where v has no JSON form, Send
// says so.
func (r Request) JSON(v any) Request {
	body, err := json.Marshal(v)
	if err != nil {
		r.err = err
		return r
	}
	return r.Bytes(body).Header("content-type", "application/json")
}

// Within sets the timeout.
func (r Request) Within(timeout time.Duration) Request {
	r.Timeout = timeout
	return r
}

// Send sends it, and waits for the whole response, whatever its status. The error is one of those that this package
// names, as [errors.Is] tells: it is not granted, nobody answers in time, or the response is larger than the host
// allows.
func (r Request) Send() (*Response, error) {
	if r.err != nil {
		return nil, fmt.Errorf("%w for its body: %w", ErrRequest, r.err)
	}
	response, err := send(&r)
	if err != nil {
		// Without path and query, which may hold what is nobody's business.
		place, _ := parts(r.URL)
		return nil, fmt.Errorf("%s %s: %w", r.Method, place.origin(), err)
	}
	return response, nil
}

// What a URL says a request is made of.
type target struct{ scheme, authority, path string }

func (t target) origin() string {
	if t.authority == "" {
		return "a URL that is none"
	}
	return t.scheme + "://" + t.authority
}

func parts(url string) (target, bool) {
	scheme, rest, _ := strings.Cut(url, "://")
	scheme = strings.ToLower(scheme)
	rest, _, _ = strings.Cut(rest, "#")
	end := strings.IndexAny(rest, "/?")
	if end < 0 {
		end = len(rest)
	}
	authority, path := rest[:end], rest[end:]
	if !strings.HasPrefix(path, "/") {
		path = "/" + path
	}
	if authority == "" || scheme != "http" && scheme != "https" {
		return target{}, false
	}
	return target{scheme, authority, path}, true
}

func escape(text string) string {
	var escaped strings.Builder
	for _, b := range []byte(text) {
		if 'a' <= b && b <= 'z' || 'A' <= b && b <= 'Z' || '0' <= b && b <= '9' || strings.IndexByte("-._~", b) >= 0 {
			escaped.WriteByte(b)
		} else {
			fmt.Fprintf(&escaped, "%%%02X", b)
		}
	}
	return escaped.String()
}
