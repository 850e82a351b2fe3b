package http

import (
	"errors"
	"strconv"
	"unicode/utf8"
	"unsafe"

	"wabbit/internal/host"
)

// How much is read at once.
const chunkBytes = 64 << 10

func send(r *Request) (*Response, error) {
	outgoing, err := newOutgoing(r)
	if err != nil {
		return nil, err
	}
	given, options := newOptions(r)
	var body uint32
	if len(r.Body) > 0 {
		if body, err = handleOf(outgoing, outgoingBody, "its body"); err != nil {
			return nil, err
		}
	}
	var coming uint32
	err = receive(40, 8, func(result unsafe.Pointer) { outgoingHandle(outgoing, given, options, result) },
		func(result host.Record) { coming = result.U32(0) })
	if err != nil {
		if len(r.Body) > 0 {
			dropOutgoingBody(body)
		}
		return nil, err
	}
	defer dropFuture(coming)
	if len(r.Body) > 0 {
		// A server that does not read on may have answered all the same.
		if write(body, r.Body) {
			_ = receive(40, 8, func(result unsafe.Pointer) { outgoingBodyFinish(body, 0, 0, result) }, ignore)
		} else {
			dropOutgoingBody(body)
		}
	}
	await(futureSubscribe(coming))
	response, err := comeBack(coming)
	if err != nil {
		return nil, err
	}
	defer dropIncomingResponse(response)
	return read(response)
}

func newOutgoing(r *Request) (uint32, error) {
	to, ok := parts(r.URL)
	if !ok || !utf8.ValidString(r.URL) {
		return 0, malformed("its URL")
	}
	fields := newFields()
	headers := r.Headers
	if _, ok := headers.Get("content-length"); len(r.Body) > 0 && !ok {
		headers = append(headers[:len(headers):len(headers)], Header{"content-length", strconv.Itoa(len(r.Body))})
	}
	for _, header := range headers {
		// Two bytes: whether it is an error, and which.
		result := host.NewRecord(2)
		if utf8.ValidString(header.Name) {
			fieldsAppend(fields, header.Name, header.Value, result.Pointer())
		} else {
			result[0] = 1
		}
		if result.Flag(0) {
			dropFields(fields)
			why := [...]string{"which is malformed", "which is the host's to set", "which cannot be set"}
			return 0, malformed("its header `" + header.Name + "`, " + why[min(int(result[1]), len(why)-1)])
		}
	}
	outgoing := newOutgoingRequest(fields)
	const some = 1
	method, name := methodOf(r.Method)
	var wrong string
	switch {
	case !utf8.ValidString(r.Method) || setMethod(outgoing, method, name) != 0:
		wrong = "its method"
	case setScheme(outgoing, some, schemeOf(to.scheme), "") != 0:
		wrong = "its scheme"
	case setAuthority(outgoing, some, to.authority) != 0:
		wrong = "its host"
	case setPathWithQuery(outgoing, some, to.path) != 0:
		wrong = "its path"
	default:
		return outgoing, nil
	}
	dropOutgoingRequest(outgoing)
	return 0, malformed(wrong)
}

// methodOf is the case of wasi:http's method; a name is that of the last one.
func methodOf(name string) (uint32, string) {
	known := [...]string{"GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH"}
	for i := range known {
		if known[i] == name {
			return uint32(i), ""
		}
	}
	return uint32(len(known)), name
}

func schemeOf(name string) uint32 {
	if name == "http" {
		return 0
	}
	return 1
}

func newOptions(r *Request) (given, options uint32) {
	if r.Timeout <= 0 {
		return 0, 0
	}
	options = newRequestOptions()
	const some = 1
	nanos := uint64(r.Timeout)
	setConnectTimeout(options, some, nanos)
	setFirstByteTimeout(options, some, nanos)
	setBetweenBytesTimeout(options, some, nanos)
	return 1, options
}

// handleOf is what a call gives that fails without a reason.
func handleOf(of uint32, call func(of uint32, result unsafe.Pointer), what string) (uint32, error) {
	result := host.NewRecord(8)
	call(of, result.Pointer())
	if result.Flag(0) {
		return 0, malformed(what)
	}
	return result.U32(4), nil
}

