package keyvalue

import (
	"errors"
	"fmt"
	"math"
	"reflect"
	"testing"
)

func TestAMapStandsInForTheStore(t *testing.T) {
	if _, err := Open("counts"); !errors.Is(err, ErrNoSuchStore) {
		t.Error(err)
	}
	Provide(t, "counts")
	counts, err := Open("counts")
	if err != nil {
		t.Fatal(err)
	}
	increment := func(key string, by uint64, expected uint64, failure string) {
		t.Helper()
		if sum, err := counts.Increment(key, by); sum != expected || fmt.Sprint(err) != failure {
			t.Errorf("%s + %d is %d, %v", key, by, sum, err)
		}
	}
	text := func(store *Store, key, expected string, there bool, failure string) {
		t.Helper()
		if text, ok, err := store.Text(key); text != expected || ok != there || fmt.Sprint(err) != failure {
			t.Errorf("%s is %s, %v, %v", key, text, ok, err)
		}
	}
	increment("a", 2, 2, "<nil>")
	increment("a", 3, 5, "<nil>")
	increment("a", math.MaxUint64, 0, "`a` would be too large")
	for key, value := range map[string][]byte{"b": []byte("text"), "c": nil, "d": {255}} {
		if err := counts.Set(key, value); err != nil {
			t.Error(err)
		}
	}
	increment("b", 1, 0, "the value of `b` is not a whole number")
	again, _ := Open("counts")
	text(again, "a", "5", true, "<nil>")
	text(again, "b", "text", true, "<nil>")
	text(again, "c", "", true, "<nil>")
	text(again, "d", "", false, "the value of `d` is not UTF-8")
	text(again, "e", "", false, "<nil>")
	text(again, "\xff", "", false, `"\xff" is not UTF-8`)
	err = errors.Join(counts.Delete("b"), counts.Delete("b"), counts.SetText("e", "ä"))
	there, _ := counts.Exists("b")
	keys, _ := counts.Keys()
	if err != nil || there || !reflect.DeepEqual(keys, []string{"a", "c", "d", "e"}) {
		t.Error(err, there, keys)
	}
}

func TestAStoreIsThereForOneTest(t *testing.T) {
	t.Run("one", func(t *testing.T) { Provide(t, "orders") })
	if _, err := Open("orders"); err == nil {
		t.Error("the store is still there")
	}
}
