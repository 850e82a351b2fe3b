package config

import (
	"encoding/json"
	"fmt"
	"reflect"
	"strings"
	"testing"
)

func TestAMapStandsInForTheManifest(t *testing.T) {
	if _, ok := Get("from"); ok || len(All()) != 0 {
		t.Error("a value that nobody provides")
	}
	t.Run("provided", func(t *testing.T) {
		Provide(t, map[string]string{"from": "shop@example.com"})
		Provide(t, map[string]string{"to": ""})
		from, err := Require("from")
		if to, ok := Get("to"); from != "shop@example.com" || err != nil || to != "" || !ok {
			t.Error(from, err, to, ok)
		}
		if all := All(); !reflect.DeepEqual(all, map[string]string{"from": "shop@example.com", "to": ""}) {
			t.Error(all)
		}
	})
	_, err := Require("from")
	if fmt.Sprint(err) != "the manifest grants no value `from`" {
		t.Error(err)
	}
}

func TestASecretDoesNotShowItself(t *testing.T) {
	Provide(t, map[string]string{"token": "hunter2"})
	token, err := Secret("token")
	if err != nil || token.Expose() != "hunter2" {
		t.Error(token, err)
	}
	if _, err := Secret("other"); err == nil {
		t.Error("a secret that nobody provides")
	}
	type sender struct{ token Sealed }
	inner := sender{token}
	encoded, _ := json.Marshal(map[string]any{"token": token})
	for _, shown := range []string{
		fmt.Sprint(token), fmt.Sprintf("%q %v %+v %#v", token, token, token, token), string(encoded),
		fmt.Sprintf("%v %+v %#v", inner, inner, inner),
	} {
		if strings.Contains(shown, "hunter2") {
			t.Error(shown)
		}
	}
	if (Sealed{}).Expose() != "" {
		t.Error("no secret has a value")
	}
}
