// Package config is what the manifest tells a handler: `[grant] config` and `[grant] secrets`.
//
//	from, err := config.Require("from")
//	if err != nil {
//		return wabbit.Outcome{}, err
//	}
//	token, err := config.Secret("token")
//	if err != nil {
//		return wabbit.Outcome{}, err
//	}
//	fmt.Println("sending as", from, "with the token", token) // prints ***
//	return send(from, token.Expose())
//
// In tests, [Provide] says what is there.
package config

import (
	"fmt"
	"maps"
)

// Get is the value of that name in the manifest's config or secrets. It is false where it is in neither.
func Get(name string) (string, bool) { return get(name) }

// Require is the same, and an error where there is none.
func Require(name string) (string, error) {
	value, ok := get(name)
	if !ok {
		return "", fmt.Errorf("the manifest grants no value `%s`", name)
	}
	return value, nil
}

// Secret is the same of a secret, which is not printed by accident.
func Secret(name string) (Sealed, error) {
	value, err := Require(name)
	return Sealed{&value}, err
}

// All is every name of config with its value. Secrets are left out.
func All() map[string]string { return all() }

// Sealed is a value that shows itself as ***, also where it is a part of what is printed.
type Sealed struct {
	// A pointer, since fmt prints the unexported fields of other structs by their values.
	value *string
}

// Expose is the value itself.
func (s Sealed) Expose() string {
	if s.value == nil {
		return ""
	}
	return *s.value
}

// String is what is printed in its place.
func (Sealed) String() string { return "***" }

// GoString is the same.
func (Sealed) GoString() string { return "***" }

// MarshalText is the same, in JSON and the like.
func (Sealed) MarshalText() ([]byte, error) { return []byte("***"), nil }

var provided map[string]string

// Provide says what [Get] gives for the rest of a test, beside what was provided before. Tests that run in parallel
// share it. In a plugin it does nothing.
//
//	config.Provide(t, map[string]string{"from": "shop@example.com"})
func Provide(t interface{ Cleanup(func()) }, values map[string]string) {
	before := provided
	provided = maps.Clone(before)
	if provided == nil {
		provided = map[string]string{}
	}
	maps.Copy(provided, values)
	t.Cleanup(func() { provided = before })
}