// write says whether all of it was taken.
func write(body uint32, rest []byte) bool {
	stream, err := handleOf(body, outgoingBodyWrite, "its body")
	if err != nil {
		return false
	}
	// The body cannot be finished while there is a stream of it.
	defer dropOutputStream(stream)
	ready := outputSubscribe(stream)
	defer dropPollable(ready)
	for len(rest) > 0 {
		pollableBlock(ready)
		result := host.NewRecord(16)
		checkWrite(stream, result.Pointer())
		if failed(result, 8) {
			return false
		}
		data, length := host.Data(rest[:min(result.U64(8), uint64(len(rest)))])
		result = host.NewRecord(12)
		outputWrite(stream, data, length, result.Pointer())
		if failed(result, 4) {
			return false
		}
		rest = rest[length:]
	}
	return true
}

// failed says whether a stream has failed, and lets go of the reason.
func failed(result host.Record, align int) bool {
	if !result.Flag(0) {
		return false
	}
	if result[align] == 0 {
		dropError(result.U32(align + 4))
	}
	return true
}

func await(pollable uint32) {
	pollableBlock(pollable)
	dropPollable(pollable)
}

// comeBack is the response, once it is there.
func comeBack(coming uint32) (response uint32, err error) {
	host.Receive(func() {
		// An option of a result of a result, each aligned for what an error-code may carry.
		result := host.NewRecord(56)
		futureGet(coming, result.Pointer())
		switch {
		case !result.Flag(0) || result.Flag(8):
			err = errors.New("there is no response")
		case result.Flag(16):
			err = codeError(result[24:])
		default:
			response = result.U32(24)
		}
	})
	return response, err
}

func read(response uint32) (*Response, error) {
	answer := &Response{Status: int(responseStatus(response) & 0xffff)}
	fields := responseHeaders(response)
	host.Receive(func() {
		result := host.NewRecord(8)
		fieldsEntries(fields, result.Pointer())
		for _, entry := range result.List(0, 16) {
			answer.Headers = append(answer.Headers, Header{entry.Text(0), entry.Text(8)})
		}
	})
	dropFields(fields)
	body, err := handleOf(response, responseConsume, "")
	if err != nil {
		return nil, errors.New("the response has no body")
	}
	defer dropIncomingBody(body)
	stream, err := handleOf(body, incomingBodyStream, "")
	if err != nil {
		return nil, errors.New("the response has no body")
	}
	defer dropInputStream(stream)
	for {
		part, err := readPart(stream)
		if err != nil || part == nil {
			return answer, err
		}
		answer.Body = append(answer.Body, part...)
	}
}

// readPart is what comes next; nil at the end.
func readPart(stream uint32) (part []byte, err error) {
	var reason uint32
	host.Receive(func() {
		result := host.NewRecord(12)
		blockingRead(stream, chunkBytes, result.Pointer())
		switch {
		case !result.Flag(0):
			part = result.Bytes(4)
		case result[4] == 0:
			reason = result.U32(8)
			err = errors.New("the response broke off")
		}
	})
	if err == nil {
		return part, nil
	}
	defer dropError(reason)
	host.Receive(func() {
		result := host.NewRecord(40)
		httpErrorCode(reason, result.Pointer())
		if result.Flag(0) {
			err = codeError(result[8:])
			return
		}
		result = host.NewRecord(8)
		toDebugString(reason, result.Pointer())
		err = errors.New(result.Text(0))
	})
	return nil, err
}

// receive makes a call that fails with an error-code, and gives its answer to read where it did not.
func receive(size, align int, call func(unsafe.Pointer), read func(host.Record)) (err error) {
	host.Receive(func() {
		result := host.NewRecord(size)
		call(result.Pointer())
		if result.Flag(0) {
			err = codeError(result[align:])
		} else {
			read(result[align:])
		}
	})
	return err
}

func ignore(host.Record) {}
