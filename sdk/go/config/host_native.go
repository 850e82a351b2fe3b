//go:build !wasip1

package config

import "maps"

func get(name string) (string, bool) {
	value, ok := provided[name]
	return value, ok
}

func all() map[string]string {
	values := maps.Clone(provided)
	if values == nil {
		values = map[string]string{}
	}
	return values
}
