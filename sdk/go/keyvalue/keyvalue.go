// Package keyvalue is what outlives a delivery: the store of `[grant] keyvalue`.
//
//	orders, err := keyvalue.Open("orders")
//	if err != nil {
//		return wabbit.Outcome{}, err
//	}
//	seen, err := orders.Increment(d.RoutingKey, 1)
//	if err != nil {
//		return wabbit.Outcome{}, err
//	}
//	fmt.Println(seen, "orders for", d.RoutingKey)
//
// What is written takes effect at once, not with the settlement: a delivery that is tried again writes again.
//
// In tests, [Provide] says which stores there are.
package keyvalue

import (
	"errors"
	"fmt"
	"sync"
	"unicode/utf8"
)

// ErrNoSuchStore is an error of [Open]: the manifest grants no store of that name.
var ErrNoSuchStore = errors.New("the manifest grants no such store")

// Store is a store that is open.
type Store struct{ bucket bucket }

// Open is the store of that name, which the manifest grants. It goes by "default", too.
func Open(name string) (*Store, error) {
	if err := valid(name); err != nil {
		return nil, err
	}
	return open(name)
}

// Get is the value of a key. It is false where the key is not there.
func (s *Store) Get(key string) (value []byte, ok bool, err error) {
	if err := valid(key); err != nil {
		return nil, false, err
	}
	return s.bucket.get(key)
}

// Text is the value of a key as text. It is false where the key is not there.
func (s *Store) Text(key string) (text string, ok bool, err error) {
	value, ok, err := s.Get(key)
	if err == nil && !utf8.Valid(value) {
		return "", false, fmt.Errorf("the value of `%s` is not UTF-8", key)
	}
	return string(value), ok, err
}

// Set gives a key a value.
func (s *Store) Set(key string, value []byte) error {
	if err := valid(key); err != nil {
		return err
	}
	return s.bucket.set(key, value)
}

// SetText gives a key a text as its value.
func (s *Store) SetText(key, text string) error { return s.Set(key, []byte(text)) }

// Delete takes a key away, if it is there.
func (s *Store) Delete(key string) error {
	if err := valid(key); err != nil {
		return err
	}
	return s.bucket.delete(key)
}

// Exists says whether a key is there.
func (s *Store) Exists(key string) (bool, error) {
	if err := valid(key); err != nil {
		return false, err
	}
	return s.bucket.exists(key)
}

// Increment adds to a number, which is 0 where the key is not there, and returns the sum. Nobody comes in between. In
// Get and Set the number is written in decimal digits.
func (s *Store) Increment(key string, by uint64) (uint64, error) {
	if err := valid(key); err != nil {
		return 0, err
	}
	return s.bucket.increment(key, by)
}

// Keys is all keys, in their order.
func (s *Store) Keys() ([]string, error) {
	var keys []string
	var cursor *uint64
	for {
		more, next, err := s.bucket.list(cursor)
		if err != nil {
			return nil, err
		}
		keys = append(keys, more...)
		if next == nil {
			return keys, nil
		}
		cursor = next
	}
}

// The contract's texts are UTF-8; Go's may hold anything.
func valid(text string) error {
	if !utf8.ValidString(text) {
		return fmt.Errorf("%q is not UTF-8", text)
	}
	return nil
}

var (
	mutex    sync.Mutex
	provided = map[string]map[string][]byte{}
)

// Provide makes an empty store of that name for the rest of a test. Tests that run in parallel share it. In a plugin it
// does nothing.
//
//	keyvalue.Provide(t, "orders")
func Provide(t interface{ Cleanup(func()) }, name string) {
	mutex.Lock()
	defer mutex.Unlock()
	before, was := provided[name]
	provided[name] = map[string][]byte{}
	t.Cleanup(func() {
		mutex.Lock()
		defer mutex.Unlock()
		if was {
			provided[name] = before
		} else {
			delete(provided, name)
		}
	})
}
