// Greets whomever a message names.
package main

import (
	"fmt"

	"wabbit"
)

func init() { wabbit.Handle(handle) }

// A plugin's main is never run.
func main() {}

func handle(d *wabbit.Delivery) (wabbit.Outcome, error) {
	name, err := d.Text()
	if err != nil {
		return wabbit.Outcome{}, err
	}
	if name == "" {
		return wabbit.DeadLetter("there is nobody to greet"), nil
	}
	fmt.Println("greeting", name)
	greeting := wabbit.NewPublication("", "greetings").Text("Hello, " + name + "!")
	return wabbit.Ack().Publish(greeting), nil
}
