//go:build !wasip1

package keyvalue

import (
	"bytes"
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
)

type bucket map[string][]byte

func open(name string) (*Store, error) {
	mutex.Lock()
	defer mutex.Unlock()
	values, ok := provided[name]
	if !ok {
		return nil, ErrNoSuchStore
	}
	return &Store{values}, nil
}

func (b bucket) get(key string) ([]byte, bool, error) {
	mutex.Lock()
	defer mutex.Unlock()
	value, ok := b[key]
	return bytes.Clone(value), ok, nil
}

func (b bucket) set(key string, value []byte) error {
	mutex.Lock()
	defer mutex.Unlock()
	b[key] = append([]byte{}, value...)
	return nil
}

func (b bucket) delete(key string) error {
	mutex.Lock()
	defer mutex.Unlock()
	delete(b, key)
	return nil
}

func (b bucket) exists(key string) (bool, error) {
	_, ok, err := b.get(key)
	return ok, err
}

func (b bucket) increment(key string, by uint64) (uint64, error) {
	mutex.Lock()
	defer mutex.Unlock()
	var old uint64
	if value, ok := b[key]; ok {
		var err error
		if old, err = strconv.ParseUint(string(value), 10, 64); err != nil {
			return 0, fmt.Errorf("the value of `%s` is not a whole number", key)
		}
	}
	if old > math.MaxUint64-by {
		return 0, fmt.Errorf("`%s` would be too large", key)
	}
	b[key] = strconv.AppendUint(nil, old+by, 10)
	return old + by, nil
}

func (b bucket) list(*uint64) ([]string, *uint64, error) {
	mutex.Lock()
	defer mutex.Unlock()
	return slices.Sorted(maps.Keys(b)), nil, nil
}
