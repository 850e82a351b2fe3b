package http

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"os"
	"reflect"
	"strings"
	"testing"
	"time"

	"wabbit/internal/host"
)

func TestURLsHaveParts(t *testing.T) {
	check := func(url string, expected target) {
		t.Helper()
		if got, ok := parts(url); got != expected || ok != (expected != target{}) {
			t.Errorf("%s has %v, %v", url, got, ok)
		}
	}
	check("https://a.example/b?c#d", target{"https", "a.example", "/b?c"})
	check("HTTP://a.example:80", target{"http", "a.example:80", "/"})
	check("http://[::1]:80?a=/", target{"http", "[::1]:80", "/?a=/"})
	check("https://a.example#/b", target{"https", "a.example", "/"})
	check("a.example/b", target{})
	check("https:///b", target{})
	check("https://?b", target{})
	check("ftp://a.example/", target{})
	check("", target{})
}

func TestQueriesAreEscaped(t *testing.T) {
	request := NewRequest("GET", "https://a.example/b").Query("q", "a b&c=ü").Query("n-", "1")
	if request.URL != "https://a.example/b?q=a%20b%26c%3D%C3%BC&n-=1" {
		t.Error(request.URL)
	}
}

func TestRequestsShareNothing(t *testing.T) {
	one := NewRequest("POST", "https://a.example/").Header("a", "1").Within(time.Second)
	two, three := one.Text("ä"), one.Bearer("t")
	if expected := (Headers{{"a", "1"}}); !reflect.DeepEqual(one.Headers, expected) {
		t.Error(one.Headers)
	}
	expected := Headers{{"a", "1"}, {"content-type", "text/plain; charset=utf-8"}}
	if !reflect.DeepEqual(two.Headers, expected) {
		t.Error(two.Headers)
	}
	if expected := (Headers{{"a", "1"}, {"authorization", "Bearer t"}}); !reflect.DeepEqual(three.Headers, expected) {
		t.Error(three.Headers)
	}
}

func TestATestAnswers(t *testing.T) {
	_, err := Get("https://a.example/")
	if !errors.Is(err, ErrConnection) || !strings.Contains(err.Error(), "http.Answer") {
		t.Error(err)
	}
	Answer(t, func(r Request) (*Response, error) {
		if r.Method != "POST" || r.URL != "https://a.example/secret" || string(r.Body) != "[1]" {
			t.Error(r)
		}
		body, _ := json.Marshal(map[string]any{"type": r.Headers})
		return &Response{Status: 201, Headers: Headers{{"x-seen", "yes"}}, Body: body}, nil
	})
	response, err := NewRequest("POST", "https://a.example/secret").JSON([]int{1}).Send()
	if err != nil {
		t.Fatal(err)
	}
	var got struct{ Type Headers }
	expected := Headers{{"content-type", "application/json"}}
	if err := response.JSON(&got); err != nil || !reflect.DeepEqual(got.Type, expected) {
		t.Error(got, err)
	}
	seen, other := response.Header("X-Seen"), response.Header("other")
	if response.Status != 201 || seen != "yes" || other != "" || response.Err() != nil {
		t.Error(response)
	}
	Answer(t, func(Request) (*Response, error) { return nil, ErrTimeout })
	_, err = Get("https://a.example/secret")
	if !errors.Is(err, ErrTimeout) || err.Error() != "GET https://a.example: timeout" {
		t.Error(err)
	}
}

func TestWhatWentWrongIsTold(t *testing.T) {
	response := &Response{Status: 503, Body: []byte(" try later ")}
	err := response.Err()
	status, ok := errors.AsType[*StatusError](err)
	if !ok || status.Status != 503 || fmt.Sprint(err) != "the server answered 503: try later" {
		t.Error(err)
	}
	if err := (&Response{Status: 302}).Err(); fmt.Sprint(err) != "the server answered 302" {
		t.Error(err)
	}
	if err := response.JSON(new(int)); !strings.Contains(fmt.Sprint(err), "the response is not the JSON expected: ") {
		t.Error(err)
	}
	if _, err := (&Response{Body: []byte{255}}).Text(); fmt.Sprint(err) != "the response is not UTF-8" {
		t.Error(err)
	}
	request := NewRequest("GET", "a.example")
	for text, request := range map[string]Request{
		"GET a URL that is none: the request cannot be sent for its URL":               request,
		"the request cannot be sent for its body: json: unsupported type: chan string": request.JSON(make(chan string)),
	} {
		if _, err := request.Send(); !errors.Is(err, ErrRequest) || err.Error() != text {
			t.Error(err)
		}
	}
}

// The table of errors, against wasi:http itself.
func TestErrorCodes(t *testing.T) {
	wit, err := os.ReadFile("../../wit/deps/http.wit")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(wit), "variant error-code {")
	cases, _, _ := strings.Cut(rest, "}")
	names := strings.Split(strings.Trim(strings.TrimSpace(cases), ","), ",")
	if len(names) != len(codes) {
		t.Fatalf("%d codes, not %d", len(codes), len(names))
	}
	carried := map[string]carries{
		"option<string>": optionalText, "DNS-error-payload": optionalText, "TLS-alert-received-payload": textOfAlert,
		"option<u32>": optionalU32, "option<u64>": optionalU64,
	}
	for i, name := range names {
		name, payload, _ := strings.Cut(strings.TrimSuffix(strings.TrimSpace(name), ")"), "(")
		words := strings.ReplaceAll(name, "-", " ")
		switch name {
		case "destination-IP-prohibited":
			words = "its address is of a network that the manifest's `[grant] http` does not name"
		case "HTTP-request-denied":
			words = "not granted by the manifest's `[grant] http`"
		}
		if codes[i].words != words || codes[i].carries != carried[payload] {
			t.Errorf("%d is %v, not %s of %s", i, codes[i], words, payload)
		}
	}
}

func TestErrorsOfCodes(t *testing.T) {
	check := func(expected string, is error, bytes ...byte) {
		t.Helper()
		record := host.NewRecord(32)
		copy(record, bytes)
		err := codeError(record)
		if err.Error() != expected || is != nil && !errors.Is(err, is) {
			t.Error(err)
		}
	}
	check("DNS error", ErrConnection, 1)
	check("connection read timeout", ErrTimeout, 9)
	check("HTTP response body size", ErrTooLarge, 28)
	check("HTTP response body size: 256", ErrTooLarge, 28, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 1)
	check("HTTP request header section size: 7", ErrTooLarge, 21, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 7)
	check("loop detected", nil, 36)
	check("an error that is not known: 255", nil, math.MaxUint8)
}
