package http

import (
	"errors"
	"strconv"

	"wabbit/internal/host"
)

// The cases of wasi:http's error-code, in their order, in words; what they carry; and which error they are.
var codes = [...]struct {
	words string
	kind
	carries
}{
	{"DNS timeout", timeout, nothing},
	{"DNS error", connection, optionalText},
	{"destination not found", connection, nothing},
	{"destination unavailable", connection, nothing},
	{"its address is of a network that the manifest's `[grant] http` does not name", notGranted, nothing},
	{"destination IP unroutable", connection, nothing},
	{"connection refused", connection, nothing},
	{"connection terminated", connection, nothing},
	{"connection timeout", timeout, nothing},
	{"connection read timeout", timeout, nothing},
	{"connection write timeout", timeout, nothing},
	{"connection limit reached", connection, nothing},
	{"TLS protocol error", connection, nothing},
	{"TLS certificate error", connection, nothing},
	{"TLS alert received", connection, textOfAlert},
	{"not granted by the manifest's `[grant] http`", notGranted, nothing},
	{"HTTP request length required", request, nothing},
	{"HTTP request body size", tooLarge, optionalU64},
	{"HTTP request method invalid", request, nothing},
	{"HTTP request URI invalid", request, nothing},
	{"HTTP request URI too long", request, nothing},
	{"HTTP request header section size", tooLarge, optionalU32},
	{"HTTP request header size", tooLarge, nothing},
	{"HTTP request trailer section size", tooLarge, optionalU32},
	{"HTTP request trailer size", tooLarge, nothing},
	{"HTTP response incomplete", connection, nothing},
	{"HTTP response header section size", tooLarge, optionalU32},
	{"HTTP response header size", tooLarge, nothing},
	{"HTTP response body size", tooLarge, optionalU64},
	{"HTTP response trailer section size", tooLarge, optionalU32},
	{"HTTP response trailer size", tooLarge, nothing},
	{"HTTP response transfer coding", other, optionalText},
	{"HTTP response content coding", other, optionalText},
	{"HTTP response timeout", timeout, nothing},
	{"HTTP upgrade failed", other, nothing},
	{"HTTP protocol error", other, nothing},
	{"loop detected", other, nothing},
	{"configuration error", other, nothing},
	{"internal error", other, optionalText},
}

// kind is an error of this package, in a table that need not be made when a plugin starts.
type kind int

const (
	other kind = iota
	notGranted
	request
	connection
	timeout
	tooLarge
)

func (k kind) error() error {
	return [...]error{nil, ErrNotGranted, ErrRequest, ErrConnection, ErrTimeout, ErrTooLarge}[k]
}

// What an error-code carries, as far as it goes into the text.
type carries int

const (
	nothing carries = iota
	optionalText
	optionalU32
	optionalU64
	textOfAlert
)

// codeError is the error of the error-code in that record.
func codeError(r host.Record) error {
	if int(r[0]) >= len(codes) {
		return errors.New("an error that is not known: " + strconv.Itoa(int(r[0])))
	}
	code := codes[r[0]]
	text := code.words
	// What is carried stands behind the case, aligned for the widest one.
	const at = 8
	switch code.carries {
	case optionalText, textOfAlert:
		from := at
		if code.carries == textOfAlert {
			from += 4
		}
		if more, ok := r.OptionalText(from); ok {
			text += ": " + more
		}
	case optionalU32:
		if r.Flag(at) {
			text += ": " + strconv.FormatUint(uint64(r.U32(at+4)), 10)
		}
	case optionalU64:
		if r.Flag(at) {
			text += ": " + strconv.FormatUint(r.U64(at+8), 10)
		}
	}
	return &failure{code.kind.error(), text}
}
