//go:build !wasip1

package wabbit

import "time"

// Worker is the worker's name, which is its manifest's. Outside of a host, as in tests, it is "test".
func Worker() string { return "test" }

// Remaining is how long it is until the time limit. Outside of a host, as in tests, it is 5 seconds.
func Remaining() time.Duration { return 5 * time.Second }
