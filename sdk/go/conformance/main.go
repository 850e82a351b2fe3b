// The conformance handler: what it does is said by the header `do`. The host's tests run the same cases in every
// language.
package main

import (
	"errors"
	"fmt"
	"time"
	"unicode/utf8"

	"wabbit"
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
	default:
		return wabbit.DeadLetter("unknown: " + do), nil
	}
}
