// The conformance handler: what it does is said by the header `do`. The host's tests run the same cases in every
// language.
package main

import (
	"errors"
	"fmt"
	"os"
	"time"
	"unicode/utf8"

	"wabbit"
	"wabbit/config"
	"wabbit/http"
	"wabbit/keyvalue"
)

func init() { wabbit.Handle(handle) }

func main() {}

var (
	kept [][]byte
	sink any
)

func handle(d *wabbit.Delivery) (wabbit.Outcome, error) {
	do, _ := d.Header("do").(string)
	switch do {
	case "echo":
		echo := wabbit.Publication{Exchange: d.Exchange, RoutingKey: d.RoutingKey, Body: d.Body, Properties: d.Properties}
		return wabbit.Ack().Publish(echo), nil
	case "describe":
		text := fmt.Sprintf("queue=%s exchange=%s key=%s redelivered=%t attempt=%d",
			d.Queue, d.Exchange, d.RoutingKey, d.Redelivered, d.Attempt)
		return wabbit.Ack().Publish(wabbit.NewPublication("", "described").Text(text)), nil
	case "many":
		count, _ := d.Header("count").(int64)
		many := make([]wabbit.Publication, count)
		for i := range many {
			many[i] = wabbit.NewPublication("", fmt.Sprintf("many.%d", i)).Text(fmt.Sprint(i))
		}
		return wabbit.Ack().Publish(many...), nil
	case "ack":
		return wabbit.Ack(), nil
	case "requeue":
		return wabbit.Requeue(), nil
	case "retry":
		if ms, ok := d.Header("ms").(int64); ok {
			return wabbit.RetryAfter(time.Duration(ms) * time.Millisecond), nil
		}
		return wabbit.Retry(), nil
	case "dead-letter":
		return wabbit.DeadLetter(string(d.Body)), nil
	case "error":
		return wabbit.Outcome{}, errors.New(string(d.Body))
	case "trap":
		panic("planted bug")
	case "loop":
		for {
		}
	case "memory":
		for {
			block := make([]byte, 1<<20)
			for i := 0; i < len(block); i += 4096 {
				block[i] = 1
			}
			kept = append(kept, block)
		}
	case "log":
		fmt.Println(string(d.Body))
		return wabbit.Ack(), nil
	case "json":
		text, err := d.Text()
		if err != nil {
			return wabbit.Outcome{}, err
		}
		type answer struct {
			Text   string `json:"text"`
			Length int    `json:"length"`
		}
		json := wabbit.NewPublication("", "json").JSON(answer{text, utf8.RuneCountInString(text)})
		return wabbit.Ack().Publish(json), nil
	case "context":
		text := fmt.Sprintf("worker=%s remaining=%t", wabbit.Worker(), wabbit.Remaining() > 0)
		return wabbit.Ack().Publish(wabbit.NewPublication("", "context").Text(text)), nil
	case "churn":
		for range 1000 {
			sink = new([100]byte)
		}
		return wabbit.Ack(), nil
	case "setting":
		return setting(d)
	case "count":
		return count(d)
	case "keep":
		return keep(d)
	case "fetch":
		return fetch(d)
	case "write":
		return write(d)
	default:
		return wabbit.DeadLetter("unknown: " + do), nil
	}
}

func header(d *wabbit.Delivery, name string) string {
	text, _ := d.Header(name).(string)
	return text
}

func setting(d *wabbit.Delivery) (wabbit.Outcome, error) {
	value, ok := config.Get(header(d, "name"))
	if !ok {
		value = "none"
	}
	return wabbit.Ack().Publish(wabbit.NewPublication("", "setting").Text(value)), nil
}

func count(d *wabbit.Delivery) (wabbit.Outcome, error) {
	store, err := keyvalue.Open("default")
	if err != nil {
		return wabbit.Outcome{}, err
	}
	key := header(d, "key")
	by, _ := d.Header("by").(int64)
	sum, err := store.Increment(key, uint64(by))
	if err != nil {
		return wabbit.Outcome{}, err
	}
	value, _, err := store.Text(key)
	if err != nil {
		return wabbit.Outcome{}, err
	}
	return wabbit.Ack().Publish(wabbit.NewPublication("", "count").Text(fmt.Sprintf("%d/%s", sum, value))), nil
}

func keep(d *wabbit.Delivery) (wabbit.Outcome, error) {
	store, err := keyvalue.Open("default")
	if err != nil {
		return wabbit.Outcome{}, err
	}
	key := header(d, "key")
	if err := store.Set(key, d.Body); err != nil {
		return wabbit.Outcome{}, err
	}
	value, _, err := store.Get(key)
	if err != nil {
		return wabbit.Outcome{}, err
	}
	if err := store.Delete(key); err != nil {
		return wabbit.Outcome{}, err
	}
	exists, err := store.Exists(key)
	if err != nil {
		return wabbit.Outcome{}, err
	}
	if exists {
		return wabbit.DeadLetter("still there"), nil
	}
	return wabbit.Ack().Publish(wabbit.NewPublication("", "kept").Bytes(value)), nil
}

func fetch(d *wabbit.Delivery) (wabbit.Outcome, error) {
	request := http.NewRequest(header(d, "method"), header(d, "url")).Header("x-test", "wabbit").Bytes(d.Body)
	response, err := request.Send()
	if err != nil {
		return wabbit.DeadLetter(err.Error()), nil
	}
	text := fmt.Appendf(nil, "%d %s %s", response.Status, response.Header("x-answer"), response.Body)
	return wabbit.Ack().Publish(wabbit.NewPublication("", "fetched").Bytes(text)), nil
}

func write(d *wabbit.Delivery) (wabbit.Outcome, error) {
	path := header(d, "path")
	if err := os.WriteFile(path, d.Body, 0o644); err != nil {
		return wabbit.DeadLetter(err.Error()), nil
	}
	written, err := os.ReadFile(path)
	if err != nil {
		return wabbit.DeadLetter(err.Error()), nil
	}
	return wabbit.Ack().Publish(wabbit.NewPublication("", "written").Bytes(written)), nil
}
