package config

import (
	"unicode/utf8"
	"unsafe"

	"wabbit/internal/host"
)

//go:wasmimport wasi:config/store@0.2.0-rc.1 get
func hostGet(name string, result unsafe.Pointer)

//go:wasmimport wasi:config/store@0.2.0-rc.1 get-all
func hostGetAll(result unsafe.Pointer)

// The values are there before a handler begins, so that reading them cannot fail: what the first byte of an answer is
// set for never comes.

func get(name string) (value string, ok bool) {
	if !utf8.ValidString(name) {
		return "", false
	}
	host.Receive(func() {
		result := host.NewRecord(16)
		hostGet(name, result.Pointer())
		if result[0] == 0 {
			value, ok = result.OptionalText(4)
		}
	})
	return value, ok
}

func all() map[string]string {
	values := map[string]string{}
	host.Receive(func() {
		result := host.NewRecord(16)
		hostGetAll(result.Pointer())
		if result[0] != 0 {
			return
		}
		for _, pair := range result.List(4, 16) {
			values[pair.Text(0)] = pair.Text(8)
		}
	})
	return values
}
