package keyvalue

import (
	"errors"
	"unsafe"

	"wabbit/internal/host"
)

//go:wasmimport wasi:keyvalue/store@0.2.0-draft open
func hostOpen(name string, result unsafe.Pointer)

//go:wasmimport wasi:keyvalue/store@0.2.0-draft [method]bucket.get
func hostGet(bucket bucket, key string, result unsafe.Pointer)

//go:wasmimport wasi:keyvalue/store@0.2.0-draft [method]bucket.set
func hostSet(bucket bucket, key string, value unsafe.Pointer, length uint32, result unsafe.Pointer)

//go:wasmimport wasi:keyvalue/store@0.2.0-draft [method]bucket.delete
func hostDelete(bucket bucket, key string, result unsafe.Pointer)

//go:wasmimport wasi:keyvalue/store@0.2.0-draft [method]bucket.exists
func hostExists(bucket bucket, key string, result unsafe.Pointer)

//go:wasmimport wasi:keyvalue/store@0.2.0-draft [method]bucket.list-keys
func hostListKeys(bucket bucket, more uint32, cursor uint64, result unsafe.Pointer)

//go:wasmimport wasi:keyvalue/atomics@0.2.0-draft increment
func hostIncrement(bucket bucket, key string, by uint64, result unsafe.Pointer)

// The host's number of an open store.
type bucket uint32

// What is open stays so: a handler that opens a store again and again has it once.
var opened = map[string]*Store{}

// The cases of the contract's error.
const (
	noSuchStore = iota
	accessDenied
)

// receive makes a call, and gives its answer to read where it is no error. What there is has that alignment, and so
// comes so far behind the byte that says which of the two it is.
func receive(size, align int, call func(unsafe.Pointer), read func(result host.Record)) (err error) {
	host.Receive(func() {
		result := host.NewRecord(size)
		call(result.Pointer())
		if result[0] == 0 {
			read(result[align:])
			return
		}
		switch result[align] {
		case noSuchStore:
			err = ErrNoSuchStore
		case accessDenied:
			err = errors.New("the store is not for this handler")
		default:
			err = errors.New(result[align:].Text(4))
		}
	})
	return err
}

func nothing(host.Record) {}

func open(name string) (*Store, error) {
	if store := opened[name]; store != nil {
		return store, nil
	}
	store := new(Store)
	err := receive(16, 4, func(result unsafe.Pointer) { hostOpen(name, result) },
		func(result host.Record) { store.bucket = bucket(result.U32(0)) })
	if err != nil {
		return nil, err
	}
	opened[name] = store
	return store, nil
}

func (b bucket) get(key string) (value []byte, ok bool, err error) {
	err = receive(16, 4, func(result unsafe.Pointer) { hostGet(b, key, result) }, func(result host.Record) {
		if ok = result[0] != 0; ok {
			value = result.Bytes(4)
		}
	})
	return value, ok, err
}

func (b bucket) set(key string, value []byte) error {
	data, length := host.Data(value)
	return receive(16, 4, func(result unsafe.Pointer) { hostSet(b, key, data, length, result) }, nothing)
}

func (b bucket) delete(key string) error {
	return receive(16, 4, func(result unsafe.Pointer) { hostDelete(b, key, result) }, nothing)
}

func (b bucket) exists(key string) (exists bool, err error) {
	err = receive(16, 4, func(result unsafe.Pointer) { hostExists(b, key, result) },
		func(result host.Record) { exists = result[0] != 0 })
	return exists, err
}

func (b bucket) increment(key string, by uint64) (sum uint64, err error) {
	err = receive(24, 8, func(result unsafe.Pointer) { hostIncrement(b, key, by, result) },
		func(result host.Record) { sum = result.U64(0) })
	return sum, err
}

func (b bucket) list(cursor *uint64) (keys []string, next *uint64, err error) {
	var more uint32
	var from uint64
	if cursor != nil {
		more, from = 1, *cursor
	}
	err = receive(32, 8, func(result unsafe.Pointer) { hostListKeys(b, more, from, result) }, func(result host.Record) {
		for _, key := range result.List(0, 8) {
			keys = append(keys, key.Text(0))
		}
		if result[8] != 0 {
			next = new(result.U64(16))
		}
	})
	return keys, next, err
}
